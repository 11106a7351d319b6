"""Summary tables of stored recordings, over whole arrays: what the checks of validate look at.

    recordings   a row per recording: span (s), numbers of signals and units
    signals      a row per signal: size, rate, faults of time, NaN, saturation
    units        a row per unit: spikes, rate, refractory violations, presence
    trials       a row per interval signal: faults of start and stop
    inspector    a row per message of nwbinspector about the source file

Long arrays are read block by block. NaN in a table says that the figure makes no sense there.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy import ndarray

from neurofmx.data import store
from neurofmx.data.cards import Card
from neurofmx.modalities import MODALITIES
from neurofmx.signal.clocks import nominal_rate
from neurofmx.types import Events, Intervals, Recording, Samples, Signal

REFRACTORY = 1.5e-3  # s; two spikes closer than this are not of one neuron
PRESENCE_BIN = 60.0  # s

# Messages about metadata that an archive wants and no model reads: never a reason to stop.
METADATA = {
    "check_name_slashes",
    "check_session_start_time_future_date",
    "check_subject_age",
    "check_subject_exists",
    "check_subject_id_exists",
    "check_subject_sex",
    "check_subject_weight",
    "check_units_table_has_spikes",  # binned counts; spikes that are asked for have their own check
}

COLUMNS: dict[str, dict[str, type]] = {
    "recordings": {
        "recording": object,
        "id": object,
        "subject": object,
        "species": object,
        "start": float,
        "stop": float,
        "n_signals": int,
        "n_units": int,
    },
    "signals": {
        "recording": object,
        "signal": object,
        "kind": object,
        "modality": object,
        "role": object,  # "input" where the model reads it, else "other"
        "unit": object,
        "n": int,
        "n_sources": int,  # channels or units
        "n_active": float,  # units with at least one spike
        "rate": float,
        "start": float,
        "stop": float,
        "n_nan_times": int,
        "n_backwards": int,
        "n_repeated": int,
        "nan_fraction": float,
        "saturation": float,
    },
    "units": {
        "recording": object,
        "signal": object,
        "unit": object,
        "n_spikes": int,
        "rate": float,
        "violations": float,
        "presence": float,
        "n_outside": int,
    },
    "trials": {
        "recording": object,
        "signal": object,
        "n": int,
        "n_nan": int,
        "n_reversed": int,
    },
    "inspector": {
        "recording": object,
        "check": object,
        "level": object,  # "blocking", "serious" or "advice"
        "location": object,
        "message": object,
    },
}

Tables = dict[str, pd.DataFrame]


def summarise(path: Path, card: Card, source: Path | None = None) -> Tables:
    """The rows of every table for the recording stored at `path`.

    Args:
        card: Says which signals the model reads.
        source: The NWB file that nwbinspector is to look at; None leaves `inspector` empty.
    """
    recording, name = store.read(path), path.stem
    spans = [signal.span for signal in recording.signals.values() if len(signal)]
    neural = _neural_span(recording)
    rows: dict[str, list[dict[str, Any]]] = {table: [] for table in COLUMNS}
    for signal_name, signal in recording.signals.items():
        place = {"recording": name, "signal": signal_name}
        role = {"role": "input" if signal_name in card.inputs else "other"}
        rows["signals"].append(place | role | _signal_row(signal))
        if isinstance(signal, Events) and signal.modality == "spikes":
            rows["units"] += [place | row for row in _unit_rows(signal, neural)]
        if isinstance(signal, Intervals):
            rows["trials"].append(place | _trials_row(signal))
    rows["recordings"].append(
        {
            "recording": name,
            "id": recording.id,
            "subject": recording.subject,
            "species": recording.species,
            "start": float(np.nanmin([start for start, _ in spans])) if spans else np.nan,
            "stop": float(np.nanmax([stop for _, stop in spans])) if spans else np.nan,
            "n_signals": len(recording.signals),
            "n_units": len(rows["units"]),
        }
    )
    if source is not None:
        rows["inspector"] = [{"recording": name} | row for row in _messages(source)]
    return {table: _frame(table, rows[table]) for table in COLUMNS}


def joined(parts: list[Tables]) -> Tables:
    """The tables of several recordings as one."""
    return {
        table: pd.concat([_frame(table, []), *[part[table] for part in parts]], ignore_index=True)
        for table in COLUMNS
    }


def _frame(table: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS[table])).astype(COLUMNS[table])


def _neural_span(recording: Recording) -> tuple[float, float]:
    """What the continuous neural signals cover (s); everything where there is none."""
    spans = [
        signal.span
        for signal in recording.signals.values()
        if isinstance(signal, Samples) and MODALITIES[signal.modality].unit == "V"
    ]
    if not spans:
        return -np.inf, np.inf
    return min(start for start, _ in spans), max(stop for _, stop in spans)


def _signal_row(signal: Signal) -> dict[str, Any]:
    start, stop = signal.span
    row: dict[str, Any] = {"modality": signal.modality, "n": len(signal), "n_active": np.nan}
    row |= {"unit": "", "rate": np.nan, "nan_fraction": 0.0, "saturation": np.nan}
    row |= {"start": start, "stop": stop}
    if isinstance(signal, Samples):
        row |= {"kind": "samples", "unit": signal.unit, "n_sources": signal.values.shape[1]}
        times = np.zeros(0) if signal.times is None else signal.times
        row |= {"rate": signal.rate or _rate(times)} | _values_row(signal)
    elif isinstance(signal, Events):
        times, active = signal.times, len(np.unique(signal.index))
        row |= {"kind": "events", "n_sources": len(signal.units), "n_active": float(active)}
    else:
        times = signal.start
        row |= {"kind": "intervals", "n_sources": 1}
    steps = np.diff(times)
    nan = int((~np.isfinite(times)).sum())
    repeated = int((steps == 0).sum()) if isinstance(signal, Samples) else 0
    backwards = int((steps < 0).sum()) if not isinstance(signal, Intervals) else 0
    return row | {"n_nan_times": nan, "n_backwards": backwards, "n_repeated": repeated}


def _rate(times: ndarray) -> float:
    finite = np.unique(times[np.isfinite(times)])
    return nominal_rate(finite) if len(finite) > 1 else np.nan


def _values_row(signal: Samples) -> dict[str, float]:
    """Share of NaN, share of samples stuck at a channel's extreme, and channels with counts."""
    n, channels = signal.values.shape
    nan, total, ends = 0, np.zeros(channels), [_Extreme(channels, sign) for sign in (1, -1)]
    volts = MODALITIES[signal.modality].unit == "V"
    for block in _blocks(signal):
        bad = ~np.isfinite(block) if block.dtype.kind == "f" else np.zeros(block.shape, bool)
        nan += int(bad.sum())
        total += np.where(bad, 0, block).sum(axis=0)
        if volts:
            for end in ends:
                end.add(np.where(bad, -np.inf, block * end.sign))
    size = max(1, n * channels)
    stuck = sum(end.count.sum() for end in ends) / size if volts else np.nan
    counts = signal.modality == "binned_counts"
    active = {"n_active": float((total > 0).sum())} if counts else {}
    return active | {"nan_fraction": nan / size, "saturation": float(stuck)}


