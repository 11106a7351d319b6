"""Mamba-2 blocks along time, with the parameter names and shapes of `mamba_ssm.Mamba2`.

Source: Dao & Gu 2024, arXiv:2405.21060.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from neurofmx.models.scan import scan


class GatedRMSNorm(nn.Module):
    """RMS norm of x · silu(z)."""

    def __init__(self, width: int, eps: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(
        self, x: Float[Tensor, "*batch width"], z: Float[Tensor, "*batch width"]
    ) -> Float[Tensor, "*batch width"]:
        """Gate, then normalise."""
        x = x * F.silu(z)
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class Mamba2(nn.Module):
    """The mixer: one projection in, a short causal convolution, the scan, a gate, one out.

    Args:
        d_model: Width of the tokens.
        d_state: Size of each head's state.
        d_conv: Width of the causal convolution (tokens).
        expand: Inner width as a multiple of `d_model`.
        headdim: Features of a head.
    """

    def __init__(
        self, d_model: int, d_state: int = 64, d_conv: int = 4, expand: int = 2, headdim: int = 64
    ):
        super().__init__()
        self.d_inner, self.d_state, self.headdim = expand * d_model, d_state, headdim
        if self.d_inner % headdim:
            raise ValueError(
                f"expand · d_model = {self.d_inner} is no multiple of headdim {headdim}"
            )
        self.n_heads = self.d_inner // headdim
        mixed = self.d_inner + 2 * d_state  # x, B and C pass through the convolution
        self.in_proj = nn.Linear(d_model, self.d_inner + mixed + self.n_heads, bias=False)
        self.conv1d = nn.Conv1d(mixed, mixed, d_conv, groups=mixed, padding=d_conv - 1)
        # Step sizes start log-uniform in [0.001, 0.1] tokens; softplus is undone for the bias.
        dt = torch.exp(torch.linspace(math.log(1e-3), math.log(1e-1), self.n_heads))
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        self.A_log = nn.Parameter(torch.log(torch.linspace(1, 16, self.n_heads)))
        self.D = nn.Parameter(torch.ones(self.n_heads))
        self.norm = GatedRMSNorm(self.d_inner)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def forward(
        self, u: Float[Tensor, "batch time width"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, "batch time width"]:
        """Mix along time, causally; masked tokens change nothing but their own output."""
        mixed = self.d_inner + 2 * self.d_state
        z, xBC, dt = self.in_proj(u).split([self.d_inner, mixed, self.n_heads], dim=-1)
        dt = F.softplus(dt + self.dt_bias)
        if mask is not None:
            xBC, dt = xBC * mask[..., None], dt * mask[..., None]
        xBC = self.conv1d(rearrange(xBC, "b t c -> b c t"))[..., : u.shape[1]]
        xBC = F.silu(rearrange(xBC, "b c t -> b t c"))
        x, B, C = xBC.split([self.d_inner, self.d_state, self.d_state], dim=-1)
        x = rearrange(x, "b t (h p) -> b t h p", p=self.headdim)
        y = scan(x, dt, -torch.exp(self.A_log), B, C) + x * self.D[:, None]
        return self.out_proj(self.norm(rearrange(y, "b t h p -> b t (h p)"), z))


class MambaBlock(nn.Module):
    """Pre-norm residual block around a `Mamba2` mixer."""

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        d_conv: int = 4,
        expand: int = 2,
        headdim: int = 64,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.norm = nn.RMSNorm(d_model, eps=1e-5)
        self.mixer = Mamba2(d_model, d_state, d_conv, expand, headdim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch time width"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, "batch time width"]:
        """x + mixer(norm(x))."""
        return x + self.dropout(self.mixer(self.norm(x), mask))


class MambaBackbone(nn.Module):
    """A stack of `MambaBlock`s and a last norm; causal.

    Args:
        d_model: Width of the tokens.
        n_blocks: Blocks.
        d_state, d_conv, expand, headdim, dropout: As in `MambaBlock`.
    """

    def __init__(
        self,
        d_model: int,
        n_blocks: int,
        d_state: int = 64,
        d_conv: int = 4,
        expand: int = 2,
        headdim: int = 64,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.blocks = nn.ModuleList(
            MambaBlock(d_model, d_state, d_conv, expand, headdim, dropout) for _ in range(n_blocks)
        )
        self.norm = nn.RMSNorm(d_model, eps=1e-5)

    def forward(
        self, x: Float[Tensor, "batch time width"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, "batch time width"]:
        """Features of each token, from it and those before it."""
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)
