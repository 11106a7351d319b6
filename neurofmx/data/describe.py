"""What is in an NWB file or in a recording that a stage wrote: the tables of `neurofmx inspect`."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy import ndarray
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from neurofmx.data import store
from neurofmx.data.readers import open_contents
from neurofmx.data.readers.base import Contents
from neurofmx.data.signal_cards import SignalCard
from neurofmx.errors import DataError, UserError
from neurofmx.types import Events, Intervals, Recording, Samples, Signal

BLOCK = 100_000  # rows read at a time
FEW = 10  # a column with at most this many values is listed value by value


@dataclass(frozen=True)
class Entry:
    """A stream: its signal, or the reason why there is none."""

    path: str
    kind: str  # neurodata type, or kind in the store
    modality: str
    signal: Signal | None
    problem: str = ""


def describe(path: Path) -> RenderableType:
    """The tables of `tables`, to be printed.

    Raises:
        UserError, DataError: There is no such file, or it is no recording.
    """
    found = [shown(title, table) for title, table in tables(path).items() if len(table)]
    return Group(*found)


def tables(path: Path) -> dict[str, pd.DataFrame]:
    """Streams, units, intervals and behaviour of a file with a reader or of a `.zarr` of any stage.

    Raises:
        UserError, DataError: There is no such file, or it is no recording.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; give a recording's file or a storage/*/*.zarr")
    if path.is_dir() and store.read_key(path) is not None:
        return _of_store(store.read(path))
    if path.is_dir() and not path.suffix:
        raise UserError(
            f"{path} is a folder with neither shards, which `neurofmx tokenize` writes, nor a "
            "recording; give a file, or the folder of a store or of shards"
        )
    with closing(open_contents(path)) as contents:
        return _of_file(path, contents)


def _of_store(recording: Recording) -> dict[str, pd.DataFrame]:
    facts = {"subject": recording.subject, "species": recording.species} | recording.provenance
    signals = recording.signals.items()
    return _tables(facts, [Entry(n, type(s).__name__, s.modality, s) for n, s in signals])


def _of_file(path: Path, contents: Contents) -> dict[str, pd.DataFrame]:
    about = contents.about
    facts = {"file": path.name, "subject": about.subject, "species": about.species}
    facts |= about.provenance | {"notes": about.notes}
    return _tables(facts, [_entry(where, contents) for where in contents.kinds])


def _entry(path: str, contents: Contents) -> Entry:
    kind, modality = contents.kinds[path], contents.guess(path)
    if modality is None:
        return Entry(path, kind, "", None, "not read")
    try:
        signal = contents.read(path, SignalCard(path=path, modality=modality))
    except DataError as error:
        return Entry(path, kind, modality, None, str(error))
    return Entry(path, kind, modality, signal)


def _tables(facts: dict[str, str], entries: list[Entry]) -> dict[str, pd.DataFrame]:
    signals = {entry.path: entry.signal for entry in entries if entry.signal is not None}
    samples = {p: s for p, s in signals.items() if isinstance(s, Samples)}
    spikes = {p: s for p, s in signals.items() if isinstance(s, Events) and s.modality == "spikes"}
    counts = {p: s for p, s in samples.items() if s.modality == "binned_counts"}
    behavior = {p: s for p, s in samples.items() if s.modality in ("behavior", "pose", "eye")}
    intervals = {p: s for p, s in signals.items() if isinstance(s, Intervals)}
    about = [{"": key, "value": str(value)} for key, value in facts.items() if value != ""]
    return {
        "recording": pd.DataFrame(about),
        "streams": pd.DataFrame([_stream_row(entry) for entry in entries]),
        "units": pd.DataFrame([{"path": p, **_rates(s)} for p, s in (spikes | counts).items()]),
        "intervals": pd.DataFrame([r for p, s in intervals.items() for r in _columns(p, s)]),
        "behaviour": pd.DataFrame([{"path": p, **_range(s)} for p, s in behavior.items()]),
    }


