"""Cut an aligned recording into windows: train, then valid, then test, never shuffled.

Time is split in contiguous blocks (or trials in their order) before any window is laid, so that
overlapping windows share a split. The earlier block ends `guard` seconds before a cut. Valid and
test windows score each instant once; where a recording is cut without trials, they begin and end
with a stretch that is seen but not scored.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from neurofmx.data.cards import Card
from neurofmx.data.inputs import Occurred, Sampled, about_input, read_input
from neurofmx.data.signal_cards import SignalCard
from neurofmx.data.targets import (
    TOLERANCE,
    Window,
    WindowTarget,
    class_target,
    sampled_target,
)
from neurofmx.data.tasks import LabelTask, SampledTask
from neurofmx.errors import DataError
from neurofmx.types import AlignedRecording, Intervals, Samples, Signal

SPLITS = ("train", "valid", "test")
S = TypeVar("S", Samples, Intervals)
T = TypeVar("T")


def cut(recording: AlignedRecording, card: Card) -> list[Window]:
    """The windows of a recording, in time order within each split.

    Those in which nothing is asked are left out, unless the card has no task: then the model
    learns from the signals alone, and time is split as it passes.

    Raises:
        DataError: A split is empty; says how long the recording is and what the card asks.
    """
    stretches = _stretches(recording, card)
    wanted = card.split.parts(recording.id)
    if wanted == ("test",):
        parts: dict[str, list] = {"train": [], "valid": [], "test": stretches}
    elif card.split.by == "trial":
        parts = _split_trials(recording, card, stretches)
    else:
        parts = _split_time(recording, card, stretches)
    grid = _grid(recording, card)
    windows = [w for s in SPLITS for a, b in parts[s] for w in _lay(s, a, b, card, grid)]
    if card.tasks:
        windows = [w for w in windows if _asks_anything(recording, card, w)]
    for split in wanted:
        if not any(w.split == split for w in windows):
            length = sum(b - a for a, b in stretches)
            raise DataError(
                f"recording {recording.id}: no window for {split!r}. The card cuts "
                f"{len(stretches)} stretches of {length:.6g} s in all by {card.split.by} into "
                f"windows of {card.windows.duration} s with a guard of {card.split.guard} s; "
                "shorten the windows or the guard, or give that split a larger part"
            )
    return windows


def inputs(
    recording: AlignedRecording, card: Card, window: Window
) -> dict[str, Sampled | Occurred]:
    """Each input signal in a window, by name.

    Raises:
        DataError: A signal does not fit what the card says of it; names both.
    """
    where = (card.windows.bin_width, window.start, window.stop)
    return _of_inputs(recording, card, lambda signal, spec: read_input(signal, spec, *where))


def about(recording: AlignedRecording, card: Card) -> dict[str, dict[str, Any]]:
    """What there is to know of each input of the recording, by name, as `about_input` says it.

    Raises:
        DataError: A signal does not fit what the card says of it; names both.
    """
    width = card.windows.bin_width
    return _of_inputs(recording, card, lambda signal, spec: about_input(signal, spec, width))


def target(recording: AlignedRecording, card: Card, task: str, window: Window) -> WindowTarget:
    """What `task` asks in a window; `mask` is false where the answer is undefined or context."""
    spec = card.tasks[task]
    if isinstance(spec, SampledTask):
        return sampled_target(signal(recording, spec.signal, Samples), spec, window)
    table = signal(recording, spec.signal, Intervals)
    return class_target(table, spec, classes(recording, spec), window)


def classes(recording: AlignedRecording, spec: LabelTask) -> list[str]:
    """Labels of a task, in a fixed order.

    Raises:
        DataError: The table lacks a column that is named; says those it has.
    """
    table = signal(recording, spec.signal, Intervals)
    return spec.classes or sorted(set(_labels_of(recording, table, spec)) - {""})


def _labels_of(recording: AlignedRecording, table: Intervals, spec: LabelTask) -> list[str]:
    try:
        return spec.labels(table.columns)
    except ValueError as error:
        raise DataError(f"recording {recording.id}: {spec.signal!r}: {error}") from error


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


def _of_inputs(
    recording: AlignedRecording, card: Card, work: Callable[[Signal, SignalCard], T]
) -> dict[str, T]:
    found = {}
    for name, spec in card.inputs.items():
        if name in recording.signals:
            try:
                found[name] = work(recording.signals[name], spec)
            except (DataError, ValueError) as error:
                raise DataError(f"recording {recording.id}: signal {name!r}: {error}") from error
    return found


def _stretches(recording: AlignedRecording, card: Card) -> list[tuple[float, float]]:
    """Where windows may lie: the `within` intervals, else what inputs and targets share.

    Raises:
        DataError: There is no input, or they share no time.
    """
    if not any(name in recording.signals for name in card.inputs):
        raise DataError(
            f"recording {recording.id}: nothing for the model to read among "
            f"{', '.join(sorted(recording.signals))}; name a signal of another modality in the "
            "card, or take `input: false` from one"
        )
    if card.windows.within:
        table = signal(recording, card.windows.within, Intervals)
        begin = (table.start + card.windows.begin).tolist()
        end = (table.stop + card.windows.end).tolist()
        return sorted((a, b) for a, b in zip(begin, end, strict=True) if a < b)
    names = {*card.inputs, *(t.signal for t in card.tasks.values() if isinstance(t, SampledTask))}
    spans = {n: recording.signals[n].span for n in sorted(names) if n in recording.signals}
    start, stop = max(a for a, _ in spans.values()), min(b for _, b in spans.values())
    if not start < stop:
        known = ", ".join(f"{name} {a:.6g} to {b:.6g} s" for name, (a, b) in spans.items())
        raise DataError(
            f"recording {recording.id}: inputs and targets share no time: {known}. Take one out "
            "of the card, or tie their clocks with `clocks`"
        )
    return [(start, stop)]


def _split_time(recording: AlignedRecording, card: Card, stretches: list) -> dict[str, list]:
    """Cut where the declared shares of the *answerable* instants lie, not of the wall clock.

    Without a task every instant is as good as any other.
    """
    split = card.split
    shares = split.shares
    if card.tasks:
        instants = np.sort(np.concatenate([_instants(recording, card, a, b) for a, b in stretches]))
        if len(instants) == 0:
            raise DataError(f"recording {recording.id}: no instant at which a task can be asked")
        cuts = [_at_rank(instants, share) for share in shares]
    else:
        cuts = [_at_share(stretches, share) for share in shares]
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


def _at_rank(instants: Float[ndarray, " t"], share: float) -> float:
    """The instant before which this share of them lies (s); behind the last for all."""
    place = int(len(instants) * share + TOLERANCE)
    return float(instants[place]) if place < len(instants) else np.inf


def _at_share(stretches: list[tuple[float, float]], share: float) -> float:
    """Time at which this share of all stretches, one after the other, has passed (s)."""
    left = share * sum(b - a for a, b in stretches)
    for a, b in stretches:
        if left < b - a:
            return a + left
        left -= b - a
    return stretches[-1][1]


def _split_trials(recording: AlignedRecording, card: Card, stretches: list) -> dict[str, list]:
    """Cut each class's list of trials in order; drop earlier splits' trials within the guard."""
    labels = _labels(recording, card, stretches)
    parts: dict[str, list] = {split: [] for split in SPLITS}
    for label in sorted(set(labels) - {""}):
        trials = [s for s, of in zip(stretches, labels, strict=True) if of == label]
        cuts = [round(len(trials) * share) for share in card.split.shares]
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
    """The class of each stretch by the first task of labels, "all" where there is none."""
    for spec in card.tasks.values():
        if isinstance(spec, LabelTask):
            table, known = signal(recording, spec.signal, Intervals), classes(recording, spec)
            values = _labels_of(recording, table, spec)
            start = table.start + card.windows.begin
            by_start = dict(zip(start.tolist(), values, strict=True))
            return [v if (v := by_start.get(a, "")) in known else "" for a, _ in stretches]
    return ["all"] * len(stretches)


def _instants(recording: AlignedRecording, card: Card, a: float, b: float) -> Float[ndarray, " t"]:
    """Times in [a, b) at which the first task of samples, else any label, can be asked (s)."""
    whole = Window("all", a, b, a)
    for name, spec in card.tasks.items():
        if isinstance(spec, SampledTask):
            found = target(recording, card, name, whole)
            return a + found.times[found.mask]
    return np.array([a])


def _lay(split: str, a: float, b: float, card: Card, grid: tuple) -> Iterator[Window]:
    """Windows over [a, b): overlapping for training, each instant scored once otherwise."""
    a, spec = _snapped(a, *grid), card.windows
    if b - a <= spec.duration + TOLERANCE:
        if b - a > 1.5 / grid[1]:
            yield Window(split, a, b, a)
        return
    seen = spec.context + spec.ahead
    step = spec.step if split == "train" else spec.duration - seen
    start, scored = a, a
    while scored < b - TOLERANCE:
        start = min(start, _snapped(b - spec.duration, *grid))
        stop = min(start + spec.duration, b)
        if split == "train":
            window = Window(split, start, stop, start)
        elif stop < b - TOLERANCE:
            window = Window(split, start, stop, scored, stop - spec.ahead)
        else:
            window = Window(split, start, stop, scored)
        yield window
        scored, start = min(stop, window.score_to), _snapped(start + step, *grid)


def _snapped(time: float, t0: float, rate: float) -> float:
    """The first place of a grid at or after a time (s)."""
    return t0 + float(np.ceil((time - t0) * rate - TOLERANCE)) / rate


def _grid(recording: AlignedRecording, card: Card) -> tuple[float, float]:
    """Start and rate (Hz) of the slowest input, on whose samples windows begin."""
    grids = [
        (s.t0, 1.0 / spec.mel.hop if spec.tokenized_by == "audio" else s.rate)
        for name, spec in card.inputs.items()
        if isinstance(s := recording.signals.get(name), Samples) and s.rate
    ]
    return min(grids, key=lambda grid: grid[1], default=(0.0, 1.0 / card.windows.bin_width))


def _asks_anything(recording: AlignedRecording, card: Card, window: Window) -> bool:
    return any(target(recording, card, task, window).mask.any() for task in card.tasks)
