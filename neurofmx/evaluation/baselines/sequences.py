"""A recording as runs of bins, which is what networks are trained on.

Numbers are asked of bins of the target's grid, or of bins that hold k of its samples where it is
faster than `rate`; such a bin has k answers. Runs are stretches of bins that windows of one split
cover without a break, so that nothing is ever carried over the edge of a split or of a stretch.
Labels are asked of windows: each is a run of up to `FRAMES` frames, with the number of events, the
mean of a sampled signal, or of traces the log power of a tapered frame in bands of 1 Hz.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from neurofmx.data.cards import Card
from neurofmx.data.inputs import COUNTS
from neurofmx.data.samples import Sample
from neurofmx.data.tasks import SampledTask
from neurofmx.evaluation import design
from neurofmx.evaluation.baselines.base import Problem
from neurofmx.evaluation.queries import read_queries
from neurofmx.types import Intervals, Samples

FRAMES = 20  # of a window at most
FRAME = 1.0  # longest frame whose power is taken (s)
HIGHEST_BAND = 45.0  # Hz; below mains hum
EDGE = 1e-6  # bins; times carry rounding


@dataclass(frozen=True)
class Asked:
    """What a split asks.

    Attributes:
        runs: First bin and end of each run; of labels there is one for each query.
        at: Bin of each query, and which of its bin's answers it wants.
        truth: Coded values, or the class in column 0.
    """

    runs: Int[ndarray, "run 2"]
    at: Int[ndarray, "query 2"]
    truth: Float[ndarray, "query coded"]


@dataclass(frozen=True)
class Sequences:
    """The inputs of a recording in bins, and what is asked.

    Attributes:
        signals: By name; NaN where nothing was recorded.
        asked: By split. Of numbers, train and valid ask each instant once.
        rate: Of the bins (Hz); of labels that of the longest window's frames.
        slots: Answers of a bin.
        n_classes: 0 where numbers are asked.
        origin: Of numbers the start of bin 0 (s).
    """

    signals: dict[str, Float[ndarray, "bin _channel"]]
    asked: dict[str, Asked]
    rate: float
    slots: int
    n_classes: int
    origin: float = 0.0

    @property
    def n(self) -> int:
        """Bins there are."""
        return len(next(iter(self.signals.values())))

    @property
    def outputs(self) -> int:
        """Numbers that a network gives for a bin, or for a window of labels."""
        return self.n_classes or self.slots * self.asked["train"].truth.shape[1]

    def bins(self, splits: Iterable[str]) -> Int[ndarray, " bin"]:
        """Every bin of the splits' runs, in order."""
        runs = [np.arange(a, b) for split in splits for a, b in self.asked[split].runs]
        return np.unique(np.concatenate(runs))

    def standardised(self) -> Float[ndarray, "bin channel"]:
        """All inputs side by side, centred and scaled by the bins of the train split."""
        return design.standardised(list(self.signals.values()), self.bins(["train"]))

    def counts(self, card: Card) -> Float[ndarray, "bin unit"]:
        """Events of each unit in each bin; 0 where nothing was recorded."""
        return np.hstack([np.nan_to_num(self.signals[name]) for name in counted(card, self)])

    def run_of(self, split: str) -> Int[ndarray, "bin 2"]:
        """First bin and end of the run that each bin of a split lies in; −1 elsewhere."""
        bounds = np.full((self.n, 2), -1)
        for a, b in self.asked[split].runs:
            bounds[a:b] = a, b
        return bounds

    def read(self, features: Float[ndarray, "bin width"], split: str) -> Float[ndarray, "query w"]:
        """Features at the queries of a split: between bins along a line, of labels their mean."""
        asked = self.asked[split]
        if self.n_classes:
            return np.stack([features[a:b].mean(axis=0) for a, b in asked.runs])
        place = asked.at[:, 0] + (asked.at[:, 1] - (self.slots - 1) / 2) / self.slots
        first, end = self.run_of(split)[asked.at[:, 0]].T
        place = place.clip(first, end - 1)
        below = np.floor(place).astype(int)
        above, share = np.minimum(below + 1, end - 1), (place - below)[:, None]
        return ((1 - share) * features[below] + share * features[above]).astype(np.float32)