def _stream_row(entry: Entry) -> dict[str, str]:
    row = dict.fromkeys(("path", "type", "modality", "shape", "rate", "unit", "span", "remark"), "")
    row |= {"path": entry.path, "type": entry.kind, "modality": entry.modality}
    signal = entry.signal
    if signal is None:
        return row | {"remark": entry.problem}
    row["span"] = "{:.2f} to {:.2f} s".format(*signal.span)
    if isinstance(signal, Events):
        return row | {"shape": f"{len(signal)} events of {len(signal.units)}"}
    if isinstance(signal, Intervals):
        return row | {"shape": f"{len(signal)} intervals"}
    shape = f"{len(signal)} × {signal.values.shape[1]}"
    return row | {"shape": shape, "rate": _rate(signal), "unit": signal.unit}


def _rate(signal: Samples) -> str:
    if signal.rate is not None:
        return f"{signal.rate:.6g} Hz"
    steps = np.diff(signal.clock)
    return f"about {1 / np.median(steps):.4g} Hz" if np.median(steps) > 0 else "irregular"


def _rates(signal: Events | Samples) -> dict[str, int | float]:
    """Units, spikes and rates over the span of the signal; for counts a unit is a column."""
    if isinstance(signal, Events):
        counts = np.bincount(signal.index, minlength=len(signal.units))
        seconds = signal.span[1] - signal.span[0]
    else:
        counts = np.sum([block.sum(axis=0, dtype=np.int64) for block in _blocks(signal)], axis=0)
        step = np.median(np.diff(signal.clock)) if signal.rate is None else 1 / signal.rate
        seconds = len(signal) * float(step)
    rates = counts / seconds if seconds > 0 else np.full(len(counts), np.nan)
    return {
        "units": len(counts),
        "spikes": int(counts.sum()),
        "median rate (Hz)": round(float(np.median(rates)), 3),
        "highest rate (Hz)": round(float(rates.max()), 3),
        "silent units": int((counts == 0).sum()),
    }


def _columns(path: str, signal: Intervals) -> list[dict[str, str]]:
    """A row for the intervals themselves and one for each column."""
    length = signal.stop - signal.start
    about = f"{len(signal)} of {np.median(length):.3g} s ({length.min():.3g} to {length.max():.3g})"
    rows = [{"path": path, "column": "", "values": about}] if len(signal) else []
    for name, column in signal.columns.drop(columns="id", errors="ignore").items():
        rows.append({"path": path, "column": str(name), "values": _values(column)})
    return rows


def _values(column: pd.Series) -> str:
    counts = column.value_counts(dropna=False).sort_index()
    if len(counts) <= FEW:
        return ", ".join(f"{value} ({n})" for value, n in counts.items())
    if column.dtype.kind in "iuf":
        return f"{len(counts)} values from {column.min():.6g} to {column.max():.6g}"
    return f"{len(counts)} values, such as {column.iloc[0]}"


def _range(signal: Samples) -> dict[str, object]:
    """Lowest, highest and missing values over all columns."""
    low, high, missing = np.inf, -np.inf, 0
    for block in _blocks(signal):
        known = block[~np.isnan(block)].astype(np.float64)
        missing += block.size - known.size
        low, high = min(low, known.min(initial=np.inf)), max(high, known.max(initial=-np.inf))
    size = len(signal) * signal.values.shape[1]
    return {
        "columns": signal.values.shape[1],
        "unit": signal.unit,
        "lowest": round(float(low), 4),
        "highest": round(float(high), 4),
        "missing": f"{missing / size:.1%}",
    }


def _blocks(signal: Samples) -> Iterator[ndarray]:
    return (signal.values[k : k + BLOCK] for k in range(0, len(signal), BLOCK))


def shown(title: str, table: pd.DataFrame) -> Table:
    """A table to be printed."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for column in table.columns:
        made.add_column(str(column), overflow="fold")
    for row in table.itertuples(index=False):
        made.add_row(*(escape(str(value)) for value in row))
    return made
