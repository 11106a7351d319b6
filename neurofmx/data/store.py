"""A recording as a Zarr v3 folder that xarray opens without any code of ours.

    <recording>.zarr           attributes: id, subject, species, dataset, key, schema, provenance
        <signal>/              attributes: kind, modality, unit, rate, t0, source
            values             time × channel (samples); integers with `scale_factor`, `add_offset`
            times, mask        time, where irregular; where there are gaps
            event_times, unit  event
            second_first       second: first event, or irregular sample, at or after `start` + k
            start, stop        interval
            table_<column>     one array per column of the signal's table

Chunks hold a second (and at least 1024 samples), shards a minute, so a short window costs one
small read and a store has few files. Shards are written by Dask, side by side where its
configuration gives it workers; bytes do not depend on how many. Integers stay integers and carry
their scale as the CF conventions say, which xarray applies by itself. Written under a temporary
name and renamed: a store that is there is whole.
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

from neurofmx.data.arrays import Scaled
from neurofmx.data.stored import StoredGroup
from neurofmx.data.storing import copy, put, put_times
from neurofmx.errors import DataError
from neurofmx.types import (
    AlignedRecording,
    Clock,
    Events,
    Intervals,
    Piece,
    Recording,
    Samples,
    Signal,
)

SCHEMA = 2
BLOCK_BYTES = 64 * 2**20  # read at a time by `Buffered`
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
    group = open_stored(path)
    signals = {name: _read_signal(signal) for name, signal in group.groups().items()}
    return recording_of(group.attrs, signals)


def open_stored(path: Path) -> StoredGroup:
    """The arrays at `path`.

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
    return StoredGroup(path)


def recording_of(attributes: dict[str, Any], signals: dict[str, Signal]) -> Recording:
    """A recording from the attributes of its store and its signals."""
    fields = {k: attributes[k] for k in ("id", "subject", "species", "dataset", "provenance")}
    if "clocks" not in attributes:
        return Recording(signals=signals, **fields)
    clocks = {name: _clock(**clock) for name, clock in attributes["clocks"].items()}
    return AlignedRecording(signals=signals, clocks=clocks, **fields)


def _clock(later: list[dict[str, float]], **line: Any) -> Clock:
    return Clock(**line, later=tuple(Piece(**piece) for piece in later))


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
        copy(group, "values", signal.values, signal.rate, ("time", "channel"))
        if signal.times is not None:
            put_times(group, "times", signal.times, "time")
        if signal.mask is not None:
            copy(group, "mask", signal.mask, None, ("time",))
        _write_table(group, signal.channels, "channel")
    elif isinstance(signal, Events):
        group = root.create_group(name, attributes=attributes | {"kind": "events"})
        put_times(group, "event_times", signal.times, "event")
        copy(group, "unit", signal.index.astype(np.int32), None, ("event",))
        _write_table(group, signal.units, "source")
    else:
        group = root.create_group(name, attributes=attributes | {"kind": "intervals"})
        put(group, "start", signal.start, "interval")
        put(group, "stop", signal.stop, "interval")
        _write_table(group, signal.columns, "interval")


def _read_signal(group: StoredGroup) -> Signal:
    attributes, table = group.attrs, table_of(group)
    kind, common = attributes["kind"], {k: attributes[k] for k in ("modality", "source")}
    if kind == "samples":
        times, mask = (group[p][:] if p in group else None for p in ("times", "mask"))
        rate, t0, unit = (attributes[k] for k in ("rate", "t0", "unit"))
        return Samples(values_of(group), unit, rate, t0, times, mask, table, **common)
    if kind == "events":
        return Events(group["event_times"][:], group["unit"][:], table, **common)
    return Intervals(group["start"][:], group["stop"][:], table, **common)


def values_of(group: StoredGroup) -> Any:
    """The samples on disk, in their unit."""
    array = group["values"]
    if "scale_factor" not in array.attrs:
        return array
    return Scaled(array, array.attrs["scale_factor"], array.attrs["add_offset"])


def _write_table(group: zarr.Group, table: pd.DataFrame, dimension: str) -> None:
    group.attrs["columns"] = list(table.columns)
    group.attrs["rows"] = len(table)
    for column in table.columns:
        values = table[column].to_numpy()
        if values.dtype == object:
            values = np.array(["" if pd.isna(v) else str(v) for v in values], dtype=str)
        put(group, TABLE + column, values, dimension)


def table_of(group: StoredGroup) -> pd.DataFrame:
    """The table of a signal."""
    columns = {column: group[TABLE + column][:] for column in group.attrs["columns"]}
    return pd.DataFrame(columns, index=range(group.attrs["rows"]))
