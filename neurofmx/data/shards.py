"""Windows as stock WebDataset tars that are read by byte range.

    <split>-%06d.tar    per window: <key>.json and, in .npy, <key>.<signal>.values / .mask and
                        <key>.<task>.target / .times / .asked; never pickle
    index.parquet       per window: key, recording, split, start, stop (s), and where its bytes
                        are: shard, offset, length, sha256
    channels.parquet    per recording, signal and channel: mean and scale over the train windows
    tasks.json          per task: kind, classes, and mean and scale over the train windows

The same windows give the same bytes. `webdataset` reads the tars as they are; we read a window as
`length` bytes at `offset`, so any order costs the same.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy import ndarray

from neurofmx.errors import DataError, UserError

SHARD_BYTES = 64 * 2**20
CACHE_BYTES = 512 * 2**20  # windows kept in memory; a small data set is unpacked once


@dataclass(frozen=True)
class Sample:
    """One window as it lies in a shard.

    Attributes:
        key: Unique in the index; has no dot, since WebDataset splits names at the first.
        info: Recording, split, start, stop, duration of a sample by signal (s).
        arrays: By name and role, such as `spikes.values` or `velocity.target`.
    """

    key: str
    info: dict[str, Any]
    arrays: dict[str, ndarray]


class ShardWriter:
    """Append windows to `<split>-%06d.tar`; a shard is closed when it reaches `shard_bytes`."""

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES):
        self.folder, self.shard_bytes = folder, shard_bytes
        self.rows: list[dict[str, Any]] = []
        self._files: dict[str, Any] = {}
        self._counts: dict[str, int] = {}

    def write(self, sample: Sample) -> None:
        """Append one window to the shard of its split."""
        row = {k: sample.info[k] for k in ("recording", "split", "start", "stop")}
        self.append({"key": sample.key} | row, _pack(sample))

    def append(self, row: dict[str, Any], payload: bytes) -> None:
        """Append a window that is already packed, as `packed` gives it."""
        split = row["split"]
        file = self._files.get(split)
        if file is None or file.tell() + len(payload) > self.shard_bytes:
            file = self._next(split)
        place = {"shard": Path(file.name).name, "offset": file.tell(), "length": len(payload)}
        place["sha256"] = hashlib.sha256(payload).hexdigest()
        self.rows.append(row | place)
        file.write(payload)

    def close(self) -> pd.DataFrame:
        """End every shard and write `index.parquet`; returns the index."""
        for split in list(self._files):
            self._end(split)
        index = pd.DataFrame(self.rows)
        index.to_parquet(self.folder / "index.parquet", index=False)
        return index

    def _next(self, split: str) -> Any:
        self._end(split)
        number = self._counts[split] = self._counts.get(split, -1) + 1
        self._files[split] = open(self.folder / f"{split}-{number:06d}.tar", "wb")  # noqa: SIM115
        return self._files[split]

    def _end(self, split: str) -> None:
        file = self._files.pop(split, None)
        if file is not None:
            file.write(bytes(2 * tarfile.BLOCKSIZE))  # two empty blocks end a tar
            file.close()


def packed(folder: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Rows of a folder's index with the bytes of their windows, to be joined into other shards."""
    for row in pd.read_parquet(folder / "index.parquet").to_dict("records"):
        with (folder / row["shard"]).open("rb") as file:
            file.seek(row["offset"])
            yield row, file.read(row["length"])


class Shards:
    """Windows of a `storage/tokenize` folder, by position in its index.

    Raises:
        UserError: The folder has no index.
        DataError: A shard is missing or cut off; names the shard and the offset.
    """

    def __init__(self, folder: Path):
        if not (folder / "index.parquet").exists():
            raise UserError(f"{folder}/index.parquet does not exist: run `neurofmx tokenize` first")
        self.folder = folder
        self.index = pd.read_parquet(folder / "index.parquet")
        self.channels = pd.read_parquet(folder / "channels.parquet")
        self.tasks: dict[str, dict[str, Any]] = json.loads((folder / "tasks.json").read_text())
        self._read = lru_cache(maxsize=self._cached_windows())(self._unpacked)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: int) -> Sample:
        return self._read(position)

    def _unpacked(self, position: int) -> Sample:
        row = self.index.iloc[position]
        content = self._bytes(row.shard, int(row.offset), int(row.length))
        if hashlib.sha256(content).hexdigest() != row.sha256:
            raise DataError(
                f"window {row.key!r} in {self.folder / row.shard} at offset {row.offset} is not "
                "what the index says it was; run `neurofmx tokenize` again"
            )
        return _unpack(row.key, content)

    @property
    def index_hash(self) -> str:
        """Changes when any window does: the index holds the hash of each."""
        return hashlib.sha256((self.folder / "index.parquet").read_bytes()).hexdigest()

    def positions(self, split: str, recordings: list[str] | None = None) -> list[int]:
        """Where the windows of a split (and of some recordings) stand in the index."""
        chosen = self.index["split"] == split
        if recordings is not None:
            chosen &= self.index["recording"].isin(recordings)
        return np.flatnonzero(chosen).tolist()

    def _cached_windows(self) -> int:
        """How many windows, unpacked, fit in `CACHE_BYTES`."""
        return int(CACHE_BYTES // max(1.0, self.index["length"].mean())) if len(self) else 0

    def _bytes(self, shard: str, offset: int, length: int) -> bytes:
        path = self.folder / shard
        if not path.exists():
            raise DataError(
                f"{path} is missing, but the index names it; run `neurofmx tokenize` again"
            )
        with path.open("rb") as file:
            content = os.pread(file.fileno(), length, offset)
        if len(content) != length:
            raise DataError(
                f"{path} ends before offset {offset + length}: {len(content)} of "
                f"{length} bytes at {offset}. Delete the folder and run `neurofmx tokenize` again"
            )
        return content


def _pack(sample: Sample) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, f"{sample.key}.json", json.dumps(sample.info, sort_keys=True).encode())
        for name in sorted(sample.arrays):
            content = io.BytesIO()
            np.save(content, sample.arrays[name], allow_pickle=False)
            _add(tar, f"{sample.key}.{name}.npy", content.getvalue())
        return buffer.getvalue()  # before the tar is closed: the end blocks come once a shard


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _unpack(key: str, content: bytes) -> Sample:
    arrays, info = {}, {}
    with tarfile.open(fileobj=io.BytesIO(content + bytes(2 * tarfile.BLOCKSIZE))) as tar:
        for entry in tar:
            payload = content[entry.offset_data : entry.offset_data + entry.size]
            name = entry.name.removeprefix(f"{key}.")
            if name == "json":
                info = json.loads(payload)
            else:
                array = np.load(io.BytesIO(payload), allow_pickle=False)
                arrays[name.removesuffix(".npy")] = array
    return Sample(key, info, arrays)
