"""Short stretches of a stored recording: only the chunks that a stretch touches are read.

    slices = Slices(path)
    window = slices.read(12.5, 13.5)  # a Recording: every signal in [12.5, 13.5)

Events and irregular samples are found through the index that is stored with them, of the first
one at or after each second; their times are not searched from the start.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from neurofmx.data import store
from neurofmx.data.stored import StoredGroup
from neurofmx.types import Events, Intervals, Recording, Samples, Signal

EXACT = 1e-6  # samples; a start this close to a sample includes it, a stop does not


class Slices:
    """A stored recording, for reading stretches of it in any order. No file stays open.

    Args:
        path: Folder `<recording>.zarr` of ingest or align.

    Raises:
        DataError: There is no recording there, or it was written by another schema.
    """

    def __init__(self, path: Path):
        group = store.open_stored(path)
        self._attrs = group.attrs
        self._signals = {name: _Signal(g) for name, g in group.groups().items()}

    def read(self, start: float, stop: float) -> Recording:
        """Samples and events in [start, stop), and the intervals that reach into it.

        Args:
            start: On the recording's clock (s), like `stop`.
        """
        signals = {name: signal.read(start, stop) for name, signal in self._signals.items()}
        return store.recording_of(self._attrs, signals)


class _Signal:
    """One signal; what is small or asked for every time is kept."""

    def __init__(self, group: StoredGroup):
        self._group, self._attrs = group, group.attrs
        self._kept: dict[str, Any] = {}
        self._common = {k: self._attrs[k] for k in ("modality", "source")}

    def read(self, start: float, stop: float) -> Signal:
        """The part of it in [start, stop)."""
        kind = self._attrs["kind"]
        if kind == "samples":
            return self._samples(start, stop)
        return self._events(start, stop) if kind == "events" else self._intervals(start, stop)

    def _samples(self, start: float, stop: float) -> Samples:
        rate, t0, unit = (self._attrs[k] for k in ("rate", "t0", "unit"))
        group, times = self._group, None
        if rate is None:
            rows, times = self._between("times", start, stop)
        else:
            places = np.ceil((np.array([start, stop]) - t0) * rate - EXACT)
            rows = slice(*np.clip(places, 0, len(group["values"])).astype(int).tolist())
            t0 += rows.start / rate
        mask = group["mask"][rows] if "mask" in group else None
        values = store.values_of(group)[rows]
        return Samples(values, unit, rate, t0, times, mask, self._table, **self._common)

    def _events(self, start: float, stop: float) -> Events:
        rows, times = self._between("event_times", start, stop)
        return Events(times, self._group["unit"][rows], self._table, **self._common)

    def _intervals(self, start: float, stop: float) -> Intervals:
        begin, end = self._whole("start"), self._whole("stop")
        rows = (begin < stop) & (end > start)
        table = self._table[rows].reset_index(drop=True)
        return Intervals(begin[rows], end[rows], table, **self._common)

    def _between(
        self, name: str, start: float, stop: float
    ) -> tuple[slice, Float[ndarray, " time"]]:
        """The rows with a time in [start, stop), and these times."""
        first, times = self._whole("second_first"), self._group[name]
        at = np.array([np.floor(start), np.ceil(stop)]) - self._group["second_first"].attrs["start"]
        low, high = np.clip(at, 0, len(first)).astype(int).tolist()
        low = int(first[low]) if low < len(first) else len(times)
        high = int(first[high]) if high < len(first) else len(times)
        near = times[low:high]
        a, b = np.searchsorted(near, (start, stop)).tolist()
        return slice(low + a, low + b), near[a:b]

    @property
    def _table(self) -> pd.DataFrame:
        if "table" not in self._kept:
            self._kept["table"] = store.table_of(self._group)
        return self._kept["table"]

    def _whole(self, name: str) -> Any:
        if name not in self._kept:
            self._kept[name] = self._group[name][:]
        return self._kept[name]
