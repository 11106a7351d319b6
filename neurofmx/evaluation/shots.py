"""Shots: labelled trials of a recording that few-shot curves may learn from, and what is tested.

A shot is a trial (an interval of the card's `windows.within`), or a stretch as long as a window
where a recording is cut without any. Shots are drawn from the train part; of one draw the first K
are taken, so that smaller sets are parts of larger ones. Of classes K of each are taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from neurofmx.data import store
from neurofmx.data.cards import Card
from neurofmx.data.shards import Shards
from neurofmx.errors import DataError, UserError
from neurofmx.evaluation.queries import read_queries
from neurofmx.types import AlignedRecording, Intervals

VALID = 1 / 3  # share of the shots by which settings and weights are chosen


@dataclass(frozen=True)
class Target:
    """A recording that the core has never seen, and what is asked of it.

    Attributes:
        shots: Train windows of each shot, in time order.
        labels: Class of each shot, 0 where the task asks for numbers.
        test: Windows that are answered.
        others: Recordings that those are of, where they are not its own.
    """

    recording: AlignedRecording
    card: Card
    shards: Shards
    shots: list[list[int]]
    labels: dict[str, list[int]]
    test: list[int]
    others: tuple[AlignedRecording, ...] = ()

    @property
    def tasks(self) -> list[str]:
        """Those that are shown in train and test."""
        return list(self.labels)

    def enough(self, task: str, shots: int) -> bool:
        """Whether there are as many shots of every class."""
        labels = np.array(self.labels[task])
        return all((labels == label).sum() >= shots for label in set(labels.tolist()) - {-1})

    def drawn(
        self, tasks: Sequence[str], shots: int, seed: int, draw: int
    ) -> tuple[list[int], list[int]]:
        """Windows of the first K shots of a draw, and those of them that choose."""
        rng = np.random.default_rng([seed, draw])
        order = rng.permutation(len(self.shots)).tolist()
        chosen = {k for task in tasks for k in _first(self.labels[task], order, shots)}
        taken = [k for k in order if k in chosen]
        last = len(taken) - int(VALID * len(taken))
        train, valid = taken[:last], taken[last:] or taken
        return self._windows(train), self._windows(valid)

    def _windows(self, shots: list[int]) -> list[int]:
        return sorted(window for shot in shots for window in self.shots[shot])


def target_of(
    recording: str, card: Card, shards: Shards, storage: Path, test_on: Sequence[str] = ()
) -> Target:
    """A recording's shots and what is tested.

    Args:
        storage: Folder of the stages.
        test_on: Patterns of recordings that are tested in place of its own test part.

    Raises:
        UserError: `test_on` names none, or one that cannot be tested.
        DataError: There is no train or no test part.
    """
    aligned, others = _aligned(storage, recording), _others(recording, card, shards, test_on)
    train = shards.positions("train", [recording]).tolist()
    test = shards.positions("test", others or [recording]).tolist()
    shots = _shots(aligned, card, shards, train)
    labels = {}
    for task in shards.tasks:
        asked = [read_queries(shards, task, shot).truth for shot in shots]
        if len(read_queries(shards, task, test)) and any(map(len, asked)):
            labels[task] = [_label(truth, shards.tasks[task]) for truth in asked]
    if not labels:
        raise DataError(
            f"recording {recording}: no task is asked in both its train part ({len(train)} windows)"
            f" and the test part of {', '.join(others) or 'the same'} ({len(test)} windows); few "
            "shots need both"
        )
    tested = tuple(_aligned(storage, other) for other in others)
    return Target(aligned, card, shards, shots, labels, test, tested)


def _others(recording: str, card: Card, shards: Shards, test_on: Sequence[str]) -> list[str]:
    found = [
        other
        for other in shards.recordings.labels
        if other != recording and any(fnmatchcase(other, pattern) for pattern in test_on)
    ]
    if test_on and not found:
        raise UserError(f"test_on: no other recording is like {', '.join(test_on)}")
    shared = [s for s in card.inputs.values() if s.shared(recording) is not None]
    for other in found:
        if card.pretrains(other):
            raise UserError(
                f"test_on: pretraining may see {other}; keep it out of that (`adapt` or `split` of "
                "the card)"
            )
        if not any(signal.shared(other) == signal.shared(recording) for signal in shared):
            raise UserError(
                f"test_on: nothing says that {other} has the same channels as {recording}; if it "
                "has, `same` of the card does"
            )
    return found


def _aligned(storage: Path, recording: str) -> AlignedRecording:
    return store.read_aligned(storage / "align" / f"{recording}.zarr")


def _shots(
    recording: AlignedRecording, card: Card, shards: Shards, train: list[int]
) -> list[list[int]]:
    """Train windows by shot; windows that reach beyond theirs are left out."""
    index = shards.index.iloc[train]
    start, stop = index["start"].to_numpy(), index["stop"].to_numpy()
    if card.windows.within:
        table = recording.signals[card.windows.within]
        assert isinstance(table, Intervals)
        number = np.searchsorted(np.sort(table.start + card.windows.begin), start + 1e-6)
        inside = np.ones(len(start), bool)
    else:
        length = card.windows.duration
        number = np.floor((start - start.min()) / length + 1e-6).astype(int)
        inside = stop <= start.min() + (number + 1) * length + 1e-6
    rows = np.array(train)[inside]
    return [rows[number[inside] == k].tolist() for k in np.unique(number[inside])]


def _label(truth: np.ndarray, task: dict[str, Any]) -> int:
    """Class of a shot, 0 for numbers, −1 where it is not asked."""
    if len(truth) == 0:
        return -1
    return int(truth[0, 0]) if "classes" in task else 0


def _first(labels: list[int], order: list[int], shots: int) -> list[int]:
    """The first shots of an order, as many of each class."""
    return [
        k
        for label in set(labels) - {-1}
        for k in [shot for shot in order if labels[shot] == label][:shots]
    ]
