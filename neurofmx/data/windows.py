"""Cut an aligned recording into windows: train, then valid, then test, never shuffled.

Time is split in contiguous blocks (or trials in their order) before any window is laid, so that
overlapping windows share a split. The earlier block ends `guard` seconds before a cut. Valid and
test windows score each instant once; where a recording is cut without trials, they begin with a
stretch of context that is seen but not scored.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from neurofmx.data.cards import Card, ClassificationTask, RegressionTask
from neurofmx.errors import DataError
from neurofmx.signal.bins import bin_events
from neurofmx.types import AlignedRecording, Events, Intervals, Samples

SPLITS = ("train", "valid", "test")
S = TypeVar("S", Samples, Intervals)
TOLERANCE = 1e-6  # s; times from files carry rounding
SPEED_SPAN = 0.5  # s; a shorter one takes jitter of the tracker for motion


@dataclass(frozen=True)
class Window:
    """A stretch [start, stop) of a recording; instants before `score_from` are only context (s)."""

    split: str
    start: float
    stop: float
    score_from: float


@dataclass(frozen=True)
class WindowTarget:
    """What a task asks in a window: a value (regression) or a class index at each time (s)."""

    times: Float[ndarray, " query"]
    values: Float[ndarray, "query dim"]
    mask: Bool[ndarray, " query"]


def cut(recording: AlignedRecording, card: Card) -> list[Window]:
    """The windows of a recording, in time order within each split.

    Raises:
        DataError: A split is empty; says how long the recording is and what the card asks.
    """
    stretches = _stretches(recording, card)
    if card.split.by == "trial":
        parts = _split_trials(recording, card, stretches)
    else:
        parts = _split_time(recording, card, stretches)
    grid = _grid(recording, card)
    windows = [w for s in SPLITS for a, b in parts[s] for w in _lay(s, a, b, card, grid)]
    windows = [w for w in windows if _asks_anything(recording, card, w)]
    for split in SPLITS:
        if not any(w.split == split for w in windows):
            raise DataError(
                f"recording {recording.id}: no window for {split!r}. The card cuts "
                f"{len(stretches)} stretches by {card.split.by} into windows of "
                f"{card.windows.duration} s with a guard of {card.split.guard} s; shorten the "
                "windows or the guard, or give that split a larger part"
            )
    return windows


def inputs(
    recording: AlignedRecording, card: Card, window: Window
) -> dict[str, tuple[float, Float[ndarray, "time channel"], Bool[ndarray, " time"]]]:
    """Sample duration (s), values and mask of each input signal in a window, by name."""
    return {
        name: _values(recording.signals[name], card, window)
        for name in card.inputs
        if name in recording.signals
    }


def target(recording: AlignedRecording, card: Card, task: str, window: Window) -> WindowTarget:
    """What `task` asks in a window; `mask` is false where the answer is undefined or context."""
    spec = card.tasks[task]
    if isinstance(spec, RegressionTask):
        return _continuous_target(signal(recording, spec.signal, Samples), spec, window)
    table = signal(recording, spec.signal, Intervals)
    return _class_target(table, spec, classes(recording, spec), window)


def classes(recording: AlignedRecording, spec: ClassificationTask) -> list[str]:
    """Labels of a classification task, in a fixed order.

    Raises:
        DataError: The table lacks the column; names those it has.
    """
    table = signal(recording, spec.signal, Intervals).columns
    if spec.column not in table:
        raise DataError(
            f"recording {recording.id}: {spec.signal!r} has no column {spec.column!r}; it has "
            f"{', '.join(table.columns)}"
        )
    return spec.classes or sorted({str(v) for v in table[spec.column]} - {"", "nan"})


def signal(recording: AlignedRecording, name: str, kind: type[S]) -> S:
    """A signal of the kind that the card's use of it needs.

    Raises:
        DataError: It is absent, or of another kind, such as a table where a trace is to be decoded.
    """
    if name not in recording.signals:
        raise DataError(
            f"recording {recording.id}: no {name!r}, which is optional in the card, but which its "
            "tasks or windows need; leave the recording out, or name another signal"
        )
    found = recording.signals[name]
    if not isinstance(found, kind):
        raise DataError(
            f"recording {recording.id}: {name!r} ({found.source}) is {type(found).__name__}, but "
            f"the card uses it as {kind.__name__}; name another signal in the card's tasks"
        )
    return found


def _stretches(recording: AlignedRecording, card: Card) -> list[tuple[float, float]]:
    """Where windows may lie: the `within` intervals, else what inputs and targets share."""
    if card.windows.within:
        table = signal(recording, card.windows.within, Intervals)
        return sorted(zip(table.start.tolist(), table.stop.tolist(), strict=True))
    names = {*card.inputs, *(t.signal for t in card.tasks.values() if t.kind == "regression")}
    spans = [recording.signals[name].span for name in names if name in recording.signals]
    return [(max(a for a, _ in spans), min(b for _, b in spans))]


def _split_time(recording: AlignedRecording, card: Card, stretches: list) -> dict[str, list]:
    """Cut where the declared shares of the *answerable* instants lie, not of the wall clock."""
    instants = np.sort(np.concatenate([_instants(recording, card, a, b) for a, b in stretches]))
    if len(instants) == 0:
        raise DataError(f"recording {recording.id}: no instant at which a task can be asked")
    split = card.split
    shares = (split.train, split.train + split.valid)
    cuts = [float(instants[int(len(instants) * share)]) for share in shares]
    blocks = {
        "train": (-np.inf, cuts[0] - split.guard),
        "valid": (cuts[0], cuts[1] - split.guard),
        "test": (cuts[1], np.inf),
    }
    return {
        name: [
            (max(a, lo), min(b, hi)) for a, b in stretches if min(b, hi) - max(a, lo) > TOLERANCE
        ]
        for name, (lo, hi) in blocks.items()
    }


def _split_trials(recording: AlignedRecording, card: Card, stretches: list) -> dict[str, list]:
    """Cut each class's list of trials in order; drop earlier splits' trials within the guard."""
    labels = _labels(recording, card, stretches)
    parts: dict[str, list] = {split: [] for split in SPLITS}
    for label in sorted(set(labels) - {""}):
        trials = [s for s, of in zip(stretches, labels, strict=True) if of == label]
        cuts = [
            round(len(trials) * share)
            for share in (card.split.train, card.split.train + card.split.valid)
        ]
        for split, chosen in zip(SPLITS, np.split(np.arange(len(trials)), cuts), strict=True):
            parts[split] += [trials[i] for i in chosen]
    for earlier, later in (("valid", ["test"]), ("train", ["valid", "test"])):
        fixed = [s for name in later for s in parts[name]]
        parts[earlier] = [
            (a, b)
            for a, b in parts[earlier]
            if all(b + card.split.guard <= c or d + card.split.guard <= a for c, d in fixed)
        ]
    return {split: sorted(chosen) for split, chosen in parts.items()}


def _labels(recording: AlignedRecording, card: Card, stretches: list) -> list[str]:
    """The class of each stretch by the first classification task, "all" where there is none."""
    for spec in card.tasks.values():
        if isinstance(spec, ClassificationTask):
            table, known = signal(recording, spec.signal, Intervals), classes(recording, spec)
            values = [str(v) for v in table.columns[spec.column]]
            by_start = dict(zip(table.start.tolist(), values, strict=True))
            return [v if (v := by_start.get(a, "")) in known else "" for a, _ in stretches]
    return ["all"] * len(stretches)


def _instants(recording: AlignedRecording, card: Card, a: float, b: float) -> Float[ndarray, " t"]:
    """Times in [a, b) at which the first regression task, else any class, can be asked (s)."""
    whole = Window("all", a, b, a)
    for name, spec in card.tasks.items():
        if isinstance(spec, RegressionTask):
            found = target(recording, card, name, whole)
            return a + found.times[found.mask]
    return np.array([a])


def _lay(split: str, a: float, b: float, card: Card, grid: tuple) -> Iterator[Window]:
    """Windows over [a, b): overlapping for training, each instant scored once otherwise."""
    t0, rate = grid

    def snap(time: float) -> float:
        return t0 + float(np.ceil((time - t0) * rate - TOLERANCE)) / rate

    a, spec = snap(a), card.windows
    if b - a <= spec.duration + TOLERANCE:
        if b - a > 1.5 / rate:
            yield Window(split, a, b, a)
        return
    step = spec.step if split == "train" else spec.duration - spec.context
    start, scored = a, a
    while scored < b - TOLERANCE:
        start = min(start, snap(b - spec.duration))
        stop = min(start + spec.duration, b)
        yield Window(split, start, stop, start if split == "train" else scored)
        scored, start = stop, snap(start + step)


def _grid(recording: AlignedRecording, card: Card) -> tuple[float, float]:
    """Start and rate (Hz) of the slowest input, on whose samples windows begin."""
    grids = [
        (s.t0, s.rate)
        for name in card.inputs
        if isinstance(s := recording.signals.get(name), Samples) and s.rate
    ]
    return min(grids, key=lambda grid: grid[1], default=(0.0, 1.0 / card.windows.bin_width))


def _asks_anything(recording: AlignedRecording, card: Card, window: Window) -> bool:
    return any(target(recording, card, task, window).mask.any() for task in card.tasks)


def _rate(signal: Samples) -> float:
    assert signal.rate is not None, "align makes every signal regular"
    return signal.rate


def _values(signal: Any, card: Card, window: Window) -> tuple:
    duration = window.stop - window.start
    if isinstance(signal, Events):
        width = card.windows.bin_width
        n = max(1, round(duration / width))
        lo, hi = np.searchsorted(signal.times, (window.start, window.start + n * width))
        counts = bin_events(
            signal.times[lo:hi], signal.index[lo:hi], len(signal.units), window.start, width, n
        )
        return width, counts.astype(np.float32), np.ones(n, bool)
    first = round((window.start - signal.t0) * _rate(signal))
    n = max(1, round(duration * _rate(signal)))
    lo, hi = max(first, 0), max(0, min(first + n, len(signal)))
    values = np.zeros((n, signal.values.shape[1]), np.float32)
    mask = np.zeros(n, bool)
    if hi > lo:
        here = slice(lo - first, hi - first)
        values[here] = signal.values[lo:hi]
        mask[here] = True if signal.mask is None else signal.mask[lo:hi]
        values[~mask] = 0.0
    return 1.0 / _rate(signal), values, mask


def _continuous_target(signal: Samples, spec: RegressionTask, window: Window) -> WindowTarget:
    lo = max(0, int(np.ceil((window.start - signal.t0) * _rate(signal) - TOLERANCE)))
    hi = min(len(signal), int(np.ceil((window.stop - signal.t0) * _rate(signal) - TOLERANCE)))
    hi = max(lo, hi)
    columns = spec.columns or list(range(signal.values.shape[1]))
    values = np.asarray(signal.values[lo:hi], np.float64)[:, columns]
    times = signal.t0 + np.arange(lo, hi) / _rate(signal)
    mask = np.isfinite(values).all(axis=1) & (times >= window.score_from - TOLERANCE)
    if signal.mask is not None:
        mask &= signal.mask[lo:hi]
    if spec.while_moving is not None:
        mask &= _speed(signal, columns, lo, hi) > spec.while_moving
    return WindowTarget(times - window.start, np.nan_to_num(values).astype(np.float32), mask)


def _speed(signal: Samples, columns: list[int], lo: int, hi: int) -> Float[ndarray, " time"]:
    """Speed of samples lo…hi over the `SPEED_SPAN` around each, 0 where that is not all recorded.

    It reads beyond the window, so that an instant's speed is the same in every window.
    """
    half = max(1, round(SPEED_SPAN * _rate(signal) / 2))
    before, after = np.arange(lo, hi) - half, np.arange(lo, hi) + half
    inside = (before >= 0) & (after < len(signal))
    first, last = max(0, lo - half), min(len(signal), hi + half)
    values = np.asarray(signal.values[first:last], np.float64)[:, columns]
    step = values[after[inside] - first] - values[before[inside] - first]
    speed = np.zeros(hi - lo)
    speed[inside] = np.linalg.norm(step, axis=1) * _rate(signal) / (2 * half)
    if signal.mask is not None:
        seen = signal.mask[before.clip(0)] & signal.mask[after.clip(max=len(signal) - 1)]
        speed[~seen] = 0.0
    return speed


def _class_target(
    table: Intervals, spec: ClassificationTask, known: list[str], window: Window
) -> WindowTarget:
    """One query at the end of each labelled interval that fills at least half of the window."""
    overlap = np.minimum(table.stop, window.stop) - np.maximum(table.start, window.start)
    shorter = np.minimum(table.stop - table.start, window.stop - window.start)
    rows = np.flatnonzero(overlap >= 0.5 * shorter - TOLERANCE)
    labels = [str(table.columns[spec.column].iloc[row]) for row in rows]
    index = [known.index(label) if label in known else -1 for label in labels]
    times = np.minimum(table.stop[rows], window.stop) - window.start
    values = np.maximum(np.array(index, np.float32), 0.0)[:, None]
    return WindowTarget(times, values.reshape(-1, 1), np.array(index, int) >= 0)
