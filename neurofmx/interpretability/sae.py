"""A sparse autoencoder: features of the backbone as sums of few directions from a large dictionary.

    z = TopK(W_e (x − b)),   x̂ = W_d z + b,   columns of W_d of length 1

Only the k largest positive pre-activations of a token are kept. Directions that have not been
used for a while would stay dead; an auxiliary loss lets the best of them explain what is left
over (Gao et al. 2024, arXiv:2406.04093).

Two controls stand beside it. With a frozen random dictionary, only the encoder learns: what any
dictionary of this size explains. On features of the untrained model, the dictionary describes the
architecture and its input, not what was learnt.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn

from neurofmx.config import Params

AUXILIARY = 1 / 32  # weight of the auxiliary loss
DEAD_AFTER = 50  # steps without use


class SAEParams(Params):
    """Size and training of the autoencoder.

    Attributes:
        expansion: Directions per dimension of the features.
        k: Directions that a token may use.
        steps: Steps of the optimiser.
        batch_size: Tokens per step.
        lr: Learning rate.
    """

    expansion: int = 4
    k: int = 16
    steps: int = 300
    batch_size: int = 1024
    lr: float = 1e-2


class TopKSAE(nn.Module):
    """The autoencoder.

    Args:
        width: Of the features.
        size: Directions in the dictionary.
        k: Directions that a token may use.
        frozen: Leave the random dictionary as it is (the control).
    """

    def __init__(self, width: int, size: int, k: int, frozen: bool = False):
        super().__init__()
        self.k = k
        dictionary = F.normalize(torch.randn(size, width), dim=1)
        self.dictionary = nn.Parameter(dictionary, requires_grad=not frozen)
        self.encoder = nn.Parameter(dictionary.clone())
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(
        self, x: Float[Tensor, "token width"]
    ) -> tuple[Float[Tensor, "token width"], Float[Tensor, "token size"]]:
        """Reconstruction and activations."""
        z = keep_largest(self.scores(x), self.k)
        return z @ self.dictionary + self.bias, z

    def scores(self, x: Float[Tensor, "token width"]) -> Float[Tensor, "token size"]:
        """Activations before the choice of the largest."""
        return (x - self.bias) @ self.encoder.T

    @torch.no_grad()
    def normalise(self) -> None:
        """Directions of length 1, so that activations carry the scale."""
        self.dictionary.copy_(F.normalize(self.dictionary, dim=1))


def keep_largest(scores: Float[Tensor, "token size"], k: int) -> Float[Tensor, "token size"]:
    """The k largest of each row, where positive; 0 elsewhere."""
    top = scores.topk(min(k, scores.shape[1]), dim=1)
    return torch.zeros_like(scores).scatter(1, top.indices, top.values.relu())


def fit_sae(
    x: Float[Tensor, "token width"], size: int, params: SAEParams, seed: int, frozen: bool = False
) -> TopKSAE:
    """Train an autoencoder on features that are centred and scaled; equal seeds, equal weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sae = TopKSAE(x.shape[1], size, params.k, frozen)
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam([p for p in sae.parameters() if p.requires_grad], params.lr)
        idle = torch.zeros(size)
        for step in range(params.steps):
            rows = torch.randint(len(x), (params.batch_size,), generator=generator)
            # A falling rate at the end settles the directions.
            rate = params.lr * min(1.0, 2.0 * (1.0 - step / params.steps))
            optimizer.param_groups[0]["lr"] = rate
            loss, used = _loss(sae, x[rows], idle > DEAD_AFTER)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sae.normalise()
            idle = torch.where(used, torch.zeros(()), idle + 1)
    return sae.eval()


def _loss(
    sae: TopKSAE, x: Float[Tensor, "token width"], dead: Tensor
) -> tuple[Float[Tensor, ""], Tensor]:
    """Squared error as a share of the batch's variance, and which directions were used."""
    scores = sae.scores(x)
    z = keep_largest(scores, sae.k)
    rest = x - (z @ sae.dictionary + sae.bias)
    variance = (x - x.mean(dim=0)).square().sum()
    loss = rest.square().sum() / variance
    if dead.any():
        spare = keep_largest(scores.masked_fill(~dead, -1.0), 2 * sae.k)
        left = rest.detach() - spare @ sae.dictionary
        loss = loss + AUXILIARY * left.square().sum() / rest.detach().square().sum()
    return loss, (z > 0).any(dim=0)


@dataclass(frozen=True)
class Scaling:
    """Centre and one scale of all dimensions, fitted on train."""

    mean: Float[ndarray, " width"]
    scale: float

    @classmethod
    def fit(cls, x: Float[ndarray, "token width"]) -> "Scaling":
        """Mean, and the root of the mean variance."""
        mean = x.mean(axis=0)
        return cls(mean, max(float(np.sqrt(x.var(axis=0).mean())), 1e-12))

    def __call__(self, x: Float[ndarray, "token width"]) -> Float[Tensor, "token width"]:
        """Features with mean 0 and a mean variance of 1."""
        return torch.from_numpy(((x - self.mean) / self.scale).astype(np.float32))


@torch.no_grad()
def health(sae: TopKSAE, x: Float[Tensor, "token width"]) -> dict[str, float]:
    """Explained variance about the mean of `x`, mean number in use, shares dead and dense.

    The mean itself explains 0, a perfect reconstruction 1.
    """
    reconstruction, z = sae(x)
    error = (x - reconstruction).double().square().sum()
    density = (z > 0).float().mean(dim=0)
    return {
        "explained_variance": float(1 - error / (x - x.mean(dim=0)).double().square().sum()),
        "l0": float((z > 0).float().sum(dim=1).mean()),
        "dead": float((density == 0).float().mean()),
        "dense": float((density > 0.5).float().mean()),
    }


def mmcs(a: Float[ndarray, "direction width"], b: Float[ndarray, "other width"]) -> float:
    """Mean over the directions of `a` of the largest cosine with any of `b`.

    Source: Sharkey, Braun & Millidge 2022, "Taking features out of superposition".
    """
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return float((a @ b.T).max(axis=1).mean())
