"""Bessel functions that ONNX does not have, by polynomials: off by less than 3e-7 for x ≥ 0.

    I₀(x) and I₁(x) / x in (x / 3.75)² below 3.75,    e⁻ˣ √x I(x) in 3.75 / x from there on

Source: Abramowitz & Stegun 1964, Handbook of Mathematical Functions, 9.8.1 to 9.8.4.
"""

import torch
from jaxtyping import Float
from torch import Tensor

EDGE = 3.75
# Of each power, the lowest first.
_I0 = (1.0, 3.5156229, 3.0899424, 1.2067492, 0.2659732, 0.0360768, 0.0045813)
_I1 = (0.5, 0.87890594, 0.51498869, 0.15084934, 0.02658733, 0.00301532, 0.00032411)
_I0_FAR = (
    *(0.39894228, 0.01328592, 0.00225319, -0.00157565, 0.00916281),
    *(-0.02057706, 0.02635537, -0.01647633, 0.00392377),
)
_I1_FAR = (
    *(0.39894228, -0.03988024, -0.00362018, 0.00163801, -0.01031555),
    *(0.02282967, -0.02895312, 0.01787654, -0.00420059),
)


def i0e(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """e⁻ˣ I₀(x)."""
    return _by_parts(x, _polynomial((x / EDGE).square(), _I0), _I0_FAR)


def i1e(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """e⁻ˣ I₁(x)."""
    return _by_parts(x, x * _polynomial((x / EDGE).square(), _I1), _I1_FAR)


def _by_parts(x: Tensor, near: Tensor, far: tuple[float, ...]) -> Tensor:
    beyond = x.clamp(min=EDGE)  # where a part is not taken it may overflow, and is dropped
    return torch.where(x < EDGE, near * (-x).exp(), _polynomial(EDGE / beyond, far) / beyond.sqrt())


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    total = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


DECOMPOSITIONS = {
    torch.ops.aten.special_i0e.default: i0e,
    torch.ops.aten.special_i1e.default: i1e,
}
