"""The kernels of `mamba_ssm` and `causal_conv1d` on CUDA, and what backends need to run.

Source: Dao & Gu 2024, arXiv:2405.21060; github.com/state-spaces/mamba, Dao-AILab/causal-conv1d.
"""

import importlib.util
import os
import shutil

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

CHUNK = 256  # tokens; what mamba_ssm's own Mamba2 gives its kernel


def scan(
    x: Float[Tensor, "batch time head feature"],
    dt: Float[Tensor, "batch time head"],
    A: Float[Tensor, " head"],
    B: Float[Tensor, "batch time state"],
    C: Float[Tensor, "batch time state"],
    D: Float[Tensor, " head"],
    state: Float[Tensor, "batch head feature state"],
    chunk: int = CHUNK,
) -> tuple[Float[Tensor, "batch time head feature"], Float[Tensor, "batch head feature state"]]:
    """As `neurofmx.models.scan.scan`; the kernel cuts chunks of its own size."""
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    _exact()
    B, C = B[:, :, None], C[:, :, None]  # one group of heads
    y, last = mamba_chunk_scan_combined(
        *(x, dt, A, B, C, CHUNK), D=D.to(A.dtype), initial_states=state, return_final_states=True
    )
    return y, last.to(state.dtype)


def _exact() -> None:
    """Have Triton's products of float32 be that, as torch's are unless tf32 was asked for."""
    from triton import knobs

    if not torch.backends.cuda.matmul.allow_tf32 and knobs.language.fp32_default is None:
        knobs.language.fp32_default = "ieee"


def causal_conv(
    x: Float[Tensor, "batch time width"],
    weight: Float[Tensor, "width tap"],
    bias: Float[Tensor, " width"],
    state: Float[Tensor, "batch before width"],
    mask: Bool[Tensor, "batch time"] | None = None,
) -> tuple[Float[Tensor, "batch time width"], Float[Tensor, "batch before width"]]:
    """As `neurofmx.models.pointwise.causal_conv`."""
    from causal_conv1d import causal_conv1d_fn

    # Width last in memory, as the kernel needs it to take and give a state; its strides are
    # multiples of 8 elements, which a part of a wider tensor need not have.
    x = x.contiguous() if mask is None else x * mask[..., None]
    y, last = causal_conv1d_fn(
        rearrange(x, "b t w -> b w t"),
        weight.to(x.dtype),
        bias.to(x.dtype),
        initial_states=rearrange(state.to(x.dtype).contiguous(), "b t w -> b w t"),
        return_final_states=True,
        activation="silu",
    )
    last = rearrange(last, "b w t -> b t w")
    if last.requires_grad:  # the kernel reads a gradient that is expanded past its end
        last.register_hook(lambda gradient: gradient.contiguous())
    return rearrange(y, "b w t -> b t w"), last.to(state.dtype)


def has_causal_conv() -> bool:
    """Whether `causal_conv1d` is installed."""
    return importlib.util.find_spec("causal_conv1d") is not None


def _mamba_ssm(device: str) -> str:
    if device != "cuda":
        return f"its kernels need CUDA, and the data is on {device!r}"
    if importlib.util.find_spec("mamba_ssm") is None:
        return "mamba_ssm is not installed (pip install mamba-ssm causal-conv1d)"
    return ""


def _compiler(device: str) -> str:
    if device == "cuda":
        found = importlib.util.find_spec("triton") is not None
        return "" if found else "torch.compile needs triton on CUDA, which is not installed"
    compiler = os.environ.get("CXX", "g++")
    return "" if shutil.which(compiler) else f"torch.compile needs a C++ compiler, not {compiler!r}"


MISSING = {"mamba_ssm": _mamba_ssm, "compiled": _compiler}  # device → why not, "" where it can
