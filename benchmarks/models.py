"""Stacks of blocks that map (batch, time, width) to the same: ours and those of others."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from neurofmx.models import MambaBlock

HEADDIM, STATES = 64, 64


@dataclass(frozen=True)
class Sizes:
    """Of a stack: width of its tokens and how many blocks it has."""

    width: int
    blocks: int

    @property
    def weights(self) -> int:
        """Weights of our projections, which take part in a product once a token."""
        inner = 2 * self.width
        mixer = self.width * (2 * inner + 2 * STATES + inner // HEADDIM) + inner * self.width
        return self.blocks * mixer

    def forward_operations(self, chunk: int = 64) -> int:
        """Floating-point operations of our matrix products, a token, forward."""
        inner = 2 * self.width
        scan = 2 * chunk * STATES + 2 * inner * (chunk + STATES) + 2 * inner * STATES
        return 2 * self.weights + self.blocks * scan

    @property
    def operations(self) -> int:
        """The same forward and back: every product has two gradients, which are products too."""
        return 3 * self.forward_operations()

    def bytes(self, item: int) -> int:
        """Bytes that a token has to move, forward and back, if nothing else leaves the cache.

        What each of the two projections reads and writes, what the convolution, the scan and the
        gate do, and as much again for each of the two gradients of a product.
        """
        inner = 2 * self.width
        projected, mixed = 2 * inner + 2 * STATES + inner // HEADDIM, inner + 2 * STATES
        forward = 2 * self.width + projected + 2 * mixed + 3 * inner + 2 * inner
        return 3 * self.blocks * forward * item


class Stack(nn.Module):
    """Pre-norm residual blocks around mixers."""

    def __init__(self, width: int, mixers: list[nn.Module]):
        super().__init__()
        self.mixers = nn.ModuleList(mixers)
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in mixers)

    def forward(self, x: Tensor) -> Tensor:
        """All blocks."""
        for mixer, norm in zip(self.mixers, self.norms, strict=True):
            x = x + mixer(norm(x))
        return x


class Attention(nn.Module):
    """Causal self-attention (SDPA), heads of 64."""

    def __init__(self, width: int):
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        q, k, v = rearrange(self.qkv(x), "b t (s h d) -> s b h t d", s=3, d=64)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(rearrange(y, "b h t d -> b t (h d)"))


def neurofmx(sizes: Sizes, backend: str = "auto") -> nn.Module:
    """Ours."""
    options = {"d_state": STATES, "headdim": HEADDIM, "backend": backend}
    return nn.Sequential(*(MambaBlock(sizes.width, **options) for _ in range(sizes.blocks)))


def transformers(sizes: Sizes, chunk: int) -> nn.Module:
    """transformers' Mamba2 mixers, whose "slow path" needs no kernel."""
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer
    from transformers.utils import logging

    logging.set_verbosity_error()  # it warns that it takes the slow path
    config = Mamba2Config(
        hidden_size=sizes.width,
        num_heads=2 * sizes.width // HEADDIM,
        head_dim=HEADDIM,
        state_size=STATES,
        n_groups=1,
        chunk_size=chunk,
        num_hidden_layers=sizes.blocks,
    )
    return Stack(sizes.width, [Mamba2Mixer(config, layer_idx=i) for i in range(sizes.blocks)])


def transformer(sizes: Sizes) -> nn.Module:
    """A Transformer of as many parameters: attention, then an MLP that takes up the rest."""
    width = sizes.width
    hidden = round((sizes.weights / sizes.blocks - 4 * width**2) / (2 * width))
    mixers: list[nn.Module] = []
    for _ in range(sizes.blocks):
        mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        mixers += [Attention(width), mlp]
    return Stack(width, mixers)


def mambapy(sizes: Sizes) -> nn.Module:
    """mambapy's Mamba (1), whose parallel scan is written in PyTorch."""
    from mambapy.mamba import Mamba, MambaConfig

    return Mamba(MambaConfig(d_model=sizes.width, n_layers=sizes.blocks))


def mamba_ssm(sizes: Sizes) -> nn.Module:
    """mamba_ssm's own Mamba2 with its fused kernels; CUDA."""
    from mamba_ssm import Mamba2

    make = (Mamba2(sizes.width, STATES, headdim=HEADDIM) for _ in range(sizes.blocks))
    return Stack(sizes.width, list(make))


def installed(package: str) -> bool:
    """Whether a package is there."""
    return importlib.util.find_spec(package) is not None


@dataclass
class Contender:
    """A stack and how it is run.

    Attributes:
        make: Builds it.
        low: In bfloat16 by autocast.
        longest: Tokens of a window beyond which it is left out.
        most: Tokens at once, for what needs much memory.
    """

    make: Callable[[], nn.Module]
    low: bool = False
    longest: int = 10**9
    most: int = 10**9
    model: nn.Module | None = field(default=None, repr=False)

    def step(self, x: Tensor) -> None:
        """Forward and back."""
        self._run(x).float().square().mean().backward()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Forward only."""
        return self._run(x)

    def _run(self, x: Tensor) -> Tensor:
        if self.model is None:
            torch.manual_seed(0)
            self.model = self.make().to(x.device)
        self.model.zero_grad()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.low):
            return self.model(x)
