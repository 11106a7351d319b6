"""What the other processes of a run hold, for losses between windows and for sums over all.

Each rank's loss is its share of a sum over all windows, so a run on many ranks takes the steps of
one. Alone, everything here is the identity.
"""

from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor


@cache
def _group() -> Any:
    """A group of its own, so that no collective in a backward pass meets one of an engine's."""
    return dist.new_group()


def many() -> bool:
    """Whether there are other ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def summed_over_ranks(x: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """Sum over ranks, without gradient; the same on all."""
    x = x.detach().clone()
    if many():
        dist.all_reduce(x, group=_group())
    return x


def everyone(rows: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """The rows of all ranks, one rank behind the other; gradients go back to whose they are.

    Every rank has to call it, also with no rows.
    """
    return _Gather.apply(rows) if many() else rows


def before_me(rows: int) -> int:
    """How many rows stand before this rank's among those of `everyone`."""
    return sum(_counts(rows)[: dist.get_rank()]) if many() else 0


def _counts(rows: int) -> list[int]:
    counts = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=_device())
    counts[dist.get_rank()] = rows
    dist.all_reduce(counts, group=_group())
    return counts.tolist()


def _device() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        counts = _counts(len(rows))
        rank = dist.get_rank()
        ctx.begin, ctx.end = sum(counts[:rank]), sum(counts[: rank + 1])
        # Alike long, as gathering needs it.
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded, group=_group())
        return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total, group=_group())
        return total[ctx.begin : ctx.end]
