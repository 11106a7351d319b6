"""Signals from neurodata objects: what units, time series and interval tables hold, in SI units.

Sample values stay in the file and are converted as they are sliced; times and tables are small
and read at once. What cannot be trusted (NaN or backwards times, no units) is a `DataError`.
"""

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from hdmf.common import VectorIndex
from pynwb import TimeSeries
from pynwb.core import NWBContainer
from pynwb.epoch import TimeIntervals
from pynwb.icephys import PatchClampSeries
from pynwb.image import ImageSeries
from pynwb.misc import Units

from neurofmx.data.arrays import Plain, Rows, scaled
from neurofmx.data.readers.nwb_group import ellipse, is_ellipse, members, together
from neurofmx.data.readers.nwb_tables import channels_of, table_of, units_table, with_cutoffs
from neurofmx.data.readers.nwb_times import check_finite, check_times, sampling_of, times_of
from neurofmx.data.readers.units import SI
from neurofmx.data.readers.video import read_video
from neurofmx.data.signal_cards import SignalCard
from neurofmx.data.store import BLOCK_BYTES
from neurofmx.errors import DataError
from neurofmx.types import Events, Intervals, Samples, Signal

# A container is several series that make up one signal, or ndx-events' `Events`; the index of a
# ragged column stands for `units/obs_intervals`.
Stream: TypeAlias = TimeSeries | TimeIntervals | Units | NWBContainer | VectorIndex


def read_signal(stream: Stream, path: str, card: SignalCard, folder: Path | None) -> Signal:
    """What a neurodata object holds, as the type that its kind and modality call for.

    Args:
        stream: From an open file; sample values stay there.
        path: Of the object inside its file.
        card: Its modality decides; `pulses` takes only the times.
        folder: Of the file, which videos lie relative to; None where it is streamed.

    Raises:
        DataError: The content cannot be trusted; the message says what and where.
    """
    modality = card.modality
    if isinstance(stream, Units) and modality == "spikes":
        return _spikes(stream, path, card)
    if modality == "spikes" and isinstance(stream, TimeSeries) and is_numeric(stream.data, 2):
        return _crossings(stream, path, card)
    if modality == "trials" and isinstance(stream, TimeIntervals | VectorIndex):
        return _intervals(stream, path) if isinstance(stream, TimeIntervals) else _spans(stream)
    if modality == "trials" and isinstance(stream, TimeSeries) and is_numeric(stream.data, 1):
        return _runs(stream, path)
    if modality == "pulses" and (isinstance(stream, TimeSeries | TimeIntervals) or events(stream)):
        return _pulses(stream, path)
    if modality == "video" and isinstance(stream, ImageSeries):
        return read_video(stream, path, card, folder)
    if modality not in ("spikes", "trials", "pulses", "video"):
        if isinstance(stream, TimeSeries):
            return _samples(stream, path, card)
        if members(stream):
            parts = {key: _samples(s, path, card) for key, s in members(stream).items()}
            return together(parts, stream, path)
    raise DataError(f"is {type(stream).__name__}, which holds no {modality}; mend the card")


def events(stream: Any) -> bool:
    """True for ndx-events' `Events`: times without values."""
    return type(stream).__name__ == "Events" and getattr(stream, "timestamps", None) is not None


def is_numeric(data: Any, *axes: int) -> bool:
    """True for numbers over time, or over time × channel; or with as many axes as are given."""
    kind = getattr(data, "dtype", np.dtype("O")).kind
    return kind in "biuf" and data.ndim in (axes or (1, 2))


def _spikes(units: Units, path: str, card: SignalCard) -> Events:
    if len(units) == 0 or units.spike_times_index is None:
        raise DataError(f"zero units with spike times (of {len(units)} units); nothing to read")
    times = np.asarray(units.spike_times.data[:], dtype=np.float64)
    check_finite(times, "spike_times")
    ends = np.asarray(units.spike_times_index.data[:], dtype=np.int64)
    per_unit = ends - np.r_[0, ends[:-1]]
    order = np.argsort(times, kind="stable")
    index = np.repeat(np.arange(len(units)), per_unit)
    table = with_cutoffs(units_table(units, card.position_unit), units)
    return Events(times[order], index[order], table, "spikes", path)


