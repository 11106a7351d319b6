"""Mamba-2 blocks along time, with the parameter names and shapes of `mamba_ssm.Mamba2`.

Source: Dao & Gu 2024, arXiv:2405.21060.
"""

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from neurofmx.models import kernels, pointwise
from neurofmx.models.scan import choose, known, scan, step


class MambaState(NamedTuple):
    """What a mixer carries from token to token, in float32 at least; its size does not grow.

    Attributes:
        conv: The last d_conv − 1 inputs of the convolution.
        ssm: State of each head.
    """

    conv: Float[Tensor, "batch before mixed"]
    ssm: Float[Tensor, "batch head feature state"]


class GatedRMSNorm(nn.Module):
    """RMS norm of x · silu(z)."""

    def __init__(self, width: int, eps: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(
        self,
        x: Float[Tensor, "batch time width"],
        z: Float[Tensor, "batch time width"],
        compiled: bool = False,
    ) -> Float[Tensor, "batch time width"]:
        """Gate, then normalise."""
        return pointwise.gated_norm(x, z, self.weight, self.eps, compiled)

    def step(
        self, x: Float[Tensor, "batch width"], z: Float[Tensor, "batch width"]
    ) -> Float[Tensor, "batch width"]:
        """The same for one token."""
        return F.rms_norm(x * F.silu(z), self.weight.shape, self.weight, self.eps)


class Mamba2(nn.Module):
    """The mixer: one projection in, a short causal convolution, the scan, a gate, one out.

    Args:
        d_model: Width of the tokens.
        d_state: Size of each head's state.
        d_conv: Width of the causal convolution (tokens).
        expand: Inner width as a multiple of `d_model`.
        headdim: Features of a head.
        backend: What runs the scan (`neurofmx.models.scan.BACKENDS`).
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        d_conv: int = 4,
        expand: int = 2,
        headdim: int = 64,
        backend: str = "auto",
    ):
        super().__init__()
        self.backend = known(backend)
        self.d_inner, self.d_state, self.headdim = expand * d_model, d_state, headdim
        if self.d_inner % headdim:
            raise ValueError(
                f"expand · d_model = {self.d_inner} is no multiple of headdim {headdim}"
            )
        self.n_heads = self.d_inner // headdim
        self.mixed = self.d_inner + 2 * d_state  # x, B and C pass through the convolution
        self.in_proj = nn.Linear(d_model, self.d_inner + self.mixed + self.n_heads, bias=False)
        self.conv1d = nn.Conv1d(self.mixed, self.mixed, d_conv, groups=self.mixed)
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
        return self.run(u, None, mask)[0]

    def run(
        self,
        u: Float[Tensor, "batch time width"],
        state: MambaState | None,
        mask: Bool[Tensor, "batch time"] | None = None,
    ) -> tuple[Float[Tensor, "batch time width"], MambaState]:
        """The same for tokens that follow those which left `state`, and what they leave."""
        before = self.initial(len(u)) if state is None else state
        z, xBC, dt = self._project(u)
        if mask is not None:
            dt = dt * mask[..., None]
        backend = choose(self.backend, u.device.type)
        compiled = backend == "compiled"
        weight, bias = rearrange(self.conv1d.weight, "c 1 k -> c k"), cast(Tensor, self.conv1d.bias)
        if backend == "mamba_ssm" and kernels.has_causal_conv():
            xBC, conv = kernels.causal_conv(xBC, weight, bias, before.conv, mask)
        else:
            xBC, conv = pointwise.causal_conv(xBC, weight, bias, before.conv, mask, compiled)
        x, B, C = xBC.split([self.d_inner, self.d_state, self.d_state], dim=-1)
        x = rearrange(x, "b t (h p) -> b t h p", p=self.headdim)
        y, ssm = scan(x, dt, -self.A_log.exp(), B, C, before.ssm, self.backend, self.D)
        y = self.norm(rearrange(y, "b t h p -> b t (h p)"), z, compiled)
        return self.out_proj(y), MambaState(conv, ssm)

    def step(
        self,
        u: Float[Tensor, "batch width"],
        state: MambaState,
        mask: Bool[Tensor, " batch"] | None = None,
    ) -> tuple[Float[Tensor, "batch width"], MambaState]:
        """The same for one token."""
        z, xBC, dt = self._project(u)
        if mask is not None:
            xBC, dt = xBC * mask[..., None], dt * mask[..., None]
        window = torch.cat([state.conv, xBC[:, None].to(state.conv.dtype)], dim=1)
        taps, bias = rearrange(self.conv1d.weight, "c 1 k -> k c"), cast(Tensor, self.conv1d.bias)
        xBC = F.silu((window * taps).sum(1) + bias).to(xBC.dtype)
        x, B, C = xBC.split([self.d_inner, self.d_state, self.d_state], dim=-1)
        x = rearrange(x, "b (h p) -> b h p", p=self.headdim)
        y, ssm = step(x, dt, -self.A_log.to(dt.dtype).exp(), B, C, self.D, state.ssm)
        y = self.norm.step(rearrange(y, "b h p -> b (h p)"), z)
        return self.out_proj(y), MambaState(window[:, 1:], ssm)

    def initial(self, batch: int) -> MambaState:
        """The state before the first token."""
        weight = self.conv1d.weight
        wide = torch.promote_types(weight.dtype, torch.float32)
        conv = weight.new_zeros(batch, weight.shape[-1] - 1, self.mixed, dtype=wide)
        heads = (batch, self.n_heads, self.headdim, self.d_state)
        return MambaState(conv, weight.new_zeros(heads, dtype=wide))

    def _project(
        self, u: Float[Tensor, "*batch width"]
    ) -> tuple[
        Float[Tensor, "*batch inner"], Float[Tensor, "*batch mixed"], Float[Tensor, "*batch head"]
    ]:
        """z, x with B and C, and the step sizes, these in float32 at least."""
        sizes = [self.d_inner, self.mixed, self.n_heads]
        z, xBC, dt = self.in_proj(u).split(sizes, dim=-1)
        wide = torch.promote_types(dt.dtype, torch.float32)
        return z, xBC, F.softplus(dt.to(wide) + self.dt_bias)


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
        backend: str = "auto",
    ):
        super().__init__()
        self.norm = nn.RMSNorm(d_model, eps=1e-5)
        self.mixer = Mamba2(d_model, d_state, d_conv, expand, headdim, backend)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch time width"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, "batch time width"]:
        """x + mixer(norm(x))."""
        return x + self.dropout(self.mixer(self.norm(x), mask))

    def run(
        self,
        x: Float[Tensor, "batch time width"],
        state: MambaState | None,
        mask: Bool[Tensor, "batch time"] | None = None,
    ) -> tuple[Float[Tensor, "batch time width"], MambaState]:
        """The same for tokens that follow those which left `state`, and what they leave."""
        y, state = self.mixer.run(self.norm(x), state, mask)
        return x + self.dropout(y), state

    def step(
        self,
        x: Float[Tensor, "batch width"],
        state: MambaState,
        mask: Bool[Tensor, " batch"] | None = None,
    ) -> tuple[Float[Tensor, "batch width"], MambaState]:
        """The same for one token."""
        y, state = self.mixer.step(self.norm(x), state, mask)
        return x + self.dropout(y), state

    def initial(self, batch: int) -> MambaState:
        """The state before the first token."""
        return self.mixer.initial(batch)
