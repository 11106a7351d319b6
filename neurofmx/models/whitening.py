"""Latents in deviations from their mean, by a running mean and variance of each feature.

A batch of n windows with mean m and variance s² moves them, with w = n / windows so far, by

    μ ← μ + w (m − μ),    σ² ← (1 − w) σ² + w s² + w (1 − w) (m − μ)²

Source: Chan, Golub & LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample
variances, Stanford STAN-CS-79-773.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurofmx.objectives.ranks import everyone


class Whitening(nn.Module):
    """Running mean and variance of every latent's features, so that the prior sees unit variance.

    They are means over all windows that were seen, and once `memory` have been, over about the
    last `memory`: an encoder that learns moves its latents.

    Args:
        n_latents, width: Shape of the latents.
        memory: Windows.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, n_latents: int, width: int, memory: int = 20_000):
        super().__init__()
        self.memory = memory
        self.register_buffer("mean", torch.zeros(n_latents, width))
        self.register_buffer("variance", torch.ones(n_latents, width))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def observe(self, latents: Float[Tensor, "batch latent width"]) -> None:
        """Take a batch of all ranks into the running mean and variance (Chan et al. 1979)."""
        latents = everyone(latents)
        self.count.add_(len(latents)).clamp_(max=max(self.memory, len(latents)))
        share = len(latents) / self.count.float()
        variance, mean = torch.var_mean(latents.float(), dim=0, correction=0)
        apart = mean - self.mean
        self.mean += share * apart
        self.variance.copy_(
            (1 - share) * self.variance + share * variance + share * (1 - share) * apart**2
        )

    @property
    def scale(self) -> Float[Tensor, "latent width"]:
        """Deviation; a feature that never changes has a very small one."""
        return self.variance.sqrt().clamp(min=1e-6)

    def forward(
        self, latents: Float[Tensor, "batch latent width"]
    ) -> Float[Tensor, "batch latent width"]:
        """Latents in deviations from their mean, in float32."""
        return (latents.float() - self.mean) / self.scale

    def undo(self, x: Float[Tensor, "batch latent width"]) -> Float[Tensor, "batch latent width"]:
        """Latents again."""
        return x * self.scale + self.mean

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Whitening":
        """Move, but stay float32: a mean rounded to bfloat16 no longer runs."""

        def move(x: Tensor) -> Tensor:
            moved = fn(x)
            return moved if moved.dtype == x.dtype else x.to(moved.device)

        return super()._apply(move, recurse)
