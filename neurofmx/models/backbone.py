"""The backbone: stacks of Mamba-2 blocks at several rates, fused token by token; causal.

What changes within milliseconds and what changes over seconds are read apart: the stream at rate
1 sees every token, the one at r the means of r tokens, so that it reaches r times as far with the
same state, at 1/r of the cost.

Source: slower copies of a sequence beside it, El Hihi & Bengio 1995, "Hierarchical recurrent
neural networks for long-term dependencies"; the blocks, Dao & Gu 2024, arXiv:2405.21060.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from neurofmx.models.fusion import FUSIONS
from neurofmx.models.streams import SlowStack, SlowState, Stack, StackState

BackboneState = tuple[StackState | SlowState, ...]  # of each stream


class MambaBackbone(nn.Module):
    """Streams at several rates, fused; with one stream, that stream and nothing else.

    Args:
        d_model: Width of the tokens.
        n_blocks: Blocks of each stream.
        d_state, d_conv, expand, headdim, dropout, backend: As in `MambaBlock`.
        rates: Tokens that one step of each stream stands for.
        fusion: Row of `FUSIONS`.

    Raises:
        ValueError: The rates are not different positive numbers, or there is no such fusion.
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
        rates: Sequence[int] = (1, 4, 16),
        fusion: str = "concat",
        backend: str = "auto",
    ):
        super().__init__()
        if not rates or min(rates) < 1 or len(set(rates)) < len(rates):
            raise ValueError(f"rates {tuple(rates)}: give different positive numbers of tokens")
        if fusion not in FUSIONS:
            raise ValueError(f"fusion {fusion!r} is unknown; choose from {', '.join(FUSIONS)}")
        block: dict[str, Any] = {"d_state": d_state, "d_conv": d_conv, "expand": expand}
        block |= {"headdim": headdim, "dropout": dropout, "backend": backend}
        streams = nn.ModuleList(
            Stack(d_model, n_blocks, **block)
            if rate == 1
            else SlowStack(rate, d_model, n_blocks, **block)
            for rate in rates
        )
        self.streams = cast(Sequence[Stack], streams)
        self.fuse = FUSIONS[fusion](d_model, len(rates)) if len(rates) > 1 else None

    def forward(
        self, x: Float[Tensor, "batch time width"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, "batch time width"]:
        """Features of each token, from it and those before it; masked tokens change no other."""
        x = _shown(x, mask)
        return self._fused(x, [stream(x, mask) for stream in self.streams])

    def run(
        self,
        x: Float[Tensor, "batch time width"],
        state: BackboneState | None = None,
        mask: Bool[Tensor, "batch time"] | None = None,
    ) -> tuple[Float[Tensor, "batch time width"], BackboneState]:
        """The same for tokens that follow those which left `state`, and the state they leave."""
        x = _shown(x, mask)
        state = self.initial(len(x)) if state is None else state
        pairs = zip(self.streams, cast(Any, state), strict=True)  # each to its own kind of state
        outputs, after = zip(*(stream.run(x, s, mask) for stream, s in pairs), strict=True)
        return self._fused(x, outputs), after

    def step(
        self,
        x: Float[Tensor, "batch width"],
        state: BackboneState,
        mask: Bool[Tensor, " batch"] | None = None,
    ) -> tuple[Float[Tensor, "batch width"], BackboneState]:
        """The same for one token."""
        x = _shown(x, mask)
        pairs = zip(self.streams, cast(Any, state), strict=True)
        outputs, after = zip(*(stream.step(x, s, mask) for stream, s in pairs), strict=True)
        return self._fused(x, outputs), after

    def initial(self, batch: int) -> BackboneState:
        """The state before the first token."""
        return tuple(stream.initial(batch) for stream in self.streams)

    def _fused(
        self, x: Float[Tensor, "*batch width"], streams: Sequence[Float[Tensor, "*batch width"]]
    ) -> Float[Tensor, "*batch width"]:
        return streams[0] if self.fuse is None else self.fuse(x, torch.stack(list(streams), dim=-2))


def _shown(
    x: Float[Tensor, "*batch width"], mask: Bool[Tensor, "*batch"] | None
) -> Float[Tensor, "*batch width"]:
    """Zeros in place of masked tokens, whatever they held."""
    return x if mask is None else x.masked_fill(~mask[..., None], 0.0)
