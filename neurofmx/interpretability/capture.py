"""What the analyses look at: features of the model and of its untrained twin, with the behaviour.

Features are those of the backbone, one row per token. Behaviour is read at the middle of the
token, where a task asks about it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from neurofmx.data.shards import Sample, Shards
from neurofmx.models import NeuroFMX
from neurofmx.training.inference import Answers, Features, answers, features

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Captured:
    """Backbone features of one signal by model and split, over the same tokens."""

    tokens: dict[str, dict[str, Features]]

    def of(
        self, model: str, split: str, recording: str | None = None
    ) -> Float[ndarray, "token width"]:
        """Features, of all recordings or of one."""
        found = self.tokens[model][split]
        return found.values if recording is None else found.values[self.rows(split, recording)]

    def times(self, split: str, recording: str) -> Float[ndarray, " token"]:
        """Middle of each token of a recording, on its clock (s)."""
        return self.tokens["neurofmx"][split].time[self.rows(split, recording)]

    def rows(self, split: str, recording: str) -> Bool[ndarray, " token"]:
        """Which tokens of a split are of a recording."""
        return self.tokens["neurofmx"][split].recording == recording


def capture(
    models: dict[str, NeuroFMX],
    shards: Shards,
    recordings: list[str],
    signal: str,
    held_out: str = "test",
) -> Captured:
    """Features of the windows of each split; overlapping training windows are taken once.

    Args:
        held_out: Split that stands as test.
    """
    positions = _positions(shards, recordings, held_out)
    return Captured(
        {
            name: {s: features(model, shards, positions[s], signal) for s in SPLITS}
            for name, model in models.items()
        }
    )


def fuse(
    models: dict[str, NeuroFMX],
    shards: Shards,
    recordings: list[str],
    task: str,
    held_out: str = "test",
) -> dict[str, dict[str, Answers]]:
    """What the latents answer to a task in the same windows, by model and split."""
    positions = _positions(shards, recordings, held_out)
    return {
        name: {s: answers(model, shards, positions[s])[task] for s in SPLITS}
        for name, model in models.items()
    }


def _positions(shards: Shards, recordings: list[str], held_out: str) -> dict[str, list[int]]:
    places = dict(zip(SPLITS, ("train", "valid", held_out), strict=True))
    return {split: apart(shards, place, recordings) for split, place in places.items()}


def nearest(
    times: Float[ndarray, " token"],
    values: Float[ndarray, "token width"],
    at: Float[ndarray, " time"],
) -> Float[ndarray, "time width"]:
    """The token whose middle lies nearest to each instant (s)."""
    return values[np.searchsorted((times[1:] + times[:-1]) / 2, at)]


def apart(shards: Shards, split: str, recordings: list[str]) -> list[int]:
    """Windows of a split that do not overlap one taken before."""
    taken = []
    for recording in recordings:
        reached = -np.inf
        for position in shards.positions(split, [recording]).tolist():
            row = shards.index.iloc[position]
            if row.start >= reached - 1e-6:
                taken.append(position)
                reached = row.stop
    return taken


@dataclass(frozen=True)
class Beside:
    """What a recording did at the tokens of a split, in order of time.

    Attributes:
        units: Mean of each unit or channel over the token, as it was recorded.
        behaviour: The task's target at the middle of the token.
        asked: False where the task does not ask.
    """

    units: Float[ndarray, "token unit"]
    behaviour: Float[ndarray, "token dim"]
    asked: Bool[ndarray, " token"]


def beside(shards: Shards, found: Features, recording: str, signal: str, task: str) -> Beside:
    """Units and behaviour at the tokens of a recording."""
    rows = np.flatnonzero(found.recording == recording)
    edges = np.flatnonzero(found.window[rows][1:] != found.window[rows][:-1]) + 1
    parts = []
    for chosen in np.split(rows, edges):
        sample = shards[found.window[chosen[0]]]
        times = found.time[chosen] - sample.info["start"]
        parts.append((_units(sample, signal, times), *_behaviour(sample, task, times)))
    return Beside(*map(np.concatenate, zip(*parts, strict=True)))


def _units(
    sample: Sample, signal: str, times: Float[ndarray, " token"]
) -> Float[ndarray, "token unit"]:
    """Mean of the samples that lie nearest to each token."""
    values, mask = sample.arrays[f"{signal}.values"], sample.arrays.get(f"{signal}.mask", True)
    at = (np.arange(len(values)) + 0.5) * sample.info["dt"][signal]
    token = np.searchsorted((times[1:] + times[:-1]) / 2, at)
    member = ((token == np.arange(len(times))[:, None]) & mask).astype(float)
    return member @ values / np.maximum(member.sum(axis=1, keepdims=True), 1.0)


def _behaviour(
    sample: Sample, task: str, times: Float[ndarray, " token"]
) -> tuple[Float[ndarray, "token dim"], Bool[ndarray, " token"]]:
    """The target at each token and whether the query next to it is asked."""
    at, target = sample.arrays[f"{task}.times"], sample.arrays[f"{task}.target"]
    closest = np.abs(at - times[:, None]).argmin(axis=1)
    read = np.stack([np.interp(times, at, column) for column in target.T], axis=1)
    return read, sample.arrays[f"{task}.asked"][closest]
