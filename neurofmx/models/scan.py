"""The state-space recurrence of Mamba-2, as a slow loop and by what is faster.

Each head keeps a state h (head × state) and reads it out:

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_tᵀ        y_t = h_t C_t + D x_t

Within a chunk the same y is a lower-triangular matrix product, which is fast; between chunks only
the state is handed on. dt_t = 0 leaves the state as it is and adds nothing: that is how masked
tokens are passed over.

Source: Dao & Gu 2024, "Transformers are SSMs", arXiv:2405.21060, listing 1.
"""

import logging
from collections.abc import Callable
from functools import cache, partial

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from neurofmx.models import kernels
from neurofmx.models.spans import CHUNK
from neurofmx.models.ssd import ChunkedScan

BACKENDS = ("auto", "reference", "chunked", "compiled", "mamba_ssm")
log = logging.getLogger(__name__)


def scan(
    x: Float[Tensor, "batch time head feature"],
    dt: Float[Tensor, "batch time head"],
    A: Float[Tensor, " head"],
    B: Float[Tensor, "batch time state"],
    C: Float[Tensor, "batch time state"],
    state: Float[Tensor, "batch head feature state"] | None = None,
    backend: str = "auto",
    D: Float[Tensor, " head"] | None = None,
    chunk: int = CHUNK,
) -> tuple[Float[Tensor, "batch time head feature"], Float[Tensor, "batch head feature state"]]:
    """What the recurrence gives, and the state after the last token.

    Decays and the state are in float32 at least; products are in the type of x.

    Args:
        x: Inputs.
        dt: Step sizes, 0 where a token is masked.
        A: Decay rates, negative.
        B, C: Maps in and out of the state, shared by the heads.
        state: The state before the first token; 0 without one.
        backend: One of `BACKENDS`; "auto" takes the fastest that is there, and logs which.
        D: What of x goes straight to y.
        chunk: Tokens of a matrix product.

    Raises:
        ValueError: The backend is unknown or cannot run here.
    """
    taken = choose(backend, x.device.type)
    wide = torch.promote_types(x.dtype, torch.float32)
    if state is None:
        state = x.new_zeros(len(x), *x.shape[2:], B.shape[-1])
    dt, A, state = (v.to(wide) for v in (dt, A, state))
    B, C, D = (v.to(x.dtype) for v in (B, C, torch.zeros_like(A) if D is None else D))
    if x.shape[1] == 0:
        return x, state
    with torch.autocast(x.device.type, enabled=False):
        return _RUN[taken](x, dt, A, B, C, D, state, chunk)


def scan_reference(
    x: Float[Tensor, "batch time head feature"],
    dt: Float[Tensor, "batch time head"],
    A: Float[Tensor, " head"],
    B: Float[Tensor, "batch time state"],
    C: Float[Tensor, "batch time state"],
    D: Float[Tensor, " head"],
    state: Float[Tensor, "batch head feature state"],
) -> tuple[Float[Tensor, "batch time head feature"], Float[Tensor, "batch head feature state"]]:
    """The recurrence as it is written above, one step after the other; arguments as in `scan`."""
    outputs = []
    for t in range(x.shape[1]):
        y, state = step(x[:, t], dt[:, t], A, B[:, t], C[:, t], D, state)
        outputs.append(y)
    return torch.stack(outputs, dim=1), state


def step(
    x: Float[Tensor, "batch head feature"],
    dt: Float[Tensor, "batch head"],
    A: Float[Tensor, " head"],
    B: Float[Tensor, "batch state"],
    C: Float[Tensor, "batch state"],
    D: Float[Tensor, " head"],
    state: Float[Tensor, "batch head feature state"],
) -> tuple[Float[Tensor, "batch head feature"], Float[Tensor, "batch head feature state"]]:
    """One token; computed in the type of the state, arguments as in `scan`."""
    wide_x, B, C = (v.to(state.dtype) for v in (x, B, C))
    update = (wide_x * dt[..., None])[..., None] * B[:, None, None, :]
    state = torch.exp(dt * A)[..., None, None] * state + update
    y = (state @ C[:, None, :, None])[..., 0] + wide_x * D[:, None]
    return y.to(x.dtype), state


def known(backend: str) -> str:
    """The backend itself.

    Raises:
        ValueError: There is no such backend.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend {backend!r} is unknown; choose from {', '.join(BACKENDS)}")
    return backend


def choose(backend: str, device: str) -> str:
    """The backend that runs on a kind of device.

    Raises:
        ValueError: The backend is unknown or cannot run here; says why.
    """
    if known(backend) == "auto":
        return _best(device)
    if backend in kernels.MISSING and (missing := kernels.MISSING[backend](device)):
        raise ValueError(f"backend {backend!r} cannot run: {missing}; use backend 'auto'")
    return backend


@cache  # so that it is logged once
def _best(device: str) -> str:
    missing = kernels.MISSING["mamba_ssm"](device)
    taken = "chunked" if missing else "mamba_ssm"
    log.info("scan on %s: backend auto takes %r%s", device, taken, missing and f" ({missing})")
    return taken


def _reference(x, dt, A, B, C, D, state, chunk):
    return scan_reference(x, dt, A, B, C, D, state)


def _chunked(x, dt, A, B, C, D, state, chunk, compiled=False):
    state = rearrange(state, "b h p n -> b h n p")
    y, state = ChunkedScan.apply(x, dt, A, B, C, D, state, min(chunk, x.shape[1]), compiled)
    return y, rearrange(state, "b h n p -> b h p n")


_RUN: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "reference": _reference,
    "chunked": _chunked,
    "compiled": partial(_chunked, compiled=True),
    "mamba_ssm": kernels.scan,
}
