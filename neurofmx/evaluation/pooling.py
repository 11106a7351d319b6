"""Several recordings as one, one behind the other: how baselines see another session or person.

A recording that is tested as a whole has no train part of its own. What a simple method can be
fitted to are the recordings that are trained on and have the same channels (`same` in the card) or,
where there are none, electrodes that everybody wears alike (`region: label`).
Laid behind each other on one clock, with gaps between them and only the channels that all of them
have, they are a recording like any other, and every baseline works on it as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from neurofmx.data.cards import Card
from neurofmx.data.shards import Shards
from neurofmx.data.signal_cards import LABEL
from neurofmx.data.statistics import labels_of
from neurofmx.data.tasks import SampledTask
from neurofmx.evaluation.queries import Queries
from neurofmx.types import AlignedRecording, Events, Intervals, Samples, Signal

GAP = 30.0  # s between two recordings


@dataclass(frozen=True)
class Pooled:
    """Recordings laid behind each other.

    Attributes:
        recording: All of them; its id is that of the last.
        offset: Seconds that the clock of each was moved by.
        channels: Of each recording and input signal, the columns that all have, in one order.
    """

    recording: AlignedRecording
    offset: dict[str, float]
    channels: dict[tuple[str, str], list[int]]

    def moved(self, queries: Queries, recordings: Sequence[str]) -> Queries:
        """Queries on the common clock.

        Args:
            recordings: Of each window that the queries number.
        """
        offsets = np.array([self.offset[name] for name in recordings])
        return replace(queries, time=queries.time + offsets[queries.window])


def partners(recording: str, card: Card, shards: Shards) -> list[str]:
    """Recordings that are trained on and have the same channels in some input; in order.

    Of a person of whom there are none, those of everybody who wears the same electrodes.
    """
    inputs = card.inputs
    shared = {n: s.shared(recording) for n, s in inputs.items() if s.same is not None}
    trained = [other for other in shards.recordings.labels if card.pretrains(other)]
    same = [r for r in trained if any(inputs[n].shared(r) == k for n, k in shared.items() if k)]
    alike = trained if any(s.region == LABEL for s in inputs.values()) else []
    return same or alike


def pooled(recordings: Sequence[AlignedRecording], card: Card, task: str) -> Pooled:
    """Lay recordings behind each other.

    Inputs that the card does not say to be the same are left out, since their channels have
    nothing in common. Samples keep their place to within half a sample; those of the task's own
    signal exactly.
    """
    last, spec = recordings[-1], card.tasks[task]
    exact = spec.signal if isinstance(spec, SampledTask) else None
    offset = _offsets(recordings, exact)
    names = [n for n in last.signals if all(n in r.signals for r in recordings)]
    columns = {
        n: _common([_labels(r.signals[n]) for r in recordings])
        for n in names
        if n in card.inputs and card.inputs[n].comparable
    }
    signals: dict[str, Signal] = {}
    for name in names:
        if name not in card.inputs or name in columns:
            kept = columns.get(name, [None] * len(recordings))
            parts = [_picked(r.signals[name], k) for r, k in zip(recordings, kept, strict=True)]
            signals[name] = _joined(parts, [offset[r.id] for r in recordings])
    chosen = {
        (r.id, name): picked
        for name, kept in columns.items()
        for r, picked in zip(recordings, kept, strict=True)
    }
    return Pooled(replace(last, signals=signals, clocks={}), offset, chosen)


def _offsets(recordings: Sequence[AlignedRecording], exact: str | None) -> dict[str, float]:
    """Each begins `GAP` behind the one before, on the grid of the signal `exact`."""
    offset, end = {}, 0.0
    for recording in recordings:
        spans = [signal.span for signal in recording.signals.values()]
        start, stop = min(a for a, _ in spans), max(b for _, b in spans)
        move = end + GAP - start
        signal = recording.signals.get(exact) if exact else None
        if isinstance(signal, Samples) and signal.rate is not None:
            place = (signal.t0 + move) * signal.rate
            move += (np.ceil(place) - place) / signal.rate
        offset[recording.id], end = float(move), stop + move
    return offset


def _labels(signal: Signal) -> list[str]:
    if isinstance(signal, Events):
        return labels_of(signal.units, len(signal.units))
    assert isinstance(signal, Samples), "a table is no input"
    return labels_of(signal.channels, signal.values.shape[1])


def _common(labels: list[list[str]]) -> list[list[int]]:
    """Columns of the labels that all have, in the order of the last."""
    everywhere = set.intersection(*map(set, labels))
    order = [label for label in labels[-1] if label in everywhere]
    return [[own.index(label) for label in order] for own in labels]


def _picked(signal: Signal, columns: list[int] | None) -> Signal:
    """Some of the channels or units."""
    if columns is None:
        return signal
    if isinstance(signal, Samples):
        table = signal.channels.iloc[columns] if len(signal.channels) else signal.channels
        return replace(signal, values=np.asarray(signal.values[:])[:, columns], channels=table)
    assert isinstance(signal, Events)
    number = np.full(len(signal.units), -1)
    number[columns] = np.arange(len(columns))
    kept = number[signal.index] >= 0
    index, units = number[signal.index[kept]], signal.units.iloc[columns].reset_index(drop=True)
    return replace(signal, times=signal.times[kept], index=index, units=units)


def _joined(parts: list[Signal], offsets: list[float]) -> Signal:
    first = parts[-1]
    if isinstance(first, Samples):
        return _joined_samples(parts, offsets)
    if isinstance(first, Events):
        events = [part for part in parts if isinstance(part, Events)]
        times = [e.times + o for e, o in zip(events, offsets, strict=True)]
        index = np.concatenate([e.index for e in events])
        return replace(first, times=np.concatenate(times), index=index)
    assert isinstance(first, Intervals)
    start, stop = (
        np.concatenate([getattr(p, side) + o for p, o in zip(parts, offsets, strict=True)])
        for side in ("start", "stop")
    )
    table = pd.concat([p.columns for p in parts], ignore_index=True)  # type: ignore[union-attr]
    return replace(first, start=start, stop=stop, columns=table)


def _joined_samples(parts: list[Signal], offsets: list[float]) -> Samples:
    """On one regular grid, with a gap between two recordings."""
    samples = [part for part in parts if isinstance(part, Samples)]
    last = samples[-1]
    assert last.rate is not None  # align made it regular
    t0 = samples[0].t0 + offsets[0]
    places = [
        round((s.t0 + offset - t0) * last.rate) for s, offset in zip(samples, offsets, strict=True)
    ]
    n = places[-1] + len(last)
    values = np.zeros((n, last.values.shape[1]), np.float32)
    mask = np.zeros(n, bool)
    for part, place in zip(samples, places, strict=True):
        values[place : place + len(part)] = part.values[:]
        mask[place : place + len(part)] = True if part.mask is None else part.mask[:]
    return replace(last, values=values, t0=t0, mask=mask)
