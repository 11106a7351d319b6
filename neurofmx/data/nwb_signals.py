"""Signals from neurodata objects: what units, time series and interval tables hold, in SI units.

Sample values stay in the file and are converted as they are sliced; times and tables are small
and read at once. What cannot be trusted (NaN or backwards times, no units) is a `DataError`.
"""

import re
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from hdmf.common import DynamicTable, DynamicTableRegion, VectorData, VectorIndex
from jaxtyping import Float, Shaped
from numpy import ndarray
from pynwb import TimeSeries
from pynwb.epoch import TimeIntervals
from pynwb.misc import Units

from neurofmx.errors import DataError
from neurofmx.types import Events, Intervals, Samples, Signal

# Unit as files write it → SI unit and factor. Units that are not here are kept as written.
SI: dict[str, tuple[str, float]] = {
    **dict.fromkeys(("volts", "volt", "v"), ("V", 1.0)),
    **dict.fromkeys(("millivolts", "mv"), ("V", 1e-3)),
    **dict.fromkeys(("microvolts", "uv", "µv", "μv"), ("V", 1e-6)),
    **dict.fromkeys(("amperes", "ampere", "a"), ("A", 1.0)),
    **dict.fromkeys(("meters", "metres", "meter", "m"), ("m", 1.0)),
    **dict.fromkeys(("centimeters", "cm"), ("m", 1e-2)),
    **dict.fromkeys(("millimeters", "mm"), ("m", 1e-3)),
    **dict.fromkeys(("m/s", "meters/second", "meters/s"), ("m/s", 1.0)),
    **dict.fromkeys(("cm/s", "centimeters/second"), ("m/s", 1e-2)),
    **dict.fromkeys(("mm/s", "millimeters/second"), ("m/s", 1e-3)),
    **dict.fromkeys(("radians", "rad"), ("rad", 1.0)),
    **dict.fromkeys(("degrees", "deg"), ("rad", np.pi / 180)),
    **dict.fromkeys(("seconds", "second", "s"), ("s", 1.0)),
    **dict.fromkeys(("counts", "count", "spikes"), ("count", 1.0)),
}
EVEN = 1e-6  # timestamps this close to a regular grid, in samples, are regular

Stream: TypeAlias = TimeSeries | TimeIntervals | Units


def read_signal(stream: Stream, path: str, modality: str) -> Signal:
    """What a neurodata object holds, as the type that its kind and modality call for.

    Args:
        stream: From an open file; sample values stay there.
        path: Of the object inside its file.
        modality: A row of `MODALITIES`; `pulses` takes only the times.

    Raises:
        DataError: The content cannot be trusted; the message says what and where.
    """
    kind = Units if modality == "spikes" else TimeIntervals if modality == "trials" else TimeSeries
    pulses = modality == "pulses" and isinstance(stream, TimeIntervals)
    if not (isinstance(stream, kind) or pulses):
        raise DataError(f"is {type(stream).__name__}, which holds no {modality}; mend the card")
    if isinstance(stream, Units):
        return _spikes(stream, path)
    if modality == "pulses":
        return _pulses(stream, path)
    if isinstance(stream, TimeIntervals):
        return _intervals(stream, path)
    return _samples(stream, path, modality)


def _spikes(units: Units, path: str) -> Events:
    if len(units) == 0 or units.spike_times_index is None:
        raise DataError(f"zero units with spike times (of {len(units)} units); nothing to read")
    times = np.asarray(units.spike_times.data[:], dtype=np.float64)
    _check_finite(times, "spike_times")
    ends = np.asarray(units.spike_times_index.data[:], dtype=np.int64)
    per_unit = ends - np.r_[0, ends[:-1]]
    order = np.argsort(times, kind="stable")
    index = np.repeat(np.arange(len(units)), per_unit)
    return Events(times[order], index[order], table_of(units), "spikes", path)


def _pulses(stream: TimeSeries | TimeIntervals, path: str) -> Events:
    if isinstance(stream, TimeIntervals):
        times = np.asarray(stream["start_time"].data[:], dtype=np.float64)
    else:
        times = times_of(stream)
    _check_times(times, "times of pulses")
    index = np.zeros(len(times), dtype=np.int64)
    return Events(times, index, pd.DataFrame({"id": [0]}), "pulses", path)


def _intervals(table: TimeIntervals, path: str) -> Intervals:
    start, stop = (np.asarray(table[c].data[:], np.float64) for c in ("start_time", "stop_time"))
    _check_finite(start, "start_time")
    _check_finite(stop, "stop_time")
    wrong = np.flatnonzero(stop < start)
    if len(wrong):
        k = wrong[0]
        raise DataError(f"interval {k} stops at {stop[k]} s, before it starts at {start[k]} s")
    columns = table_of(table).drop(columns=["start_time", "stop_time"])
    return Intervals(start, stop, columns, "trials", path)


def _samples(series: TimeSeries, path: str, modality: str) -> Samples:
    data = series.data
    if not is_numeric(data):
        raise DataError("holds no numbers over time × channel; take it out of the card")
    if len(data) == 0:
        raise DataError("is empty; take it out of the card")
    unit, scale = SI.get(series.unit.strip().lower(), (series.unit, 1.0))
    values = _Values(series, scale)
    rate, t0, times = _sampling(series)
    channels = _channels(series, values.shape[1])
    return Samples(values, unit, rate, t0, times, None, channels, modality, path)


