"""A recording from its files, with the signals that a card names."""

import fnmatch
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool
from numpy import ndarray

from neurofmx.data.arrays import Columns
from neurofmx.data.cards import Card
from neurofmx.data.dialects import DIALECTS
from neurofmx.data.readers import opened
from neurofmx.data.readers.base import Contents
from neurofmx.data.signal_cards import SignalCard
from neurofmx.data.sources.base import Asset, Location
from neurofmx.errors import DataError, UserError
from neurofmx.signal.clocks import nominal_rate
from neurofmx.types import Intervals, Recording, Samples, Signal

LAG = {"start": 0.0, "center": 0.5, "end": 1.0}  # samples from the start of a bin to its stamp


def by_recording(card: Card, assets: list[Asset]) -> dict[str, list[Asset]]:
    """The files of each recording, as the card's dialect puts them together.

    Raises:
        UserError: Two files have one id and no dialect joins them, or `adapt` names a recording
            that there is not.
    """
    dialect, files = DIALECTS[card.dialect], defaultdict(list)
    for asset in assets:
        files[dialect.recording(asset.path)].append(asset)
    for name, same in files.items():
        ignored = dialect.ignored([asset.path for asset in same])
        files[name] = [asset for asset in same if asset.path not in ignored]
        if len(same) > 1 and card.dialect == "plain":
            both = " and ".join(sorted(asset.path for asset in same))
            raise UserError(f"two recordings have the id {name!r}: {both}; rename one of the files")
    absent = set(card.adapt) - set(files)
    if absent:
        raise UserError(
            f"adapt of card {card.name!r} names {', '.join(sorted(absent))}, "
            f"which is no recording; there are: {', '.join(sorted(files))}"
        )
    return dict(files)


@contextmanager
def read_recording(name: str, places: Sequence[Location], card: Card) -> Iterator[Recording]:
    """The recording that some files make up.

    The files are open inside the `with` block only, and sample values are read as they are sliced.

    Args:
        name: Id of the recording.
        places: Its files; facts about the animal come from the first.

    Raises:
        UserError: There is no such file.
        DataError: A file, or a signal in it, cannot be used; the message says what and where.
    """
    with ExitStack() as stack:
        files = {name: stack.enter_context(closing(file)) for name, file in opened(places)}
        about = next(iter(files.values())).about
        signals = {key: _signal(key, spec, files, card) for key, spec in card.signals.items()}
        yield Recording(
            id=name,
            subject=about.subject,
            species=about.species,
            dataset=card.name,
            signals={key: signal for key, signal in signals.items() if signal is not None},
            provenance={"file": " + ".join(files), "notes": about.notes} | about.provenance,
        )


def _signal(key: str, spec: SignalCard, files: dict[str, Contents], card: Card) -> Signal | None:
    """The signal that a card asks for, or None where it is absent and optional."""
    found = _place(key, spec, files)
    if found is None:
        if spec.optional:
            return None
        there = ", ".join(path for contents in files.values() for path in contents.kinds)
        wanted = " or ".join(map(repr, spec.paths))
        raise DataError(
            f"{', '.join(files)}: no {wanted} (signal {key!r}). There is: "
            f"{there or 'nothing usable'}"
        )
    file, path = found
    try:
        signal = files[file].read(path, spec)
        signal = DIALECTS[card.dialect].mend(signal, files[file], list(files.values()))
        return _stamped(_kept(signal, spec.keep), spec)
    except DataError as error:
        raise DataError(f"{file}: {path}: {error}") from error


def _place(key: str, spec: SignalCard, files: dict[str, Contents]) -> tuple[str, str] | None:
    """File and path that the first pattern with a match stands for."""
    for pattern in spec.paths:
        found = sorted(
            (path, file)
            for file, contents in files.items()
            for path in contents.kinds
            if path == pattern or fnmatch.fnmatchcase(path, pattern)
        )
        if spec.which is None and len(found) > 1:
            raise DataError(
                f"{', '.join(files)}: {pattern!r} (signal {key!r}) is in several places: "
                f"{', '.join(path for path, _ in found)}. Name one, or say `which` in the card"
            )
        for path, file in found[spec.which or 0 :][:1]:
            return file, path
    return None


def _kept(signal: Signal, keep: dict[str, list[Any]]) -> Signal:
    """Only the units or channels that the card wants."""
    if not keep:
        return signal
    if isinstance(signal, Intervals):
        rows = _wanted(signal.columns, keep)
        return replace(
            signal,
            start=signal.start[rows],
            stop=signal.stop[rows],
            columns=signal.columns[rows].reset_index(drop=True),
        )
    if isinstance(signal, Samples):
        rows = _wanted(signal.channels, keep)
        table = signal.channels[rows].reset_index(drop=True)
        return replace(signal, values=Columns(signal.values, np.flatnonzero(rows)), channels=table)
    rows = _wanted(signal.units, keep)
    place = np.cumsum(rows) - 1
    mine = rows[signal.index]
    table = signal.units[rows].reset_index(drop=True)
    return replace(signal, times=signal.times[mine], index=place[signal.index[mine]], units=table)


def _wanted(table: pd.DataFrame, keep: dict[str, list[Any]]) -> Bool[ndarray, " row"]:
    wanted = np.ones(len(table), bool)
    for column, values in keep.items():
        if column not in table:
            raise DataError(
                f"no column {column!r} to keep rows by; there are {', '.join(table.columns)}"
            )
        wanted &= _matches(table[column], values)
    if not wanted.any():
        raise DataError(f"none of {len(table)} rows is kept by {keep}; mend `keep` in the card")
    return wanted


def _matches(column: pd.Series, values: list[Any]) -> ndarray:
    """In [low, high] for two numbers (null: open), else one of the values."""
    if len(values) == 2 and all(v is None or type(v) in (int, float) for v in values):
        low, high = values
        inside = column.notna()
        inside &= True if low is None else column >= low
        return (inside & (True if high is None else column <= high)).to_numpy()
    texts = {str(value) for value in values}
    return column.isin(values).to_numpy() | column.astype(str).isin(texts).to_numpy()


def _stamped(signal: Signal, spec: SignalCard) -> Signal:
    """The signal with times that mark the start of each sample."""
    lag = LAG[spec.stamps]
    if not lag or not isinstance(signal, Samples):
        return signal
    if signal.rate is not None:
        return replace(signal, t0=signal.t0 - lag / signal.rate)
    width = 1.0 / (spec.nominal or nominal_rate(signal.clock))
    return replace(signal, times=signal.clock - lag * width)
