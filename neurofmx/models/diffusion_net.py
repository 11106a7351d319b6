"""The network of the latent diffusion prior: a transformer over noisy latents, told how noisy.

    x ← x + g ⊙ attend((1 + s) ⊙ norm(x) + b)
    x ← x + g′ ⊙ mlp((1 + s′) ⊙ norm(x) + b′)

Gains g, scales s and shifts b are maps of an embedding of time and condition. They start at 0
(adaLN-Zero), as does the last layer: an untrained network passes x through its blocks unchanged
and answers 0.

Source: Peebles & Xie 2022 (DiT), arXiv:2212.09748.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn


class AdaptiveBlock(nn.Module):
    """Attention among the latents and a feed-forward, both set by an embedding.

    Args:
        width: Width of the latents inside.
        n_heads: Heads.
    """

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = _zero(nn.Linear(width, 6 * width))
        self.to_query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width)
        )

    def forward(
        self, x: Float[Tensor, "batch latent width"], embedding: Float[Tensor, "batch width"]
    ) -> Float[Tensor, "batch latent width"]:
        """The latents after one round."""
        parts = self.modulation(F.silu(embedding))[:, None].chunk(6, dim=-1)
        shift, scale, gain, shift_after, scale_after, gain_after = parts
        x = x + gain * self._attend(self.norm(x) * (1 + scale) + shift)
        return x + gain_after * self.feed_forward(self.norm(x) * (1 + scale_after) + shift_after)

    def _attend(
        self, x: Float[Tensor, "batch latent width"]
    ) -> Float[Tensor, "batch latent width"]:
        split = "b l (three h f) -> three b h l f"
        q, k, v = rearrange(self.to_query_key_value(x), split, three=3, h=self.n_heads)
        answer = F.scaled_dot_product_attention(q, k, v)
        return self.out(rearrange(answer, "b h l f -> b l (h f)"))


class Denoiser(nn.Module):
    """Noisy latents, how noisy they are and maybe a condition → an estimate in their shape.

    Args:
        latent_dim: Width of the latents.
        n_latents: Latents, each with a place of its own.
        width: Width inside.
        n_layers: Blocks.
        n_heads: Heads of every attention.
        condition_dim: Features of the condition; 0 for none.

    Raises:
        ValueError: `width` is no multiple of `n_heads`, or odd.
    """

    def __init__(
        self,
        latent_dim: int,
        n_latents: int,
        width: int,
        n_layers: int,
        n_heads: int,
        condition_dim: int = 0,
    ):
        super().__init__()
        if width % n_heads or width % 2:
            raise ValueError(f"width {width} must be even and a multiple of n_heads = {n_heads}")
        self.width = width
        self.enter = nn.Linear(latent_dim, width)
        self.places = nn.Parameter(torch.empty(n_latents, width))
        nn.init.normal_(self.places, std=0.02)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.condition = nn.Linear(condition_dim, width) if condition_dim else None
        self.untold = nn.Parameter(torch.zeros(width)) if condition_dim else None
        self.blocks = nn.ModuleList(AdaptiveBlock(width, n_heads) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = _zero(nn.Linear(width, 2 * width))
        self.leave = _zero(nn.Linear(width, latent_dim))

    def forward(
        self,
        x: Float[Tensor, "batch latent feature"],
        times: Float[Tensor, " batch"],
        condition: Float[Tensor, "batch condition"] | None = None,
        told: Bool[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch latent feature"]:
        """The estimate.

        Args:
            x: Whitened latents with noise.
            times: How far the noise has come: 0 nothing, 1000 noise alone.
            condition: Of each sample.
            told: False where the condition is kept back; without it all are told.
        """
        embedding = self.time(sinusoids(times, self.width).to(self.places.dtype))
        if self.condition is not None:
            embedding = embedding + self._embed(len(x), condition, told)
        x = self.enter(x) + self.places
        for block in self.blocks:
            x = block(x, embedding)
        shift, scale = self.modulation(F.silu(embedding))[:, None].chunk(2, dim=-1)
        return self.leave(self.norm(x) * (1 + scale) + shift)

    def _embed(
        self,
        n: int,
        condition: Float[Tensor, "batch condition"] | None,
        told: Bool[Tensor, " batch"] | None,
    ) -> Float[Tensor, "batch width"]:
        """The condition's embedding, and a learned one where it is not told."""
        assert self.condition is not None  # the caller asked
        assert self.untold is not None
        untold = self.untold.expand(n, -1)
        if condition is None:
            return untold
        if told is None:
            return self.condition(condition)
        # What is not told may be undefined: it must not reach the gradient either.
        known = self.condition(condition.masked_fill(~told[:, None], 0.0))
        return torch.where(told[:, None], known, untold)


def sinusoids(times: Float[Tensor, " batch"], width: int) -> Float[Tensor, "batch width"]:
    """Cosines and sines of time at periods from 2π to 2π · 10⁴, spaced evenly in logarithm.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    """
    half = torch.arange(width // 2, device=times.device) / (width // 2)
    angle = times.float()[:, None] * torch.exp(-math.log(1e4) * half)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
