"""What stands around the scan: the short causal convolution and the gated norm.

Both are chains of elementwise operations, so each runs forward and back in spans that stay in the
cache, in float32 at least, and keeps nothing but what it was given.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from neurofmx.models.spans import spans


def causal_conv(
    x: Float[Tensor, "batch time width"],
    weight: Float[Tensor, "width tap"],
    bias: Float[Tensor, " width"],
    state: Float[Tensor, "batch before width"],
    mask: Bool[Tensor, "batch time"] | None = None,
) -> tuple[Float[Tensor, "batch time width"], Float[Tensor, "batch before width"]]:
    """silu(bias + Σ_k weight_k x_{t−K+1+k}) and the last K − 1 inputs.

    Args:
        state: The K − 1 inputs before x.
        mask: Where x counts; elsewhere it is 0.
    """
    return _CausalConv.apply(x, weight, bias, state, mask)


class _CausalConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, Tensor]:
        x, weight, bias, state, mask = given
        y, last = x.new_empty(x.shape), torch.empty_like(state)
        for windows, found in spans(x):
            before = state[windows].to(_wide(x))
            for span in found:
                at = windows, span.tokens
                padded = _padded(x[at], before, None if mask is None else mask[at])
                y[at] = F.silu(_convolved(padded, weight, bias))
                before = padded[:, padded.shape[1] - before.shape[1] :]
            last[windows] = before
        ctx.save_for_backward(x, weight, bias, state, mask)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, state, mask = ctx.saved_tensors
        gy, glast = given
        gx, gstate, taps = x.new_empty(x.shape), torch.empty_like(state), weight.shape[1]
        gweight, gbias = (v.new_zeros(v.shape, dtype=_wide(x)) for v in (weight.mT, bias))
        for windows, found in spans(x):
            after = glast[windows].to(_wide(x))
            for span in reversed(found):
                at = windows, span.tokens
                before = _before(x, state, mask, windows, span.tokens.start)
                padded = _padded(x[at], before, None if mask is None else mask[at])
                g = torch.ops.aten.silu_backward(
                    gy[at].to(padded.dtype), _convolved(padded, weight, bias)
                )
                gbias += g.sum((0, 1))
                gpadded = torch.zeros_like(padded)
                gpadded[:, gpadded.shape[1] - taps + 1 :] = after
                for tap, of_tap in enumerate(weight.to(padded.dtype).mT.contiguous()):
                    reach = slice(tap, tap + g.shape[1])
                    gpadded[:, reach].addcmul_(g, of_tap)
                    gweight[tap] += (g * padded[:, reach]).sum((0, 1))
                gx[at] = gpadded[:, taps - 1 :]
                after = gpadded[:, : taps - 1]
            gstate[windows] = after
        if mask is not None:
            gx *= mask[..., None]
        return gx, gweight.mT.to(weight.dtype), gbias.to(bias.dtype), gstate, None


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _padded(x: Tensor, before: Tensor, mask: Tensor | None) -> Tensor:
    """What came before, then x where it counts."""
    x = x.to(before.dtype)
    return torch.cat([before, x if mask is None else x * mask[..., None]], dim=1)


def _before(x: Tensor, state: Tensor, mask: Tensor | None, windows: slice, first: int) -> Tensor:
    """The inputs before token `first`."""
    known = state[windows].to(_wide(x))
    at = windows, slice(max(0, first - known.shape[1]), first)
    padded = _padded(x[at], known, None if mask is None else mask[at])
    return padded[:, padded.shape[1] - known.shape[1] :]


def _convolved(padded: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    time = padded.shape[1] - weight.shape[1] + 1
    taps = weight.to(padded.dtype).mT.contiguous()
    y = torch.addcmul(bias.to(padded.dtype), padded[:, :time], taps[0])
    for tap, of_tap in enumerate(taps[1:], start=1):
        y.addcmul_(padded[:, tap : tap + time], of_tap)
    return y


def gated_norm(
    x: Float[Tensor, "batch time width"],
    z: Float[Tensor, "batch time width"],
    weight: Float[Tensor, " width"],
    eps: float,
) -> Float[Tensor, "batch time width"]:
    """RMS norm of x · silu(z), times `weight`."""
    return _GatedNorm.apply(x, z, weight, eps)


class _GatedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        x, z, weight, eps = given
        y = x.new_empty(x.shape)
        for windows, found in spans(x):
            for span in found:
                at = windows, span.tokens
                gated = F.silu(z[at].to(_wide(x))).mul_(x[at])
                y[at] = gated.mul_(_scale(gated, eps)).mul_(weight)
        ctx.save_for_backward(x, z, weight)
        ctx.eps = eps
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        x, z, weight = ctx.saved_tensors
        gx, gz = x.new_empty(x.shape), z.new_empty(z.shape)
        gweight = weight.new_zeros(weight.shape, dtype=_wide(x))
        for windows, found in spans(x):
            for span in found:
                at = windows, span.tokens
                wide_x, wide_z, g = (v[at].to(_wide(x)) for v in (x, z, given[0]))
                gate = F.silu(wide_z)
                normed = gate * wide_x
                scale = _scale(normed, ctx.eps)
                normed *= scale
                gweight += (g * normed).sum((0, 1))
                g = g * weight
                mean = (g * normed).mean(-1, keepdim=True)
                g = torch.addcmul(g, normed, mean, value=-1).mul_(scale)  # by x · silu(z)
                gx[at] = gate.mul_(g)
                gz[at] = torch.ops.aten.silu_backward(g.mul_(wide_x), wide_z)
        return gx, gz, gweight.to(weight.dtype), None


def _scale(x: Tensor, eps: float) -> Tensor:
    return torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