class _Extreme:
    """How many samples of each channel repeat the channel's largest value, over blocks."""

    def __init__(self, channels: int, sign: int):
        self.sign = sign
        self.largest = np.full(channels, -np.inf)
        self.count = np.zeros(channels)

    def add(self, block: ndarray) -> None:
        largest = np.maximum(self.largest, block.max(axis=0))
        here = (block[1:] == largest) & (block[:-1] == largest)
        self.count = np.where(largest > self.largest, 0, self.count) + here.sum(axis=0)
        self.largest = largest


def _blocks(signal: Samples) -> Iterator[ndarray]:
    if len(signal) == 0:
        return
    rows = max(1, store.BLOCK_BYTES // signal.values[:1].nbytes)
    for first in range(0, len(signal), rows):
        yield signal.values[first : first + rows]


def _unit_rows(spikes: Events, span: tuple[float, float]) -> list[dict[str, Any]]:
    """One row per unit; a unit that shares its id with another has both rows."""
    start, stop = spikes.span
    duration = max(stop - start, np.finfo(float).tiny)
    ids = spikes.units["id"] if "id" in spikes.units else range(len(spikes.units))
    by_unit = np.argsort(spikes.index, kind="stable")
    firsts = np.searchsorted(spikes.index[by_unit], np.arange(len(spikes.units) + 1))
    bins = max(1, int(np.ceil(duration / PRESENCE_BIN)))
    rows = []
    for unit, unit_id in enumerate(ids):
        times = spikes.times[by_unit[firsts[unit] : firsts[unit + 1]]]
        visited = len(np.unique(np.floor((times - start) / PRESENCE_BIN)))
        rows.append(
            {
                "unit": str(unit_id),
                "n_spikes": len(times),
                "rate": len(times) / duration if len(times) else 0.0,
                "violations": float((np.diff(times) < REFRACTORY).sum() / max(1, len(times) - 1)),
                "presence": min(1.0, visited / bins),
                "n_outside": int(((times < span[0]) | (times >= span[1])).sum()),
            }
        )
    return rows


def _trials_row(intervals: Intervals) -> dict[str, int]:
    finite = np.isfinite(intervals.start) & np.isfinite(intervals.stop)
    return {
        "n": len(intervals),
        "n_nan": int((~finite).sum()),
        "n_reversed": int((intervals.stop[finite] <= intervals.start[finite]).sum()),
    }


def _messages(source: Path) -> list[dict[str, str]]:
    """What nwbinspector says about a file, sorted; nothing in it depends on where the file lies."""
    from nwbinspector import inspect_nwbfile  # takes seconds to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of reading the file; what matters becomes a message
        found = list(inspect_nwbfile(nwbfile_path=source))
    rows = [_message_row(message, source) for message in found]
    return sorted(rows, key=lambda row: tuple(row.values()))


def _message_row(message: Any, source: Path) -> dict[str, str]:
    check, text = message.check_function_name, message.message.replace(str(source), source.name)
    if message.importance.name == "ERROR":  # the text is a traceback
        check, text = "read", text.strip().splitlines()[-1]
    return {
        "check": check,
        "level": _level(message.importance.name, check),
        "location": message.location or message.object_name or "",
        "message": text,
    }


def _level(importance: str, check: str) -> str:
    """Whether a message stops a recording: structure that CRITICAL checks or reading finds wrong.

    Deviations from the schema alone are common in published files that read well.
    """
    if importance == "ERROR" or (importance == "CRITICAL" and check not in METADATA):
        return "blocking"
    return "serious" if importance in ("CRITICAL", "PYNWB_VALIDATION") else "advice"
