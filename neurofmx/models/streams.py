"""The streams of the backbone: a stack of Mamba-2 blocks on every token, or on means of tokens.

At rate r the stack reads one mean per block of r tokens, and a token sees what it gave of the
last block to be complete:

    u_j = mean of the valid tokens t with ⌊t / r⌋ = j        v = norm(blocks(u))
    y_t = v_j(t)        j(t) = ⌊(t + 1) / r⌋ − 1, and y_t = 0 while j(t) < 0

No token sees a later one, any number of tokens will do, and what a stream has to carry from one
token to the next is the sum of a block under way, v of the last one, and the blocks' states.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from neurofmx.models.mamba import MambaBlock, MambaState

StackState = tuple[MambaState, ...]  # of each block


class SlowState(NamedTuple):
    """What a stream at r carries from token to token; its size does not grow.

    Attributes:
        phase: Tokens of the block under way, 0 … r − 1, the same for the whole batch.
        total: Sum of its valid tokens.
        valid: How many they are.
        held: Output of the last complete block.
        blocks: Of each `MambaBlock`.
    """

    phase: Int[Tensor, ""]
    total: Float[Tensor, "batch width"]
    valid: Float[Tensor, " batch"]
    held: Float[Tensor, "batch width"]
    blocks: StackState


class Stack(nn.Module):
    """`n_blocks` of `MambaBlock` and a last norm.

    Args:
        d_model: Width of the tokens.
        n_blocks: Blocks.
        block: Other arguments of `MambaBlock`.
    """

    def __init__(self, d_model: int, n_blocks: int, **block):
        super().__init__()
        blocks = nn.ModuleList(MambaBlock(d_model, **block) for _ in range(n_blocks))
        self.blocks = cast(Sequence[MambaBlock], blocks)
        self.norm = nn.RMSNorm(d_model, eps=1e-5)

    def forward(
        self, x: Float[Tensor, "batch time width"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, "batch time width"]:
        """Features of each token, from it and those before it."""
        if not x.shape[1]:  # no kernel takes nothing
            return x
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)

    def run(
        self,
        x: Float[Tensor, "batch time width"],
        state: StackState,
        mask: Bool[Tensor, "batch time"] | None = None,
    ) -> tuple[Float[Tensor, "batch time width"], StackState]:
        """Features of tokens that follow those which left `state`, and what they leave."""
        if not x.shape[1]:
            return x, state
        after = []
        for block, before in zip(self.blocks, state, strict=True):
            x, left = block.run(x, before, mask)
            after.append(left)
        return self.norm(x), tuple(after)

    def step(
        self,
        x: Float[Tensor, "batch width"],
        state: StackState,
        mask: Bool[Tensor, " batch"] | None = None,
    ) -> tuple[Float[Tensor, "batch width"], StackState]:
        """The same for one token."""
        after = []
        for block, before in zip(self.blocks, state, strict=True):
            x, left = block.step(x, before, mask)
            after.append(left)
        return self.norm(x), tuple(after)

    def initial(self, batch: int) -> StackState:
        """The state before the first token."""
        return tuple(block.initial(batch) for block in self.blocks)


class SlowStack(Stack):
    """A `Stack` on the means of blocks of `rate` tokens; masked tokens have to be 0.

    Args:
        rate: Tokens of a block.
        d_model, n_blocks, block: As in `Stack`.
    """

    def __init__(self, rate: int, d_model: int, n_blocks: int, **block):
        super().__init__(d_model, n_blocks, **block)
        self.rate = rate

    def forward(
        self, x: Float[Tensor, "batch time width"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, "batch time width"]:
        """Output of the last complete block at each token; 0 before there is one."""
        total, valid = _sums(x, mask, self.rate)
        complete = total.shape[1] - 1
        # One block is always read, so that weights have a gradient, 0, in windows that have none.
        means, shown = _means(total[:, : max(complete, 1)], valid[:, : max(complete, 1)])
        outputs = super().forward(means, shown)[:, :complete]
        return _spread(F.pad(outputs, (0, 0, 1, 0)), self.rate, x.shape[1])

    def run(  # type: ignore[override]
        self,
        x: Float[Tensor, "batch time width"],
        state: SlowState,
        mask: Bool[Tensor, "batch time"] | None = None,
    ) -> tuple[Float[Tensor, "batch time width"], SlowState]:
        """The same for tokens that follow those which left `state`, and what they leave."""
        phase, time = int(state.phase), x.shape[1]
        total, valid = _sums(x, mask, self.rate, phase)
        total = torch.cat([total[:, :1] + state.total[:, None], total[:, 1:]], dim=1)
        valid = torch.cat([valid[:, :1] + state.valid[:, None], valid[:, 1:]], dim=1)
        means, shown = _means(total[:, :-1], valid[:, :-1])
        fresh, blocks = super().run(means, state.blocks, shown)
        outputs = torch.cat([state.held[:, None], fresh], dim=1)
        after = torch.tensor((phase + time) % self.rate)
        # Copies, since a view would keep all that it is a view of.
        left = SlowState(
            after, total[:, -1].clone(), valid[:, -1].clone(), outputs[:, -1].clone(), blocks
        )
        return _spread(outputs, self.rate, time, phase), left

    def step(  # type: ignore[override]
        self,
        x: Float[Tensor, "batch width"],
        state: SlowState,
        mask: Bool[Tensor, " batch"] | None = None,
    ) -> tuple[Float[Tensor, "batch width"], SlowState]:
        """The same for one token."""
        total = state.total + x
        valid = state.valid + (1 if mask is None else mask)
        under_way = SlowState(state.phase + 1, total, valid, state.held, state.blocks)
        complete = under_way.phase == self.rate
        exporting = torch.compiler.is_compiling()
        if not exporting and not complete:
            return state.held, under_way
        mean, shown = _means(total, valid)
        fresh, blocks = super().step(mean, state.blocks, shown)
        left = SlowState(
            state.phase.new_zeros(()),
            total.new_zeros(total.shape),
            valid.new_zeros(valid.shape),
            fresh,
            blocks,
        )
        if exporting:  # a graph has no branches: it computes both and takes one
            left = tree_map(lambda new, old: torch.where(complete, new, old), left, under_way)
        return left.held, left

    def initial(self, batch: int) -> SlowState:  # type: ignore[override]
        """The state before the first token."""
        zeros, width = self.norm.weight.new_zeros, len(self.norm.weight)
        phase = torch.zeros((), dtype=torch.int64)  # on the CPU, where it is read
        parts = zeros(batch, width), zeros(batch), zeros(batch, width)
        return SlowState(phase, *parts, super().initial(batch))


def _sums(
    x: Float[Tensor, "batch time width"],
    mask: Bool[Tensor, "batch time"] | None,
    rate: int,
    phase: int = 0,
) -> tuple[Float[Tensor, "batch block width"], Float[Tensor, "batch block"]]:
    """Sum and number of the valid tokens of each block; the last block is never complete."""
    around = (phase, rate - (phase + x.shape[1]) % rate)
    counted = torch.ones_like(x[..., 0]) if mask is None else mask.to(x.dtype)
    x, counted = F.pad(x, (0, 0, *around)), F.pad(counted, around)
    total = reduce(x, "b (n r) w -> b n w", "sum", r=rate)
    return total, reduce(counted, "b (n r) -> b n", "sum", r=rate)


def _means(
    total: Float[Tensor, "*block width"], valid: Float[Tensor, "*block"]
) -> tuple[Float[Tensor, "*block width"], Bool[Tensor, "*block"]]:
    """Mean of each block, and whether it has a valid token at all."""
    return total / valid.clamp(min=1)[..., None], valid > 0


def _spread(
    outputs: Float[Tensor, "batch block width"], rate: int, time: int, phase: int = 0
) -> Float[Tensor, "batch time width"]:
    """At each token the last output to be known; `outputs[:, 0]` is what was known before."""
    known = (torch.arange(time, device=outputs.device) + phase + 1) // rate
    return outputs[:, known]