def _crossings(series: TimeSeries, path: str, card: SignalCard) -> Events:
    """Events where a matrix of counts, time × channel, is not zero; it is read block by block."""
    data, n = series.data, series.data.shape[1]
    rows = max(1, BLOCK_BYTES // max(1, n * data.dtype.itemsize))
    times, index = [np.zeros(0)], [np.zeros(0, np.int64)]
    for first in range(0, len(data), rows):
        block = np.asarray(data[first : first + rows])
        at, channel = np.nonzero(block)
        counts = block[at, channel].astype(np.float64)
        if not (counts == np.abs(np.round(counts))).all():
            raise DataError("holds other values than counts, so it is no matrix of spikes")
        stamps = times_of(series, slice(first, first + rows))
        times.append(np.repeat(stamps[at], counts.astype(np.int64)))
        index.append(np.repeat(channel, counts.astype(np.int64)))
    found = np.concatenate(times)
    check_times(found, "timestamps of counts")
    channels = channels_of(series, n, card.position_unit)
    return Events(found, np.concatenate(index), channels, "spikes", path)


def _pulses(stream: Any, path: str) -> Events:
    if isinstance(stream, TimeSeries):
        times = times_of(stream)
    else:
        stored = (
            stream["start_time"].data if isinstance(stream, TimeIntervals) else stream.timestamps
        )
        times = np.asarray(stored[:], dtype=np.float64)
    check_times(times, "times of pulses")
    index = np.zeros(len(times), dtype=np.int64)
    return Events(times, index, pd.DataFrame({"id": [0]}), "pulses", path)


def _intervals(table: TimeIntervals, path: str) -> Intervals:
    start, stop = (np.asarray(table[c].data[:], np.float64) for c in ("start_time", "stop_time"))
    check_finite(start, "start_time")
    check_finite(stop, "stop_time")
    wrong = np.flatnonzero(stop < start)
    if len(wrong):
        k = wrong[0]
        raise DataError(f"interval {k} stops at {stop[k]} s, before it starts at {start[k]} s")
    columns = table_of(table).drop(columns=["start_time", "stop_time"])
    return Intervals(start, stop, columns, "trials", path)


def _spans(observed: VectorIndex) -> Intervals:
    """Where any unit was observed; elsewhere, no spike means nothing."""
    path = "units/obs_intervals"
    spans = np.unique(np.asarray(observed.target.data[:], np.float64).reshape(-1, 2), axis=0)
    check_finite(spans.ravel(), path)
    reach = np.maximum.accumulate(spans[:, 1])
    first = np.r_[True, spans[1:, 0] > reach[:-1]] if len(spans) else np.zeros(0, bool)
    last = np.r_[first[1:], True] if len(spans) else first
    columns = pd.DataFrame({"id": np.arange(first.sum())})
    return Intervals(spans[first, 0], reach[last], columns, "trials", path)


def _runs(series: TimeSeries, path: str) -> Intervals:
    """Stretches over which a series keeps its value, such as the number of the trial."""
    rate, _, _ = sampling_of(series)
    values, times = np.asarray(series.data[:]), times_of(series)
    first = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    step = 1.0 / rate if rate else float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    stop = np.r_[times[first[1:]], times[-1] + step]
    columns = pd.DataFrame({"id": np.arange(len(first)), "value": values[first]})
    return Intervals(times[first], stop, columns, "trials", path)


def _samples(series: TimeSeries, path: str, card: SignalCard) -> Samples:
    data = series.data
    if not is_numeric(data):
        raise DataError("holds no numbers over time × channel; take it out of the card")
    if len(data) == 0:
        raise DataError("is empty; take it out of the card")
    values, channels = ellipse(series) if is_ellipse(series) else _columns(series, card)
    unit, factor = (series.unit, 1.0) if is_ellipse(series) else _unit(series)
    per_channel = getattr(series, "channel_conversion", None)
    gain = 1.0 if per_channel is None else np.asarray(per_channel[:])
    scale = np.asarray(series.conversion * factor * gain)
    if isinstance(series, PatchClampSeries):
        channels["electrode"], channels["sweep"] = series.electrode.name, str(series.sweep_number)
    rate, t0, times = sampling_of(series)
    values = scaled(values, scale, series.offset * factor)
    return Samples(values, unit, rate, t0, times, None, channels, card.modality, path)


def _columns(series: TimeSeries, card: SignalCard) -> tuple[Rows, pd.DataFrame]:
    values = Plain(series.data)
    return values, channels_of(series, values.shape[1], card.position_unit)


def _unit(series: TimeSeries) -> tuple[str, float]:
    """SI unit and the factor to it; a unit that is not known keeps its word."""
    word = series.unit.strip().lower()
    if series.parent is not None and type(series.parent).__name__ == "DfOverF" and word == "n.a.":
        return "1", 1.0
    return SI.get(word, (series.unit, 1.0))
