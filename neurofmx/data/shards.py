"""Windows as stock WebDataset tars that are read by byte range.

    <split>-%06d.tar    per window: <key>.json and, in .npy, <key>.<signal>.values / .mask, or
                        .events / .units of one that is tokenized per event, and
                        <key>.<task>.target / .times / .asked; never pickle
    index.parquet       per window: key, recording, split, start, stop (s), signals, sizes (samples
                        of each), tokens, and where its bytes are: layout, shard, offset, length,
                        crc32c
    layouts.json        where the arrays begin in windows that share their names, types and shapes
    signals.json        per input signal: modality, tokenizer, dt (s), grid, stabilise, and patch
                        (samples of a token)
    channels.parquet    per recording, signal and channel: mean and scale over the train windows,
                        region and position
    tasks.json          per task: kind, classes, and mean, scale and count over the train windows

`webdataset` reads the tars as they are. We read a window as `length` bytes at `offset`, so any
order costs the same, and hold it to its checksum: from files when a process reads it first, over
a network whenever it is read.
"""

import io
import json
from collections.abc import Collection, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from google_crc32c import value as crc32c
from jaxtyping import Bool, Int32, Int64, UInt8
from numpy import ndarray

from neurofmx.data.samples import Layout, unpack
from neurofmx.data.samples import Sample as Sample
from neurofmx.data.shard_files import Range, open_files
from neurofmx.data.shard_index import FILE, Codes, Index
from neurofmx.data.shard_writer import ShardWriter as ShardWriter
from neurofmx.errors import DataError, UserError

Position = int | np.integer
MEND = "copy the folder anew, or run `neurofmx tokenize` again"


class Places(NamedTuple):
    """Where each window is, in columns as small as they can be."""

    shard: ndarray
    shards: list[str]
    offset: ndarray
    length: ndarray
    crc32c: ndarray
    layout: ndarray


class Packed(NamedTuple):
    """The bytes of a window, and its layout where many windows share it."""

    content: UInt8[ndarray, " byte"]
    layout: Layout | None