class _Values:
    """Time × channel in SI units, read and converted when sliced by rows."""

    def __init__(self, series: TimeSeries, scale: float):
        per_channel = getattr(series, "channel_conversion", None)
        gain = 1.0 if per_channel is None else np.asarray(per_channel[:])
        self.data = series.data
        self.scale = np.asarray(series.conversion * scale * gain)
        self.offset = series.offset * scale
        self.shape = (len(self.data), int(np.prod(self.data.shape[1:])))
        self.dtype = self._dtype()

    def _dtype(self) -> np.dtype:
        """As stored where nothing is converted; else float, wide enough for the stored integers."""
        stored = self.data.dtype
        if stored.kind == "f":
            return stored.newbyteorder("=")
        if np.any(self.scale != 1.0) or self.offset != 0.0:
            return np.dtype(np.float32 if stored.itemsize <= 2 else np.float64)
        return np.dtype(np.uint8) if stored.kind == "b" else stored.newbyteorder("=")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Shaped[ndarray, "time channel"]:
        try:
            block = self.data[rows]
        except OSError as error:
            raise DataError(f"{self.data.name}: rows {rows} cannot be read: {error}") from error
        block = block.reshape(len(block), self.shape[1]).astype(self.dtype, copy=False)
        if np.any(self.scale != 1.0) or self.offset != 0.0:
            block = (block * self.scale + self.offset).astype(self.dtype)
        return block


def is_numeric(data: Any) -> bool:
    """True for numbers over time, or over time × channel."""
    return getattr(data, "dtype", np.dtype("O")).kind in "biuf" and data.ndim in (1, 2)


def times_of(series: TimeSeries) -> Float[ndarray, " time"]:
    """Time of each sample (s), as stored; for binned counts the start of the bin."""
    if series.timestamps is not None:
        times = np.asarray(series.timestamps[:], dtype=np.float64)
    else:
        times = series.starting_time + np.arange(len(series.data)) / series.rate
    return times - _lag(series)


def bin_width(series: TimeSeries) -> float | None:
    """Width of the bins (s) of binned counts, as their comments state it, or None."""
    found = re.search(r"bin_width_s=([0-9.eE+-]+)", series.comments or "")
    return float(found[1]) if found else None


def _lag(series: TimeSeries) -> float:
    """Seconds from the start of a bin to its timestamp."""
    place = re.search(r"timestamps=bin_(center|end)", series.comments or "")
    width = bin_width(series) or 0.0
    return 0.0 if place is None else width if place[1] == "end" else width / 2


def _sampling(series: TimeSeries) -> tuple[float | None, float, Float[ndarray, " time"] | None]:
    """Rate (Hz), time of the first sample (s), and times where they are irregular."""
    if series.timestamps is None:
        rate = float(series.rate or 0.0)
        if not (np.isfinite(rate) and rate > 0):
            raise DataError(f"rate is {series.rate} Hz; a rate is positive. Mend it in the file")
        return rate, float(series.starting_time) - _lag(series), None
    times = times_of(series)
    if len(times) != len(series.data):
        raise DataError(f"{len(series.data)} samples but {len(times)} timestamps; mend the file")
    _check_times(times, "timestamps")
    even = even_rate(times)
    return (None, 0.0, times) if even is None else (even, float(times[0]), None)


def even_rate(times: Float[ndarray, " time"]) -> float | None:
    """Rate (Hz) of times that lie on a regular grid, or None where they do not."""
    if len(times) < 3 or not times[-1] > times[0]:
        return None
    step = (times[-1] - times[0]) / (len(times) - 1)
    off = np.abs(times - (times[0] + step * np.arange(len(times)))).max()
    # Times carry the rounding of a double, which at 10⁴ s is a visible part of a short step.
    return float(1.0 / step) if off <= EVEN * step + 4 * np.spacing(abs(times).max()) else None


def _check_finite(times: Float[ndarray, " time"], what: str) -> None:
    wrong = np.flatnonzero(~np.isfinite(times))
    if len(wrong):
        raise DataError(f"{what}[{wrong[0]}] is {times[wrong[0]]}; every time must be a number")


def _check_times(times: Float[ndarray, " time"], what: str) -> None:
    _check_finite(times, what)
    wrong = np.flatnonzero(np.diff(times) < 0)
    if len(wrong):
        k = wrong[0] + 1
        raise DataError(
            f"{what}[{k}] is {times[k]} s, before the {times[k - 1]} s that precede it; "
            "time must not run backwards"
        )


def _channels(series: TimeSeries, n: int) -> pd.DataFrame:
    """One row per column: electrodes, cells or units where the file names them."""
    region = getattr(series, "electrodes", None) or getattr(series, "rois", None)
    units = series.get_ancestor("NWBFile").units
    if isinstance(region, DynamicTableRegion) and len(region.data) == n:
        table = table_of(region.table).iloc[np.asarray(region.data[:])]
    elif units is not None and len(units) == n and "binned" in (series.name + series.description):
        table = table_of(units)
    else:
        table = pd.DataFrame({"id": np.arange(n)})
    return table.reset_index(drop=True)


def table_of(table: DynamicTable) -> pd.DataFrame:
    """The columns of a table that hold one plain value per row, and `id`."""
    columns = {"id": np.asarray(table.id.data[:])}
    ragged = {column.target for column in table.columns if isinstance(column, VectorIndex)}
    for column in table.columns:
        if isinstance(column, VectorIndex | DynamicTableRegion) or column in ragged:
            continue
        values = _plain(column)
        if values is not None:
            columns[column.name] = values
    return pd.DataFrame(columns, index=range(len(table)))


def _plain(column: VectorData) -> ndarray | None:
    data = column.data
    if len(getattr(data, "shape", (0,))) != 1:
        return None
    values = np.asarray(data[:])
    if values.dtype.kind in "biuf":
        return values
    texts = [v.decode() if isinstance(v, bytes) else v for v in values.tolist()]
    return np.array(texts, dtype=object) if all(isinstance(t, str) for t in texts) else None
