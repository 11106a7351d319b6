"""Views of arrays that stay on disk: time × channel, converted as rows are read.

Each has `shape`, `dtype`, a length and slices of rows, as `Samples.values` needs.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Shaped
from numpy import ndarray

from neurofmx.errors import DataError


class Rows:
    """A view of time × channel; subclasses say what a block of stored rows becomes."""

    shape: tuple[int, int]
    dtype: np.dtype

    def __init__(self, stored: Any):
        self.stored = stored

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Shaped[ndarray, "time channel"]:
        try:
            return self.convert(np.asarray(self.stored[rows]))
        except OSError as error:  # of a damaged chunk; HDF5 tells no more
            name = getattr(self.stored, "name", "values")
            raise DataError(f"{name}: rows {rows} cannot be read: {error}") from error

    def convert(self, block: ndarray) -> Shaped[ndarray, "time channel"]:
        """What a block of stored rows means."""
        raise NotImplementedError


class Plain(Rows):
    """Stored rows as time × channel: one channel gets its axis, images lose theirs."""

    def __init__(self, stored: Any):
        super().__init__(stored)
        self.shape = (stored.shape[0], int(np.prod(stored.shape[1:])))
        kind = stored.dtype.kind
        self.dtype = np.dtype(np.uint8) if kind == "b" else stored.dtype.newbyteorder("=")

    def convert(self, block: ndarray) -> Shaped[ndarray, "time channel"]:
        """The block with two axes."""
        return block.reshape(len(block), self.shape[1]).astype(self.dtype, copy=False)


class Scaled(Rows):
    """stored · scale + offset: integers that stand for a physical unit.

    A store keeps the integers and the two numbers, as the CF conventions do, so that nothing is
    blown up to floats on the way to disk. Per-channel scales are converted there.

    Args:
        stored: Time × channel.
        scale: One number, or one per channel.
        offset: In the unit after scaling.
    """

    def __init__(self, stored: Any, scale: float | ndarray, offset: float = 0.0):
        super().__init__(stored)
        self.scale, self.offset, self.shape = scale, offset, stored.shape
        small = stored.dtype.itemsize <= 2 or stored.dtype == np.float32
        self.dtype = np.dtype(np.float32 if small else np.float64)

    @property
    def packed(self) -> bool:
        """True where integers and two numbers say it all."""
        return np.ndim(self.scale) == 0 and self.stored.dtype.kind in "iu"

    def convert(self, block: ndarray) -> Shaped[ndarray, "time channel"]:
        """The block in its unit."""
        values = np.multiply(block, np.asarray(self.scale, self.dtype), dtype=self.dtype)
        return values if self.offset == 0.0 else np.add(values, self.offset, out=values)


class Columns(Rows):
    """Some columns of an array; rows are still read contiguously.

    Args:
        stored: Time × channel.
        columns: Indices into its channels.
    """

    def __init__(self, stored: Any, columns: Int[ndarray, " channel"]):
        super().__init__(stored)
        self.columns, self.dtype = columns, stored.dtype
        self.shape = (stored.shape[0], len(columns))

    def convert(self, block: ndarray) -> Shaped[ndarray, "time channel"]:
        """The chosen columns."""
        return block[:, self.columns]


def scaled(stored: Any, scale: float | ndarray, offset: float = 0.0) -> Any:
    """`Scaled`, or the array itself where nothing is to be converted.

    Equal scales of all channels count as one.
    """
    scale = np.asarray(scale, np.float64)
    one = scale.size > 0 and bool(np.all(scale == scale.flat[0]))
    if one and scale.flat[0] == 1.0 and offset == 0.0:
        return stored
    return Scaled(stored, float(scale.flat[0]) if one else scale, float(offset))


class Masked(Rows):
    """An array with 0 where nothing was recorded.

    Args:
        stored: Time × channel.
        mask: False where the row is to be 0.
    """

    def __init__(self, stored: Any, mask: Bool[ndarray, " time"]):
        super().__init__(stored)
        self.mask, self.shape, self.dtype = mask, stored.shape, stored.dtype

    def __getitem__(self, rows: slice) -> Shaped[ndarray, "time channel"]:
        return np.where(self.mask[rows, None], super().__getitem__(rows), self.dtype.type(0))

    def convert(self, block: ndarray) -> Shaped[ndarray, "time channel"]:
        """The block as it is."""
        return block


class Placed:
    """Rows spread out over a grid, 0 where there is none.

    Args:
        stored: Time × channel.
        rows: Of `stored`, in order.
        places: On the grid, strictly increasing, one for each of `rows`.

    Attributes:
        mask: False where the grid has no row.
    """

    def __init__(self, stored: Any, rows: Int[ndarray, " row"], places: Int[ndarray, " row"]):
        self._stored, self._rows, self._places = stored, rows, places
        self.shape, self.dtype = (int(places[-1]) + 1, stored.shape[1]), stored.dtype
        self.mask = np.zeros(self.shape[0], bool)
        self.mask[places] = True

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Shaped[ndarray, "time channel"]:
        first, stop, _ = rows.indices(len(self))
        out = np.zeros((max(0, stop - first), self.shape[1]), self.dtype)
        low, high = np.searchsorted(self._places, (first, stop)).tolist()
        if low < high:
            mine = self._rows[low:high]
            block = np.asarray(self._stored[int(mine[0]) : int(mine[-1]) + 1])
            out[self._places[low:high] - first] = block[mine - mine[0]]
        return out