class Shards:
    """Windows of a `storage/tokenize` folder, by position in its index.

    Each column of the index is read when it is first needed, and kept as small numbers: millions
    of windows cost no more than that.

    Args:
        folder: A path, or a URL that fsspec knows.
        cache_mb: Of windows from a URL that are kept in memory (MB).

    Raises:
        UserError: The folder has no index, or one of another version.
    """

    def __init__(self, folder: Path | str, cache_mb: float = 512.0):
        self.folder, self.cache_mb = folder, cache_mb
        self._files = open_files(folder, int(cache_mb * 2**20))
        try:
            source = self._files.source(FILE)
        except FileNotFoundError:
            raise UserError(
                f"{folder}/{FILE} does not exist: run `neurofmx tokenize` first"
            ) from None
        self._index = Index(source, f"{folder}/{FILE}")

    def __len__(self) -> int:
        return len(self._index)

    def __reduce__(self) -> tuple:
        """A worker process opens the folder itself; it must find the same windows there."""
        return _reopened, (self.folder, self.cache_mb, self.index_hash)

    def __getitem__(self, position: Position) -> Sample:
        """A window.

        Raises:
            DataError: Its shard is missing, cut off or changed; names shard, offset and window.
            TransientError: The network failed, again and again.
        """
        places, wanted = self._places, self._range(position)
        written, layout = places.crc32c.item(position), places.layout.item(position)
        found = self._packed(int(position), wanted, written, layout, self._sound.item(position))
        if isinstance(found, DataError):
            raise found
        return unpack(*found)

    def read(self, positions: Iterable[Position]) -> list[Packed | DataError]:
        """The bytes of windows and their layouts; what is wrong with one that cannot be read.

        Raises:
            TransientError: The network failed, again and again.
        """
        rows, places = np.fromiter(positions, np.int64), self._places
        columns = (places.offset, places.length, places.crc32c, places.layout, self._sound)
        offsets, lengths, *others = (column[rows].tolist() for column in columns)
        shards = (places.shards[shard] for shard in places.shard[rows].tolist())
        wanted = list(map(Range, shards, offsets, lengths))
        if len(wanted) > 1:
            self._files.fetch(wanted)
        return list(map(self._packed, rows.tolist(), wanted, *others))

    def _packed(
        self, position: int, wanted: Range, written: int, layout: int, sound: bool
    ) -> Packed | DataError:
        try:
            content = self._files.read(wanted)
        except FileNotFoundError:
            return self._damage(position, "the shard is missing")
        if len(content) != wanted.length:
            return self._damage(position, f"the shard ends after {len(content)} of them")
        if not sound:
            found = crc32c(content)
            if found != written:
                return self._damage(position, f"its checksum is {found:08x}, not {written:08x}")
            self._sound[position] = self._files.steady
        return Packed(content, self._layouts[layout] if layout >= 0 else None)

    def fetch(self, positions: Iterable[Position]) -> None:
        """Have windows at hand that will be read next: over a network in few requests at a time.

        It never fails for a window that cannot be read: reading it does.
        """
        self._files.fetch(map(self._range, positions))

    def load(self) -> None:
        """Read now what windows are found by, so that processes forked from here share it."""
        _ = self._places, self._layouts, self._sound

    @cached_property
    def name(self) -> str:
        """Of the data set, or of the folder where no stage has signed it."""
        return self._signed.get("dataset", str(self.folder).rstrip("/").rpartition("/")[2])

    @cached_property
    def trained_on(self) -> list[str]:
        """Recordings with a train part that the card does not keep for adapt."""
        codes, labels = self.recordings
        there = {labels[code] for code in np.unique(codes[self.positions("train")])}
        return [r for r in labels if r in there and r not in self._signed.get("adapt", ())]

    @cached_property
    def _signed(self) -> dict[str, Any]:
        """What the stage left of the whole; nothing where there was no stage."""
        try:
            return json.loads(self._files.whole("manifest.json"))
        except FileNotFoundError:
            return {}

    @cached_property
    def index_hash(self) -> str:
        """Changes when any window does: the index holds the checksum of each."""
        return self._index.digest()

    @cached_property
    def index(self) -> pd.DataFrame:
        """The whole table of windows, for analyses: of millions it takes gigabytes."""
        return self.columns().to_pandas()

    def columns(self, *names: str) -> pa.Table:
        """Some columns of the table of windows, or all of them."""
        return self._index.table(names)

    @cached_property
    def channels(self) -> pd.DataFrame:
        """A row per recording, signal and channel."""
        return pd.read_parquet(io.BytesIO(self._part("channels.parquet")))

    @cached_property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """What is asked, by name."""
        return json.loads(self._part("tasks.json"))

    @cached_property
    def signals(self) -> dict[str, dict[str, Any]]:
        """What the input signals are, by name."""
        return json.loads(self._part("signals.json"))

    @cached_property
    def tokens(self) -> Int32[ndarray, " window"]:
        """Tokens that each window will be, over all its signals."""
        return self._index.numbers("tokens").astype(np.int32, copy=False)

    @cached_property
    def recordings(self) -> Codes:
        """Recording of each window."""
        return self._index.codes("recording")

    @cached_property
    def splits(self) -> Codes:
        """Split of each window."""
        return self._index.codes("split")

    @cached_property
    def contents(self) -> Codes:
        """Names of the signals that each window holds, in order and with commas between."""
        return self._index.codes("signals")

    def positions(
        self, split: str, recordings: Collection[str] | None = None
    ) -> Int64[ndarray, " window"]:
        """Where the windows of a split (and of some recordings) stand in the index."""
        chosen = self.splits.rows([split])
        if recordings is not None:
            chosen &= self.recordings.rows(recordings)
        return np.flatnonzero(chosen)

    def keys(self, positions: Iterable[Position]) -> list[str]:
        """Keys of windows, in the order given."""
        return self._index.strings("key", np.fromiter(positions, np.int64))

    @cached_property
    def _places(self) -> Places:
        shard, shards = self._index.codes("shard")
        columns = {name: self._index.numbers(name) for name in Places._fields[2:]}
        return Places(shard, shards, **columns)

    @cached_property
    def _sound(self) -> Bool[ndarray, " window"]:
        """True for windows that need no checksum any more: this process has seen it once."""
        return np.full(len(self), False)  # its pages at once, not one by one as windows are read

    @cached_property
    def _layouts(self) -> list[Layout]:
        return [Layout.of(content) for content in json.loads(self._part("layouts.json"))]

    def _range(self, position: Position) -> Range:
        places = self._places
        shard = places.shards[places.shard.item(position)]
        return Range(shard, places.offset.item(position), places.length.item(position))

    def _part(self, name: str) -> bytes:
        """A file that lies beside the index."""
        try:
            return self._files.whole(name)
        except FileNotFoundError:
            raise DataError(f"{self.folder}/{name} is missing beside {FILE}; {MEND}") from None

    def _damage(self, position: Position, found: str) -> DataError:
        wanted, (key,) = self._range(position), self.keys([position])
        return DataError(
            f"{self.folder}/{wanted.shard} at offset {wanted.offset}: window {key!r} of "
            f"{wanted.length} bytes cannot be read: {found}. {MEND.capitalize()}"
        )


def _reopened(folder: Path | str, cache_mb: float, index_hash: str) -> Shards:
    shards = Shards(folder, cache_mb)
    if shards.index_hash != index_hash:
        raise UserError(
            f"{folder}/{FILE} has changed since it was opened, so its windows are no longer those "
            "that were chosen; let `neurofmx tokenize` end, then start again"
        )
    return shards
