"""Arrays of a store, straight from and to their files: a slice costs what its chunks cost.

Zarr's own reader takes two milliseconds for any slice, ten times as long as reading and decoding
the chunks of a one-second window, and its writer compresses in threads of its own, so that Dask's
workers would add nothing. So the layout that `store.write` has is read and written here (Zarr v3
core specification, sharding codec of ZEP 2): chunks of rows with all their columns, alone in a
file or several in a shard, compressed by Blosc; text in one chunk. Zarr writes the metadata.
"""

import json
from pathlib import Path
from typing import Any, Final

import google_crc32c
import numpy as np
from jaxtyping import Shaped, UInt64
from numcodecs import blosc
from numcodecs.vlen import VLenUTF8
from numpy import ndarray

from neurofmx.errors import DataError

EMPTY = 2**64 - 1  # offset of a chunk that holds only the fill value and is not stored
ENTRY = 16  # bytes of a chunk's offset and length in the index of a shard
CHECKSUM = 4  # bytes of crc32c after the index
CNAME: Final = "zstd"  # of Blosc, with bit shuffle
CLEVEL = 5
BAD_CHUNK = (OSError, RuntimeError, ValueError)
blosc.use_threads = False  # the workers are Dask's


class StoredGroup:
    """A group of arrays and groups; metadata are read as they are asked for.

    Attributes:
        attrs: Of the group, as Zarr calls them.
    """

    def __init__(self, folder: Path):
        self.folder, self.attrs = folder, _metadata(folder)["attributes"]
        self._arrays: dict[str, StoredRows] = {}

    def __getitem__(self, name: str) -> "StoredRows":
        if name not in self._arrays:
            self._arrays[name] = StoredRows(self.folder / name)
        return self._arrays[name]

    def __contains__(self, name: str) -> bool:
        return (self.folder / name).is_dir()

    def groups(self) -> dict[str, "StoredGroup"]:
        """The groups in it, sorted by name."""
        return {p.name: StoredGroup(p) for p in sorted(self.folder.iterdir()) if p.is_dir()}


class StoredRows:
    """Rows of an array, decoded chunk by chunk as they are sliced.

    Raises:
        DataError: A chunk is damaged.
    """

    def __init__(self, folder: Path):
        metadata = _metadata(folder)
        codec, text = metadata["codecs"][0], metadata["data_type"] == "string"
        self.shape, self.attrs = tuple(metadata["shape"]), metadata["attributes"]
        self.dtype = np.dtype(object if text else metadata["data_type"])
        self._folder, self._fill = folder, metadata["fill_value"]
        self._rows = metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
        self._in_shard = 0  # chunks; 0 where each has its own file
        if codec["name"] == "sharding_indexed":
            rows = codec["configuration"]["chunk_shape"][0]
            self._rows, self._in_shard = rows, self._rows // rows
        self._indices: dict[int, UInt64[ndarray, "chunk 2"]] = {}
        self._last: tuple[int, ndarray | None] = (-1, None)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Shaped[ndarray, "row ..."]:
        first, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"rows are read in order, not in steps of {step}; slice the result")
        out = np.empty((max(0, stop - first), *self.shape[1:]), self.dtype)
        for k in range(first // self._rows, -(-stop // self._rows) if stop > first else 0):
            begin = k * self._rows
            low, high = max(first, begin), min(stop, begin + self._rows)
            chunk = self._chunk(k)
            out[low - first : high - first] = (
                self._fill if chunk is None else chunk[low - begin : high - begin]
            )
        return out

    def write_shard(self, first: int, values: Shaped[ndarray, "row ..."]) -> None:
        """Write the shard that begins at row `first`; several may be written side by side.

        Args:
            values: Its rows, fewer at the end of the array. The fill value is 0.
        """
        index = np.full((self._in_shard, 2), EMPTY, "<u8")
        chunks, offset = [], 0
        for place, begin in enumerate(range(0, len(values), self._rows)):
            rows = values[begin : begin + self._rows]
            if not rows.any():
                continue
            chunk = np.ascontiguousarray(rows, self.dtype)
            if len(rows) < self._rows:
                chunk = np.zeros((self._rows, *self.shape[1:]), self.dtype)
                chunk[: len(rows)] = rows
            chunks.append(blosc.compress(chunk, CNAME.encode(), CLEVEL, blosc.BITSHUFFLE))
            index[place] = offset, len(chunks[-1])
            offset += len(chunks[-1])
        if chunks:
            checksum = google_crc32c.value(index.tobytes()).to_bytes(CHECKSUM, "little")
            path = Path(self._file(first // (self._rows * self._in_shard)))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"".join([*chunks, index.tobytes(), checksum]))

    def _chunk(self, k: int) -> Shaped[ndarray, "row ..."] | None:
        """Chunk k, or None where it holds only the fill value; windows in order share chunks."""
        last, chunk = self._last
        if last != k:
            try:
                chunk = self._decoded(k)
            except FileNotFoundError:
                chunk = None
            except BAD_CHUNK as error:
                raise DataError(f"{self._folder}: chunk {k} is damaged: {error}") from error
            self._last = (k, chunk)
        return chunk

    def _decoded(self, k: int) -> Shaped[ndarray, "row ..."] | None:
        stored = self._of_shard(k) if self._in_shard else Path(self._file(k)).read_bytes()
        if stored is None:
            return None
        if self.dtype == object:
            return VLenUTF8().decode(stored)
        return np.frombuffer(blosc.decompress(stored), self.dtype).reshape(-1, *self.shape[1:])

    def _of_shard(self, k: int) -> bytes | None:
        shard, place = divmod(k, self._in_shard)
        with open(self._file(shard), "rb", buffering=0) as file:
            if shard not in self._indices:
                self._indices[shard] = self._index(file)
            offset, length = self._indices[shard][place].tolist()
            if offset == EMPTY:
                return None
            file.seek(offset)
            return file.read(length)

    def _index(self, file: Any) -> UInt64[ndarray, "chunk 2"]:
        size = self._in_shard * ENTRY
        file.seek(-size - CHECKSUM, 2)
        index, checksum = file.read(size), file.read(CHECKSUM)
        if google_crc32c.value(index) != int.from_bytes(checksum, "little"):
            raise ValueError("the index of its shard has another checksum")
        return np.frombuffer(index, "<u8").reshape(-1, 2).astype(np.uint64)

    def _file(self, k: int) -> str:
        return f"{self._folder}/c/{k}" + "/0" * (len(self.shape) - 1)


def _metadata(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "zarr.json").read_bytes())
