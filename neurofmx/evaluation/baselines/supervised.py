"""Networks that are taught the answers: squared error of numbers, cross-entropy of labels."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor, nn

from neurofmx.evaluation.baselines import networks
from neurofmx.evaluation.baselines.base import NetworkParams
from neurofmx.evaluation.baselines.sequences import Sequences


class Supervised:
    """A network with a loss at the queries of `splits` and nowhere else.

    Args:
        network: Takes chunks of inputs and which of their bins there are.
        show: What it is shown of chunks of bins; by default the standardised inputs.
        best: Where in a chunk its answers are best, as a share: 0.5 for one that sees both ways.
    """

    def __init__(
        self,
        data: Sequences,
        params: NetworkParams,
        splits: tuple[str, ...],
        network: nn.Module,
        lr: float,
        best: float = 0.5,
        show: Callable[[Int[Tensor, "batch time"]], dict[str, Tensor]] | None = None,
    ):
        self.network, self.lr, self.data, self.params, self.best = network, lr, data, params, best
        self.show = show or Shown(data)
        self.targets = _Classes(data, splits) if data.n_classes else _Numbers(data, splits)

    def loss(self, bins: Int[Tensor, "batch time"]) -> Float[Tensor, ""]:
        """Mean over the queries that the chunks hold."""
        return self.targets.loss(self.network(**self.show(bins)), bins)

    def answers(self, split: str) -> Float[ndarray, "query output"]:
        """Coded values, or the probability of each class."""
        self.network.eval()

        def forward(bins: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time output"]:
            return self.network(**self.show(bins))

        said = networks.outputs(self.data, split, self.params, forward, self.best)
        return self.targets.answers(said, split)


class Shown:
    """The standardised inputs of chunks of bins."""

    def __init__(self, data: Sequences):
        x = data.standardised()
        blank = np.zeros((1, x.shape[1]), np.float32)  # bin −1
        self.x = torch.as_tensor(np.concatenate([x, blank]), device=torch.get_default_device())

    def __call__(self, bins: Int[Tensor, "batch time"]) -> dict[str, Tensor]:
        """Inputs, and which bins there are."""
        return {"x": self.x[bins], "seen": bins >= 0}


class _Numbers:
    def __init__(self, data: Sequences, splits: tuple[str, ...]):
        train = data.asked["train"].truth
        self.data, self.mean, self.scale = data, train.mean(axis=0), train.std(axis=0)
        self.scale = np.where(self.scale > 0, self.scale, 1.0)
        y = np.zeros((data.n + 1, data.slots, train.shape[1]), np.float32)
        asked = np.zeros((data.n + 1, data.slots), bool)
        for split in splits:
            bins, slot = data.asked[split].at.T
            y[bins, slot] = (data.asked[split].truth - self.mean) / self.scale
            asked[bins, slot] = True
        device = torch.get_default_device()
        self.y, self.asked = (
            torch.as_tensor(y, device=device),
            torch.as_tensor(asked, device=device),
        )

    def loss(
        self, said: Float[Tensor, "batch time output"], bins: Int[Tensor, "batch time"]
    ) -> Float[Tensor, ""]:
        """Mean squared error of what is asked."""
        asked = self.asked[bins]  # bin −1 asks nothing
        said = rearrange(said, "b t (s d) -> b t s d", s=self.data.slots)
        error = (said - self.y[bins])[asked].square()
        return error.sum() / max(error.numel(), 1)

    def answers(
        self, said: Float[ndarray, "bin output"], split: str
    ) -> Float[ndarray, "query coded"]:
        """Of each query its place among its bin's answers, in the values' own unit."""
        bins, slot = self.data.asked[split].at.T
        answers = said.reshape(len(said), self.data.slots, -1)[bins, slot]
        return answers * self.scale + self.mean


class _Classes:
    def __init__(self, data: Sequences, splits: tuple[str, ...]):
        self.data = data
        label = np.zeros(data.n, int)
        for split in splits:
            asked = data.asked[split]
            label[asked.runs[:, 0]] = asked.truth[:, 0]
        self.label = torch.as_tensor(label, device=torch.get_default_device())

    def loss(
        self, said: Float[Tensor, "batch time class"], bins: Int[Tensor, "batch time"]
    ) -> Float[Tensor, ""]:
        """Cross-entropy of the mean over a window's frames."""
        return F.cross_entropy(_mean(said, bins >= 0), self.label[bins[:, 0]])

    def answers(self, said: Float[ndarray, "bin class"], split: str) -> Float[ndarray, "query c"]:
        """Probability of each class, from the mean over a window's frames."""
        logits = self.data.read(said, split)
        return torch.as_tensor(logits).double().softmax(dim=-1).numpy()


def _mean(
    said: Float[Tensor, "batch time class"], seen: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch class"]:
    weight = seen[..., None].float()
    return (said * weight).sum(dim=1) / weight.sum(dim=1)
