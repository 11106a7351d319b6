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

from neurofmx.models.compiled import through
from neurofmx.models.spans import spans


def causal_conv(
    x: Float[Tensor, "batch time width"],
    weight: Float[Tensor, "width tap"],
    bias: Float[Tensor, " width"],
    state: Float[Tensor, "batch before width"],
    mask: Bool[Tensor, "batch time"] | None = None,
    compiled: bool = False,
) -> tuple[Float[Tensor, "batch time width"], Float[Tensor, "batch before width"]]:
    """silu(bias + Σ_k weight_k x_{t−K+1+k}) and the last K − 1 inputs.

    Args:
        state: The K − 1 inputs before x.
        mask: Where x counts; elsewhere it is 0.
        compiled: Through torch.compile.
    """
    return _CausalConv.apply(x, weight, bias, state, mask, compiled)


class _CausalConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, Tensor]:
        x, weight, bias, state, mask, ctx.compiled = given
        y, last, taps = x.new_empty(x.shape), torch.empty_like(state), _taps(x, weight)
        for windows, found in spans(x):
            before = state[windows].to(_wide(x))
            for span in found:
                at = windows, span.tokens
                run = through(_conv, ctx.compiled and span.usual)
                y[at], before = run(x[at], before, None if mask is None else mask[at], taps, bias)
            last[windows] = before
        ctx.save_for_backward(x, weight, bias, state, mask)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, state, mask = ctx.saved_tensors
        gy, glast = given
        gx, gstate, taps = x.new_empty(x.shape), torch.empty_like(state), _taps(x, weight)
        gtaps, gbias = torch.zeros_like(taps), torch.zeros_like(taps[0])
        for windows, found in spans(x):
            after = glast[windows].to(_wide(x))
            for span in reversed(found):
                at = windows, span.tokens
                run = through(_conv_backward, ctx.compiled and span.usual)
                before = _before(x, state, mask, windows, span.tokens.start)
                shown = None if mask is None else mask[at]
                gx[at], by_taps, by_bias, after = run(
                    x[at], before, shown, taps, bias, gy[at], after
                )
                gtaps += by_taps
                gbias += by_bias
            gstate[windows] = after
        return gx, gtaps.mT.to(weight.dtype), gbias.to(bias.dtype), gstate, None, None


def _conv(
    x: Tensor, before: Tensor, mask: Tensor | None, taps: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Of a span, from the inputs before it: outputs, and the last inputs."""
    padded = _padded(x, before, mask)
    y = F.silu(_convolved(padded, taps, bias)).to(x.dtype)
    return y, padded[:, padded.shape[1] - before.shape[1] :].clone()


def _conv_backward(
    x: Tensor,
    before: Tensor,
    mask: Tensor | None,
    taps: Tensor,
    bias: Tensor,
    gy: Tensor,
    after: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients by x, taps, bias and the inputs before; `after` is that by the last inputs."""
    padded = _padded(x, before, mask)
    g = torch.ops.aten.silu_backward(gy.to(padded.dtype), _convolved(padded, taps, bias))
    # A token was read by the outputs from its own to K − 1 later ones.
    gpadded = F.pad(after, (0, 0, x.shape[1], 0))
    reaches = [slice(tap, tap + x.shape[1]) for tap in range(len(taps))]
    for tap, reach in zip(taps, reaches, strict=True):
        gpadded[:, reach].addcmul_(g, tap)
    gtaps = torch.stack([(g * padded[:, reach]).sum((0, 1)) for reach in reaches])
    gx = gpadded[:, len(taps) - 1 :]
    gx = gx if mask is None else gx * mask[..., None]
    return gx.to(x.dtype), gtaps, g.sum((0, 1)), gpadded[:, : len(taps) - 1].clone()


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _taps(x: Tensor, weight: Tensor) -> Tensor:
    """Weights by tap, each in one piece."""
    return weight.to(_wide(x)).mT.contiguous()


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


def _convolved(padded: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    time = padded.shape[1] - len(taps) + 1
    y = torch.addcmul(bias.to(padded.dtype), padded[:, :time], taps[0])
    for number, tap in enumerate(taps[1:], start=1):
        y.addcmul_(padded[:, number : number + time], tap)
    return y


def gated_norm(
    x: Float[Tensor, "batch time width"],
    z: Float[Tensor, "batch time width"],
    weight: Float[Tensor, " width"],
    eps: float,
    compiled: bool = False,
) -> Float[Tensor, "batch time width"]:
    """RMS norm of x · silu(z), times `weight`."""
    return _GatedNorm.apply(x, z, weight, eps, compiled)


class _GatedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        x, z, weight, ctx.eps, ctx.compiled = given
        y = x.new_empty(x.shape)
        for windows, found in spans(x):
            for span in found:
                at = windows, span.tokens
                y[at] = through(_norm, ctx.compiled and span.usual)(x[at], z[at], weight, ctx.eps)
        ctx.save_for_backward(x, z, weight)
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
                run = through(_norm_backward, ctx.compiled and span.usual)
                gx[at], gz[at], by_weight = run(x[at], z[at], weight, ctx.eps, given[0][at])
                gweight += by_weight
        return gx, gz, gweight.to(weight.dtype), None, None


def _norm(x: Tensor, z: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Of a span."""
    gated = F.silu(z.to(_wide(x))).mul_(x)
    return gated.mul_(_scale(gated, eps)).mul_(weight).to(x.dtype)


def _norm_backward(
    x: Tensor, z: Tensor, weight: Tensor, eps: float, g: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by x, z and the weight."""
    wide_x, wide_z, g = (v.to(_wide(x)) for v in (x, z, g))
    gate = F.silu(wide_z)
    normed = gate * wide_x
    scale = _scale(normed, eps)
    normed *= scale
    gweight = (g * normed).sum((0, 1))
    g = g * weight
    mean = (g * normed).mean(-1, keepdim=True)
    g = torch.addcmul(g, normed, mean, value=-1).mul_(scale)  # by x · silu(z)
    gz = torch.ops.aten.silu_backward(g * wide_x, wide_z)
    return gate.mul_(g).to(x.dtype), gz.to(z.dtype), gweight


def _scale(x: Tensor, eps: float) -> Tensor:
    return torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
