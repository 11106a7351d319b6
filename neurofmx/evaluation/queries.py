"""The instants at which a task is scored, read from the shards: the same for every method."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from neurofmx.data.shards import Shards


@dataclass(frozen=True)
class Queries:
    """Scored queries of a task in some windows, in the order of the windows.

    Attributes:
        window: Number of the window, in the order that they were given in.
        time: On the recording's clock (s).
        truth: In the target's own unit, angles in radians; for classes the class index in column 0.
    """

    window: Int[ndarray, " query"]
    time: Float[ndarray, " query"]
    truth: Float[ndarray, "query dim"]

    def __len__(self) -> int:
        return len(self.time)


def read_queries(shards: Shards, task: str, positions: list[int]) -> Queries:
    """The queries of `task` whose answers are defined."""
    parts = []
    for number, position in enumerate(positions):
        sample = shards[position]
        asked = sample.arrays[f"{task}.asked"]
        time = sample.info["start"] + sample.arrays[f"{task}.times"][asked]
        truth = sample.arrays[f"{task}.target"][asked].astype(float)
        parts.append((np.full(asked.sum(), number), time, truth))
    return Queries(*map(np.concatenate, zip(*parts, strict=True)))