def counted(card: Card, sequences: Sequences) -> list[str]:
    """Names of the inputs that count events."""
    return [name for name in sequences.signals if card.signals[name].modality in COUNTS]


def no_counts(problem: Problem) -> str | None:
    """What a problem lacks for a model of spikes; None where it has it."""
    names = [n for n in problem.card.inputs if n in problem.recording.signals]
    if any(problem.card.signals[name].modality in COUNTS for name in names):
        return None
    return f"it models counts of events, and the inputs are {', '.join(names)}"


def sequences(problem: Problem, rate: float) -> Sequences:
    """What networks see of a problem.

    Args:
        rate: At most so many bins a second (Hz).
    """
    return _of_labels(problem, rate) if problem.n_classes else _of_numbers(problem, rate)


def _of_numbers(problem: Problem, rate: float) -> Sequences:
    spec = problem.card.tasks[problem.task]
    assert isinstance(spec, SampledTask)
    target = design.Grid.of(problem.recording.signals[spec.signal])
    slots = int(np.ceil(target.rate / rate - EDGE))
    grid = design.Grid(target.t0, target.rate / slots, -(-target.n // slots))
    names = [name for name in problem.card.inputs if name in problem.recording.signals]
    found = design.inputs_at(problem.recording, problem.card, grid)
    signals = {
        name: values * _samples_in(problem, name, grid)
        for name, values in zip(names, found, strict=True)
    }
    asked = {}
    for split, queries in problem.queries.items():
        at = np.round((queries.time - target.t0) * target.rate).astype(int)
        kept = np.arange(len(at)) if split == "test" else np.unique(at, return_index=True)[1]
        truth = problem.code(queries.truth[kept])
        asked[split] = Asked(
            _runs(problem, split, grid), np.stack(divmod(at[kept], slots), 1), truth
        )
    return Sequences(signals, asked, grid.rate, slots, 0, grid.t0)


def _samples_in(problem: Problem, name: str, grid: design.Grid) -> float:
    """What makes a count in a bin of the mean of its samples; 1 for other signals."""
    signal = problem.recording.signals[name]
    if isinstance(signal, Samples) and problem.card.signals[name].modality in COUNTS:
        return design.Grid.of(signal).rate / grid.rate
    return 1.0


def _runs(problem: Problem, split: str, grid: design.Grid) -> Int[ndarray, "run 2"]:
    """Bins that windows of a split cover, cut where the card says that no window may cross."""
    windows, begins = problem.card.windows, np.array([-np.inf])
    if windows.within:
        table = problem.recording.signals[windows.within]
        assert isinstance(table, Intervals)
        begins = np.sort(table.start + windows.begin)
    stretch = np.full(grid.n, -1)
    for start, stop in _spans(problem, split):
        first = max(0, int(np.floor((start - grid.t0) * grid.rate + EDGE)))
        end = int(np.ceil((stop - grid.t0) * grid.rate - EDGE))
        stretch[first:end] = np.searchsorted(begins, start + EDGE, side="right")
    edges = np.union1d(np.flatnonzero(np.diff(stretch)) + 1, [0, grid.n])
    runs = np.stack([edges[:-1], edges[1:]], axis=1)
    return runs[stretch[runs[:, 0]] >= 0]


def _spans(problem: Problem, split: str) -> Float[ndarray, "window 2"]:
    """Start and stop (s) of the windows that ask the task, on the clock of the problem."""
    index = problem.shards.index.iloc[problem.positions[split]][["start", "stop"]].to_numpy()
    own = read_queries(problem.shards, problem.task, problem.positions[split])
    moved = np.zeros(len(index))  # of several recordings laid behind each other
    moved[own.window] = problem.queries[split].time - own.time
    return (index + moved[:, None])[np.unique(own.window)]


def _of_labels(problem: Problem, rate: float) -> Sequences:
    parts: dict[str, list[Float[ndarray, "bin _channel"]]] = {}
    asked, n = {}, 0
    for split, queries in problem.queries.items():
        bounds = []
        for position in problem.positions[split]:
            framed = _framed(problem, problem.shards[position], rate)
            for name, values in framed.items():
                parts.setdefault(name, []).append(values)
            bounds.append((n, n := n + len(values)))
        runs = np.array(bounds)[queries.window]
        asked[split] = Asked(runs, np.stack([runs[:, 0], 0 * runs[:, 0]], 1), queries.truth)
    signals = {name: np.concatenate(values) for name, values in parts.items()}
    longest = max(np.ptp(each.runs, axis=1).max() for each in asked.values())
    return Sequences(signals, asked, longest / problem.card.windows.duration, 1, problem.n_classes)


def _framed(problem: Problem, window: Sample, rate: float) -> dict[str, Float[ndarray, "frame _c"]]:
    """A window's inputs in the same number of frames, by name."""
    arrays, recording = window.arrays, window.info["recording"]
    seconds = window.info["stop"] - window.info["start"]
    names = [
        name
        for name in sorted(problem.shards.signals)
        if f"{name}.values" in arrays or f"{name}.events" in arrays
    ]
    if problem.channels:
        names = [name for name in names if (recording, name) in problem.channels]
    sampled = [len(arrays[f"{n}.values"]) for n in names if f"{n}.values" in arrays]
    n = max(1, min(FRAMES, round(seconds * rate), *sampled))
    framed = {}
    for name in names:
        if f"{name}.events" in arrays:
            found = _counted(problem, window, name, n)
        else:
            about, values = problem.shards.signals[name], arrays[f"{name}.values"]
            traces = about["tokenizer"] == "continuous"
            found = _powers(values, 1 / about["dt"], n) if traces else _parts(values, about, n)
        columns = problem.channels.get((recording, name))
        framed[name] = found if columns is None else _picked(found, columns, window, name)
    return framed


def _counted(problem: Problem, window: Sample, name: str, n: int) -> Float[ndarray, "frame unit"]:
    table = problem.shards.channels
    of = (table["recording"] == window.info["recording"]) & (table["signal"] == name)
    seconds = window.info["stop"] - window.info["start"]
    frame = np.minimum((window.arrays[f"{name}.events"] / seconds * n).astype(int), n - 1)
    counts = np.zeros((n, int(of.sum())), np.float32)
    np.add.at(counts, (frame, window.arrays[f"{name}.units"].astype(int)), 1)
    return counts


def _parts(values: ndarray, about: dict[str, Any], n: int) -> Float[ndarray, "frame channel"]:
    """Sums of counts, means of anything else that is sampled."""
    cuts = np.round(np.arange(n) * len(values) / n).astype(int)
    total = np.add.reduceat(values.astype(np.float32), cuts, axis=0)
    return total if about["stabilise"] else total * np.float32(n / len(values))


def _picked(
    found: Float[ndarray, "frame column"], columns: list[int], window: Sample, name: str
) -> Float[ndarray, "frame _column"]:
    """Of channels, with all that is known of each, those that all recordings have."""
    values = window.arrays.get(f"{name}.values")
    channels = found.shape[1] if values is None else values.shape[1]
    return found.reshape(len(found), channels, -1)[:, columns].reshape(len(found), -1)


def _powers(values: ndarray, rate: float, n: int) -> Float[ndarray, "frame band"]:
    """Log power of frames that lie evenly in the window, channel by channel."""
    length = min(len(values), max(-(-len(values) // n), round(FRAME * rate)))
    starts = np.round(np.linspace(0, len(values) - length, n)).astype(int)
    frames = np.lib.stride_tricks.sliding_window_view(values, length, axis=0)[starts]
    tapered = (frames - frames.mean(axis=-1, keepdims=True)) * np.hanning(length + 2)[1:-1]
    size = max(length, round(rate))
    frequency = np.fft.rfftfreq(size, 1 / rate)
    bands = (frequency > 0) & (frequency <= min(HIGHEST_BAND, rate / 2))
    power = np.abs(np.fft.rfft(tapered, size)[..., bands]) ** 2
    return np.log(power + np.finfo(np.float32).tiny).reshape(n, -1).astype(np.float32)
