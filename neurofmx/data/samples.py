"""One window of a recording, and the bytes that it is in a shard.

A window is a run of files in a tar (POSIX ustar): `<key>.json`, then `<key>.<array>.npy` in the
order of their names. A file is a header of 512 bytes, its content, and zeros up to the next
multiple of 512; an .npy has its values at a multiple of 64 bytes. So arrays are views of the
window's bytes, and where they begin is a `Layout` that most windows of a recording share: what is
read then needs no header.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import orjson
from jaxtyping import UInt8
from numpy import ndarray
from numpy.lib import format as npy

from neurofmx.errors import DataError

BLOCK = tarfile.BLOCKSIZE  # bytes
LONGEST_NAME = 100  # characters of a file's name in a ustar header


@dataclass(frozen=True)
class Sample:
    """One window as it lies in a shard.

    Attributes:
        key: Unique in the index; has no dot, since WebDataset splits names at the first.
        info: Recording, split, start and stop (s), and `dt`: duration of a sample (s) of each
            signal that is sampled.
        arrays: By name and role. `<signal>.values` (time × channel) and, where something is
            missing, `.mask`; of a signal that is tokenized per event `.events` (s after start)
            and `.units` (row of the unit); `<task>.target`, `.times` (s after start), `.asked`.
            Those that were read are read-only.
    """

    key: str
    info: dict[str, Any]
    arrays: dict[str, ndarray]


class Place(NamedTuple):
    """Where an array lies in the bytes of a window."""

    offset: int
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Where everything lies in windows whose arrays have the same names, types and shapes.

    Attributes:
        head: Bytes up to the first array's header: those of the JSON.
        places: By name of the array.
    """

    head: int
    places: dict[str, Place]

    @classmethod
    def of(cls, content: dict[str, Any]) -> "Layout":
        """From what `plain` gave."""
        places = {n: Place(o, d, tuple(s)) for n, (o, d, s) in content["places"].items()}
        return cls(content["head"], places)

    def plain(self) -> dict[str, Any]:
        """For JSON: of each array its offset, type and shape."""
        return {"head": self.head, "places": self.places}

    @cached_property
    def record(self) -> np.dtype:
        """A window's arrays as fields; taking a field is numpy's fastest way to a view."""
        places = self.places.values()
        return np.dtype(
            {
                "names": list(self.places),
                "formats": [(place.dtype, tuple(place.shape)) for place in places],
                "offsets": [place.offset for place in places],
            }
        )

    def info(self, content: UInt8[ndarray, " byte"]) -> dict[str, Any]:
        """What the JSON of a window says."""
        return _info(content[: self.head].tobytes())

    def stacked(self, contents: Sequence[UInt8[ndarray, " byte"]]) -> dict[str, ndarray]:
        """The arrays of some windows, along a new first axis: views of one run of bytes."""
        joined = contents[0] if len(contents) == 1 else np.concatenate(contents)
        windows: ndarray = np.ndarray(
            len(contents), self.record, joined, strides=(len(contents[0]),)
        )
        return {name: windows[name] for name in self.places}


def pack(sample: Sample) -> bytes:
    """The bytes of a window; the same window gives the same bytes.

    Raises:
        DataError: A name is too long for a tar.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, f"{sample.key}.json", json.dumps(sample.info, sort_keys=True).encode())
        for name in sorted(sample.arrays):
            content = io.BytesIO()
            np.save(content, np.asarray(sample.arrays[name], order="C"), allow_pickle=False)
            _add(tar, f"{sample.key}.{name}.npy", content.getvalue())
        return buffer.getvalue()  # before the tar is closed: the end blocks come once a shard


def layout_of(content: bytes) -> Layout:
    """Where everything lies in a packed window."""
    (_, head, size), *files = _files(np.frombuffer(content, np.uint8))
    places = {}
    for name, offset, _ in files:
        start = _values(content, offset)
        dtype, shape = _npy_header(content[offset:start])
        places[name] = Place(start, dtype.str, shape)
    return Layout(head - (-size // BLOCK) * BLOCK, places)


def unpack(content: UInt8[ndarray, " byte"], layout: Layout | None) -> Sample:
    """The window whose bytes these are; without its layout they are walked through, header by
    header, which takes several times as long.
    """
    if layout is None:
        return _walked(content)
    head = content[: layout.head].tobytes()
    record: ndarray = np.ndarray((), layout.record, content)
    arrays = {name: record[name] for name in layout.places}
    return Sample(head.partition(b".")[0].decode(), _info(head), arrays)


def _walked(content: UInt8[ndarray, " byte"]) -> Sample:
    (_, start, size), *files = _files(content)
    head, arrays = content[: start + size].tobytes(), {}
    for name, offset, _ in files:
        start = _values(content, offset)
        dtype, shape = _npy_header(content[offset:start].tobytes())
        arrays[name] = np.ndarray(shape, dtype, content, start)
    return Sample(head.partition(b".")[0].decode(), _info(head), arrays)


def _info(head: bytes) -> dict[str, Any]:
    return orjson.loads(head[BLOCK:].partition(b"\0")[0])


def _files(content: UInt8[ndarray, " byte"]) -> Iterator[tuple[str, int, int]]:
    """Name (without the key and .npy), first byte and size of each file in a window."""
    at = 0
    while at < len(content):
        header = content[at : at + BLOCK].tobytes()
        name = header[:LONGEST_NAME].rstrip(b"\0").decode()
        size = int(header[124:135], 8)
        yield name.partition(".")[2].removesuffix(".npy"), at + BLOCK, size
        at += BLOCK - (-size // BLOCK) * BLOCK


def _values(content: bytes | ndarray, offset: int) -> int:
    """Where the values begin of an .npy file that begins at `offset`; 10 bytes are its preamble."""
    return offset + 10 + int(content[offset + 8]) + 256 * int(content[offset + 9])


@lru_cache(maxsize=2**14)  # few arrays differ in it, and parsing it is slow
def _npy_header(header: bytes) -> tuple[np.dtype, tuple[int, ...]]:
    """The type and shape that an .npy header states."""
    file = io.BytesIO(header)
    version = npy.read_magic(file)
    assert version == (1, 0), "pack writes no other"
    shape, _, dtype = npy.read_array_header_1_0(file)
    return dtype, shape


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    if len(name.encode()) > LONGEST_NAME:
        raise DataError(
            f"{name!r} is too long for a tar, which has {LONGEST_NAME} characters for it; shorten "
            "the name of the recording's file, or of the signal or task in the card"
        )
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
