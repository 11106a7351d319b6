"""Summary tables of stored recordings, over whole arrays: what the checks of validate look at.

    recordings   a row per recording: span (s), numbers of signals and units
    units        a row per sorted unit: spikes, refractory violations, presence
    streams      a row per signal: size, rate, faults of time, NaN, saturation, odd channels
    trials       a row per interval signal: faults of start and stop
    alignment    a row per device on its own clock: drift, residual, shared pulses
    inspector    a row per message of nwbinspector about a source file

NaN in a table says that the figure makes no sense there, or that a file does not state it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurofmx.data.cards import Card
from neurofmx.data.clock_metrics import clock_rows
from neurofmx.data.inspection import inspector_rows
from neurofmx.data.signal_cards import SignalCard
from neurofmx.data.signal_metrics import POTENTIALS, stream_row, trials_row
from neurofmx.data.unit_metrics import unit_rows
from neurofmx.types import Events, Intervals, Recording, Samples, Signal

EDGE = 1.0  # s; devices do not start and stop together

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
        "n_good_units": float,  # see `neurofmx.data.checks.graded`
    },
    "units": {
        "recording": object,
        "signal": object,
        "unit": object,
        "n_spikes": int,
        "rate": float,  # Hz
        "isi_violations": float,
        "contamination": float,
        "presence": float,
        "n_outside": int,
        "amplitude_cutoff": float,
        "file_isi_violations": float,
        "file_presence": float,
        "ibl_score": float,
    },
    "streams": {
        "recording": object,
        "signal": object,
        "kind": object,
        "modality": object,
        "role": object,  # "input" where the model reads it ("tracked": eye, pose), else "other"
        "unit": object,
        "n": int,
        "n_sources": int,  # channels or units
        "n_active": float,  # units with at least one spike
        "rate": float,  # Hz
        "rate_error": float,  # share of the nominal rate
        "dropped": float,  # share of frames
        "start": float,
        "stop": float,
        "n_nan_times": int,
        "n_backwards": int,
        "n_repeated": int,
        "nan_fraction": float,
        "saturation": float,
        "n_flat": float,  # channels
        "n_dead": float,
        "flat_channels": object,  # which
        "dead_channels": object,
        "line_noise": float,  # dB
        "line": float,  # Hz
    },
    "trials": {
        "recording": object,
        "signal": object,
        "n": int,
        "n_nan": int,
        "n_reversed": int,
    },
    "alignment": {
        "recording": object,
        "clock": object,
        "offset": float,  # s
        "drift": float,  # ppm, of the piece that drifts most
        "residual": float,  # s
        "n_device": float,
        "n_reference": float,
        "n_events": int,  # shared by both
        "matched": float,  # share of the events of the side that has fewer
        "pieces": float,
        "problem": object,  # why it could not be fitted
    },
    "inspector": {
        "recording": object,
        "file": object,
        "check": object,
        "level": object,  # "blocking", "serious" or "advice"
        "location": object,
        "message": object,
    },
}

Tables = dict[str, pd.DataFrame]


def summarise(name: str, recording: Recording, card: Card, sources: Sequence[Path] = ()) -> Tables:
    """The rows of every table for a recording.

    Args:
        name: Under which it is stored.
        recording: Its values may lie on disk.
        card: Says which signals the model reads, and what is known of them.
        sources: The NWB files that nwbinspector is to look at.

    Raises:
        DataError: Stored values cannot be read.
    """
    named = {"recording": name}
    rows: dict[str, list[dict[str, Any]]] = {table: [] for table in COLUMNS}
    for signal_name, signal in recording.signals.items():
        place = named | {"signal": signal_name}
        role = {"role": _role(signal, signal_name in card.inputs)}
        spec = card.signals.get(signal_name) or SignalCard(path="", modality=signal.modality)
        rows["streams"].append(place | role | stream_row(signal, spec))
        if isinstance(signal, Events) and signal.modality == "spikes":
            rows["units"] += [place | r for r in unit_rows(signal, *_spans(recording, signal))]
        if isinstance(signal, Intervals):
            rows["trials"].append(place | trials_row(signal))
    rows["recordings"].append(named | _recording_row(recording, len(rows["units"])))
    rows["alignment"] = [named | row for row in clock_rows(recording, card)]
    rows["inspector"] = [named | row for source in sources for row in inspector_rows(source)]
    return {table: _frame(table, rows[table]) for table in COLUMNS}


def _role(signal: Signal, read: bool) -> str:
    """Trackers write NaN where they saw no eye or no limb; elsewhere NaN is a fault."""
    if not read:
        return "other"
    return "tracked" if signal.modality in ("eye", "pose") else "input"


def joined(parts: list[Tables]) -> Tables:
    """The tables of several recordings as one."""
    return {
        table: pd.concat([_frame(table, []), *[part[table] for part in parts]], ignore_index=True)
        for table in COLUMNS
    }


def _frame(table: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Text that is absent is empty, a number NaN."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS[table]))
    texts = [column for column, kind in COLUMNS[table].items() if kind is object]
    return frame.fillna(dict.fromkeys(texts, "")).astype(COLUMNS[table])


def _recording_row(recording: Recording, n_units: int) -> dict[str, Any]:
    spans = [signal.span for signal in recording.signals.values() if len(signal)]
    return {
        "id": recording.id,
        "subject": recording.subject,
        "species": recording.species,
        "start": float(np.nanmin([start for start, _ in spans])) if spans else np.nan,
        "stop": float(np.nanmax([stop for _, stop in spans])) if spans else np.nan,
        "n_signals": len(recording.signals),
        "n_units": n_units,
    }


def _spans(recording: Recording, spikes: Events) -> tuple[tuple[float, float], tuple[float, float]]:
    """When units could be seen, and where spikes may lie (s).

    They lie in the continuous potentials, give or take a second. Where there are none, the other
    signals say when the recording was, but may have begun later and ended earlier: what is further
    from them than they are long is of another clock.
    """
    potentials, others = _hull(recording, volts=True), _hull(recording, volts=False)
    if potentials:
        return potentials, (potentials[0] - EDGE, potentials[1] + EDGE)
    length = others[1] - others[0] if others else np.inf
    low, high = others or (0.0, 0.0)
    inside = spikes.times[(spikes.times >= low - length) & (spikes.times < high + length)]
    seen = (float(inside[0]), float(inside[-1])) if len(inside) else (low, high)
    return seen, (low - length, high + length)


def _hull(recording: Recording, volts: bool) -> tuple[float, float] | None:
    """First start and last stop of the potentials, or of all samples and intervals (s)."""
    spans = [
        signal.span
        for signal in recording.signals.values()
        if isinstance(signal, Samples if volts else Samples | Intervals)
        and len(signal)
        and (not volts or signal.modality in POTENTIALS)
    ]
    spans = [span for span in spans if np.isfinite(span).all()]
    return (min(start for start, _ in spans), max(stop for _, stop in spans)) if spans else None
