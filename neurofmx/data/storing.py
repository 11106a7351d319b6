"""Arrays into a store: what a chunk and a shard hold, and how they are compressed.

Zarr makes the array and its metadata. Long arrays are then written shard by shard, side by side
where Dask's configuration gives it workers; bytes do not depend on how many.
"""

import math
from typing import Any

import dask
import numpy as np
import zarr
from zarr.codecs import BloscCodec
from zarr.storage import LocalStore

from neurofmx.data.arrays import Scaled
from neurofmx.data.stored import CLEVEL, CNAME, StoredRows
from neurofmx.errors import DataError

CHUNK_SECONDS = 1.0
CHUNK_ROWS = 1024  # at least: a slow signal in chunks of a second would be all overhead
CHUNK_EVENTS = 2**12  # times, sources or masks of a chunk: tens of microseconds to decode
SHARD_CHUNKS = 60
SHARD_EVENTS = 2**20
SHARD_BYTES = 64 * 2**20  # at most, uncompressed, so memory does not grow with the recording
LONGEST = 100 * 86_400.0  # s; times further apart are wrong, and their index would fill the disk


def _codec() -> BloscCodec:
    return BloscCodec(cname=CNAME, clevel=CLEVEL, shuffle="bitshuffle")


def put(group: zarr.Group, name: str, values: np.ndarray, dimension: str) -> None:
    """A short array in one chunk."""
    values = np.asarray(values)
    text = values.dtype.kind in "OUTS"
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=(max(1, len(values)),),
        dtype=str if text else values.dtype,
        compressors=None if text else _codec(),
        dimension_names=[dimension],
    )
    array[:] = values.astype(np.dtypes.StringDType()) if text else values


def put_times(group: zarr.Group, name: str, times: np.ndarray, dimension: str) -> None:
    """Times, and the row of the first one at or after each second, so that none is searched for."""
    copy(group, name, times, None, (dimension,))
    first, last = (times[0], times.max()) if len(times) else (0.0, 0.0)
    if last - first > LONGEST:
        raise DataError(
            f"{group.name}: times from {first:g} to {last:g} s span more than {LONGEST:g} s; "
            "mend the times in the source"
        )
    seconds = np.arange(np.floor(first), last + 1.0)
    put(group, "second_first", np.searchsorted(times, seconds), "second")
    group["second_first"].attrs["start"] = float(seconds[0])


def copy(group: zarr.Group, name: str, values: Any, rate: float | None, dims: tuple) -> None:
    """A long array, shard by shard, chunked by the second and sharded by the minute."""
    packed = isinstance(values, Scaled) and values.packed
    stored = values.stored if packed else values
    n, *columns = stored.shape
    chunk, shard = _layout(stored, rate)
    array = group.create_array(
        name,
        shape=stored.shape,
        chunks=(chunk, *columns),
        shards=(shard, *columns),
        dtype=stored.dtype,
        compressors=_codec(),
        dimension_names=list(dims),
        attributes={"scale_factor": values.scale, "add_offset": values.offset} if packed else {},
    )
    assert isinstance(array.store, LocalStore)
    target = StoredRows(array.store.root / array.path)
    work = dask.delayed(_copy_shard, pure=False)
    dask.compute(*[work(target, stored, first, shard) for first in range(0, n, shard)])


def _layout(values: Any, rate: float | None) -> tuple[int, int]:
    """Rows of a chunk and of a shard: a minute, or what fits in memory a few times."""
    if len(values.shape) == 1:
        chunk, most = CHUNK_EVENTS, SHARD_EVENTS // CHUNK_EVENTS
    else:
        chunk = max(CHUNK_ROWS, round(CHUNK_SECONDS * (rate or 0.0)))
        stored = chunk * values.shape[1] * values.dtype.itemsize
        most = int(np.clip(SHARD_BYTES // max(1, stored), 1, SHARD_CHUNKS))
    return chunk, chunk * min(most, max(1, math.ceil(values.shape[0] / chunk)))


def _copy_shard(target: StoredRows, values: Any, first: int, rows: int) -> None:
    target.write_shard(first, values[first : first + rows])
