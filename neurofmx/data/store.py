"""A recording as a Zarr v3 folder that xarray opens without any code of ours.

    <recording>.zarr           attributes: id, subject, species, dataset, key, schema, provenance
        <signal>/              attributes: kind, modality, unit, rate, t0, source
            values             time × channel (samples)
            times, mask        time, where irregular; where there are gaps
            event_times, unit  event, with `second_first` [second]: first event at or after t0 + k
            start, stop        interval
            table_<column>     one array per column of the signal's table

Chunks hold a second (and at least 1024 samples), shards a minute, so a short window costs one
small read and a store has few files. Written under a temporary name and renamed: a store that is
there is whole.
"""

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import BloscCodec

from neurofmx.errors import DataError
from neurofmx.types import AlignedRecording, Clock, Events, Intervals, Recording, Samples, Signal

SCHEMA = 1
CHUNK_SECONDS = 1.0
CHUNK_ROWS = 1024  # at least: a slow signal in chunks of a second would be all overhead
SHARD_CHUNKS = 60
BLOCK_BYTES = 64 * 2**20  # copied at a time, so memory does not grow with the recording
TABLE = "table_"


def write(recording: Recording, path: Path, key: str) -> None:
    """Write a recording to `path`, all or nothing.

    Args:
        recording: Signals may hold arrays on disk; they are copied block by block.
        path: Folder `<recording>.zarr`; an older one is replaced.
        key: Hash of everything that the content depends on, for `read_key`.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    attributes = {
        "id": recording.id,
        "subject": recording.subject,
        "species": recording.species,
        "dataset": recording.dataset,
        "schema": SCHEMA,
        "key": key,
        "provenance": recording.provenance,
    }
    if isinstance(recording, AlignedRecording):
        attributes["clocks"] = {name: asdict(clock) for name, clock in recording.clocks.items()}
    try:
        root = zarr.create_group(temporary, attributes=attributes)
        for name, signal in recording.signals.items():
            _write_signal(root, name, signal)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read(path: Path) -> Recording:
    """The recording at `path`; sample values stay on disk until they are sliced.

    What align wrote comes back as an `AlignedRecording`.

    Raises:
        DataError: There is no recording there, or it was written by another schema.
    """
    attributes = _attributes(path)
    if attributes is None:
        raise DataError(f"{path} holds no recording; run the stage that writes it")
    if attributes["schema"] != SCHEMA:
        raise DataError(
            f"{path} has schema {attributes['schema']}, this version reads {SCHEMA}; re-run ingest"
        )
    root = zarr.open_group(path, mode="r")
    signals = {name: _read_signal(group) for name, group in sorted(root.groups())}
    fields = {k: attributes[k] for k in ("id", "subject", "species", "dataset", "provenance")}
    if "clocks" not in attributes:
        return Recording(signals=signals, **fields)
    clocks = {name: Clock(**clock) for name, clock in attributes["clocks"].items()}
    return AlignedRecording(signals=signals, clocks=clocks, **fields)


class Buffered:
    """Rows of an array on disk, read a block at a time: many short windows cost one read.

    Args:
        array: Time × channel.
    """

    def __init__(self, array: Any):
        self.shape, self.dtype, self._array = array.shape, array.dtype, array
        row = max(1, int(np.prod(array.shape[1:])) * array.dtype.itemsize)
        self._rows = max(1, BLOCK_BYTES // row)
        self._first, self._block = 0, np.zeros((0, *array.shape[1:]), array.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        first, stop, _ = rows.indices(len(self))
        if first < self._first or stop > self._first + len(self._block):
            self._first = first
            self._block = self._array[first : max(stop, first + self._rows)]
        return self._block[first - self._first : stop - self._first]


def read_aligned(path: Path) -> AlignedRecording:
    """The recording at `path`, which must be on one clock.

    Raises:
        DataError: It has not been aligned.
    """
    recording = read(path)
    if not isinstance(recording, AlignedRecording):
        raise DataError(f"{path} is not on one clock; run `neurofmx align` first")
    return recording


def buffered(recording: AlignedRecording) -> AlignedRecording:
    """The recording with its samples read in blocks, for going through it in time order."""
    signals = {
        name: replace(s, values=Buffered(s.values)) if isinstance(s, Samples) else s
        for name, s in recording.signals.items()
    }
    return replace(recording, signals=signals)


def read_key(path: Path) -> str | None:
    """The key that `write` was given, or None where there is no whole recording."""
    attributes = _attributes(path)
    return None if attributes is None else attributes.get("key")


def _attributes(path: Path) -> dict[str, Any] | None:
    metadata = path / "zarr.json"
    return json.loads(metadata.read_text())["attributes"] if metadata.exists() else None


def _write_signal(root: zarr.Group, name: str, signal: Signal) -> None:
    attributes: dict[str, Any] = {"modality": signal.modality, "source": signal.source}
    if isinstance(signal, Samples):
        attributes |= {"kind": "samples", "unit": signal.unit, "rate": signal.rate, "t0": signal.t0}
        group = root.create_group(name, attributes=attributes)
        _copy(group, "values", signal.values, signal.rate, ("time", "channel"))
        for part in ("times", "mask"):
            if getattr(signal, part) is not None:
                _put(group, part, getattr(signal, part), "time")
        _write_table(group, signal.channels, "channel")
    elif isinstance(signal, Events):
        first, _ = signal.span
        t0 = float(np.floor(first))
        group = root.create_group(name, attributes=attributes | {"kind": "events", "t0": t0})
        _put(group, "event_times", signal.times, "event")
        _put(group, "unit", signal.index.astype(np.int32), "event")
        seconds = np.arange(t0, signal.span[1] + 1.0)
        _put(group, "second_first", np.searchsorted(signal.times, seconds), "second")
        _write_table(group, signal.units, "source")
    else:
        group = root.create_group(name, attributes=attributes | {"kind": "intervals"})
        _put(group, "start", signal.start, "interval")
        _put(group, "stop", signal.stop, "interval")
        _write_table(group, signal.columns, "interval")


def _read_signal(group: Any) -> Signal:
    attributes = dict(group.attrs)
    kind = attributes.pop("kind")
    common = {"modality": attributes["modality"], "source": attributes["source"]}
    table = _read_table(group)
    if kind == "samples":
        parts = {part: group[part][:] for part in ("times", "mask") if part in group}
        rate, t0, unit = (attributes[k] for k in ("rate", "t0", "unit"))
        return Samples(group["values"], unit, rate, t0, channels=table, **parts, **common)
    if kind == "events":
        return Events(group["event_times"][:], group["unit"][:], table, **common)
    return Intervals(group["start"][:], group["stop"][:], table, **common)


def _codec() -> BloscCodec:
    return BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle")


def _put(group: zarr.Group, name: str, values: np.ndarray, dimension: str) -> None:
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


def _copy(group: zarr.Group, name: str, values: Any, rate: float | None, dims: tuple) -> None:
    """A long array, block by block, chunked by the second and sharded by the minute."""
    n, channels = values.shape
    chunk = max(CHUNK_ROWS, round(CHUNK_SECONDS * (rate or 0.0)))
    array = group.create_array(
        name,
        shape=(n, channels),
        chunks=(chunk, channels),
        shards=(chunk * SHARD_CHUNKS, channels),
        dtype=values.dtype,
        compressors=_codec(),
        dimension_names=list(dims),
    )
    shard = chunk * SHARD_CHUNKS
    shards_at_once = max(1, BLOCK_BYTES // max(1, shard * channels * values.dtype.itemsize))
    for first in range(0, n, shard * shards_at_once):
        rows = slice(first, min(n, first + shard * shards_at_once))
        array[rows] = values[rows]


def _write_table(group: zarr.Group, table: pd.DataFrame, dimension: str) -> None:
    group.attrs["columns"] = list(table.columns)
    group.attrs["rows"] = len(table)
    for column in table.columns:
        values = table[column].to_numpy()
        if values.dtype == object:
            values = np.array(["" if pd.isna(v) else str(v) for v in values], dtype=str)
        _put(group, TABLE + column, values, dimension)


def _read_table(group: Any) -> pd.DataFrame:
    columns = {}
    for column in group.attrs["columns"]:
        values = group[TABLE + column][:]
        columns[column] = values.astype(object) if values.dtype.kind == "T" else values
    return pd.DataFrame(columns, index=range(group.attrs["rows"]))
