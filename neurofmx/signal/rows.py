"""Rows that are computed where they are sliced, so that a long recording never lies in memory.

Such an array has `shape`, `dtype`, `mask` and slices, and can be pickled; it holds its source,
which is anything with the same three (an array, an HDF5 or Zarr data set, another lazy array).
A row depends on a bounded neighbourhood of the source alone, read as one contiguous slice, and
comes out in the same bits however the array is sliced.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped
from numpy import ndarray

BLOCK_BYTES = 64 * 2**20


class LazyRows:
    """Time × channel, computed by `rows`.

    Attributes:
        shape: Rows, channels.
        mask: False where nothing was recorded; the values there are 0.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    mask: Bool[ndarray, " time"]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Shaped[ndarray, "time channel"]:
        first, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"rows are read in order, not in steps of {step}; slice the result")
        if stop <= first:
            return np.zeros((0, self.shape[1]), self.dtype)
        return self._rows(first, stop)

    def _rows(self, first: int, stop: int) -> Shaped[ndarray, "time channel"]:
        raise NotImplementedError


def floating(dtype: np.dtype) -> np.dtype:
    """What values between samples are held in: float32 stays, int16 becomes float32."""
    return np.result_type(dtype, np.float32)


def finite_rows(values: Any, block_bytes: int = BLOCK_BYTES) -> Bool[ndarray, " time"]:
    """Which rows hold neither NaN nor infinity, read a block at a time.

    Args:
        values: Time × channel, anything with `shape`, `dtype` and slices.
        block_bytes: Read at once.
    """
    n, channels = values.shape
    mask = np.ones(n, bool)
    if values.dtype.kind == "f":
        rows = max(1, block_bytes // max(1, channels * values.dtype.itemsize))
        for k in range(0, n, rows):
            block = slice(k, min(n, k + rows))
            mask[block] = np.isfinite(values[block]).all(axis=1)
    return mask


def stretches(mask: Bool[ndarray, " time"]) -> list[tuple[int, int]]:
    """[start, stop) of each run of true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
