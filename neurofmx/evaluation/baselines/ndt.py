"""The Neural Data Transformer: counts that were hidden are told from those around them.

An encoder reads counts of which a share is hidden: each bin of each unit by itself, most of them
set to 0 and some to a count of another bin. It gives log rates and is scored where it was hidden:

    L = mean over hidden bins of (exp(r) − c r)        the Poisson likelihood but for ln c!

A bin sees those within `CONTEXT` of it. The rates of counts that are all shown are read by ridge.

Source: Ye & Pandarinath 2021, arXiv:2108.01210; ridge as its decoder, Pei et al. 2021,
arXiv:2109.04463.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor, nn

from neurofmx.evaluation.baselines import networks
from neurofmx.evaluation.baselines.attention import Encoder
from neurofmx.evaluation.baselines.base import BaselineParams, Prediction, Problem
from neurofmx.evaluation.baselines.reading import read
from neurofmx.evaluation.baselines.sequences import Sequences, sequences

HIDDEN = 0.25  # share of the counts
SWAPPED = 0.2  # of those, that show another bin's count
CONTEXT = 20  # bins either way
SILENT = 1e-3  # counts in a bin that a unit without any begins at


def readout(features: int, mean: Float[ndarray, " unit"]) -> nn.Linear:
    """Log rates from features, which begin near those of `mean` counts in a bin."""
    line = nn.Linear(features, len(mean))
    with torch.no_grad():
        line.bias.copy_(torch.as_tensor(np.log(mean + SILENT)))
    return line


class NDT(nn.Module):
    """An encoder of counts and a readout of log rates.

    Args:
        mean: Counts in a bin, which the rates begin at.
        length: Bins of a chunk at most.
    """

    def __init__(self, mean: Float[ndarray, " unit"], width: int, dropout: float, length: int):
        super().__init__()
        self.encoder = Encoder(len(mean), width, dropout, length, CONTEXT, CONTEXT)
        self.readout = readout(width, mean)

    def forward(
        self, counts: Float[Tensor, "batch time unit"], bins: Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time unit"]:
        """Log of the expected count of each bin."""
        return self.readout(self.encoder(counts, bins >= 0))


class Masked:
    """NDT and what hides counts from it."""

    def __init__(
        self,
        data: Sequences,
        counts: Float[ndarray, "bin unit"],
        network: NDT,
        splits: tuple[str, ...],
        params: BaselineParams,
    ):
        self.network, self.lr, self.splits = network, params.networks.lr / 3, splits
        self.data, self.params, self.read = data, params, 0
        blank = np.zeros((1, counts.shape[1]), np.float32)
        shown = np.concatenate([counts, blank]).astype(np.float32)
        self.counts = torch.as_tensor(shown, device=torch.get_default_device())

    def loss(self, bins: Int[Tensor, "batch time"]) -> Float[Tensor, ""]:
        """Poisson loss of the counts that are hidden now."""
        counts = self.counts[bins]
        hidden = (torch.rand_like(counts) < HIDDEN) & (bins >= 0)[..., None]
        swapped = torch.rand_like(counts) < SWAPPED
        other = counts.flatten(0, 1)[torch.randperm(bins.numel(), device=bins.device)]
        shown = torch.where(swapped, other.view_as(counts), torch.zeros_like(counts))
        log_rates = self.network(torch.where(hidden, shown, counts), bins)
        return F.poisson_nll_loss(log_rates[hidden], counts[hidden])

    def rates(self, split: str) -> Float[ndarray, "bin unit"]:
        """Expected counts of a split's bins."""
        self.network.eval()

        def forward(bins: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time unit"]:
            return self.network(self.counts[bins], bins).exp()

        return networks.outputs(self.data, split, self.params.networks, forward, 0.5)

    def answers(self, split: str) -> Float[ndarray, "query output"]:
        """What a linear readout of the rates says."""
        rates = {each: self.rates(each) for each in dict.fromkeys(("train", "valid", split))}
        found, self.read = read(self.data, rates, self.splits, self.params)
        return found


def ndt(problem: Problem, params: BaselineParams) -> Prediction:
    """An NDT whose width and dropout are chosen by how well its rates are read on valid."""
    given = params.networks
    data = sequences(problem, given.rate)
    counts, length = data.counts(problem.card), networks.chunk_length(data, given)
    mean = counts[data.bins(["train"])].mean(axis=0)

    def make(setting: networks.Setting, splits: tuple[str, ...]) -> Masked:
        network = NDT(mean, **setting, length=length).to(torch.get_default_device())
        return Masked(data, counts, network, splits, params)

    candidates = [{"width": width, "dropout": dropout} for width, dropout in given.sizes]
    return networks.predict(problem, data, *networks.tuned(data, given, candidates, make))
