"""Long tensors in pieces that stay in the cache of a CPU, for what memory bounds.

Elementwise work on activations that were just read costs a tenth of what fetching them costs, so a
chain of operations is run on one piece after the other. An accelerator gets everything at once.
"""

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

CACHED = 512  # tokens whose activations stay in the cache
CHUNK = 64  # tokens that are never cut; the fastest of 32, 64 and 128 for the scan on a CPU


class Span(NamedTuple):
    """Some tokens of some windows, the chunks that they are and how many.

    Attributes:
        usual: They are as many as those of the first span.
    """

    tokens: slice
    chunks: slice
    many: int
    usual: bool


def spans(x: Tensor, chunk: int = CHUNK) -> Iterator[tuple[slice, list[Span]]]:
    """For some windows at a time, their tokens in order; only the last chunk may be shorter.

    Args:
        x: (batch, time, …).
        chunk: Tokens that are never cut.
    """
    batch, time = x.shape[:2]
    at_once = CACHED if x.device.type == "cpu" else batch * time
    together = max(1, min(batch, at_once // min(chunk, time)))
    step, whole = max(1, at_once // (together * chunk)), time // chunk
    found = []
    for first in range(0, whole, step):
        last = min(first + step, whole)
        tokens = slice(first * chunk, last * chunk)
        found.append(
            Span(tokens, slice(first, last), last - first, last - first == min(step, whole))
        )
    if time % chunk:
        found.append(Span(slice(whole * chunk, time), slice(whole, whole + 1), 1, not whole))
    for row in range(0, batch, together):
        yield slice(row, row + together), found
