"""Mean and scale of channels and targets, over train windows only.

Sums are kept, so that recordings can be measured apart and joined, and no window has to stay in
memory.
"""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from numpy import ndarray

from neurofmx.data.cards import Card, ClassificationTask
from neurofmx.types import AlignedRecording, Events, Intervals, Signal


class Moments:
    """Running count, sum and sum of squares of each column."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, np.zeros(0), np.zeros(0)

    def add(self, values: Shaped[ndarray, "row column"]) -> None:
        """Take in rows of values."""
        values = values.astype(np.float64)
        if self.count == 0:
            self.total, self.squares = np.zeros(values.shape[1]), np.zeros(values.shape[1])
        self.count += len(values)
        self.total += values.sum(axis=0)
        self.squares += (values**2).sum(axis=0)

    def sums(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "count": self.count,
            "total": self.total.tolist(),
            "squares": self.squares.tolist(),
        }

    def join(self, sums: dict[str, Any]) -> None:
        """Take in what another `Moments` saw."""
        if sums["count"] == 0:
            return
        if self.count == 0:
            self.total, self.squares = np.zeros(len(sums["total"])), np.zeros(len(sums["total"]))
        self.count += sums["count"]
        self.total += np.array(sums["total"])
        self.squares += np.array(sums["squares"])

    @property
    def mean(self) -> Float[ndarray, " column"]:
        """Mean of each column; 0 where nothing was seen."""
        return self.total / max(1, self.count)

    @property
    def variance(self) -> Float[ndarray, " column"]:
        """Variance of each column, never below 0."""
        return np.maximum(self.squares / max(1, self.count) - self.mean**2, 0.0)


class ChannelStatistics:
    """Mean and scale of each channel of a recording's inputs."""

    def __init__(self, recording: AlignedRecording, card: Card) -> None:
        self.recording = recording
        self._moments = {n: Moments() for n in card.inputs if n in recording.signals}

    def add(self, inputs: dict[str, tuple]) -> None:
        """Take in a train window, as `windows.inputs` gives it."""
        for name, (_, values, mask) in inputs.items():
            self._moments[name].add(values[mask])

    def table(self) -> pd.DataFrame:
        """A row per recording, signal and channel.

        The scale is the channel's deviation shrunk halfway toward the signal's mean variance: a
        nearly silent unit keeps a scale that its one event does not blow up.
        """
        rows = []
        for name, moments in self._moments.items():
            variance = moments.variance
            scale = np.sqrt(0.5 * (variance + variance.mean()))
            for channel, label in enumerate(_labels(self.recording.signals[name])):
                place = {"recording": self.recording.id, "signal": name, "channel": channel}
                size = {"mean": moments.mean[channel], "scale": max(scale[channel], 1e-12)}
                rows.append(place | {"label": label} | size)
        return pd.DataFrame(rows)


def join_tasks(card: Card, sums: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What a model must know of each task: kind, classes or dimensions, mean and scale."""
    tasks: dict[str, dict[str, Any]] = {}
    for task, spec in card.tasks.items():
        if isinstance(spec, ClassificationTask):
            tasks[task] = {"kind": spec.kind, "classes": spec.classes}
            continue
        moments = Moments()
        for part in sums:
            moments.join(part[task])
        scale = np.sqrt(moments.variance)
        tasks[task] = {
            "kind": spec.kind,
            "mean": moments.mean.tolist(),
            "scale": np.where(scale > 0, scale, 1.0).tolist(),
        }
    return tasks


def _labels(signal: Signal) -> list[str]:
    """A name for each channel: its `label`, `name` or `id`, else its number."""
    assert not isinstance(signal, Intervals), "a table is no input"
    table = signal.units if isinstance(signal, Events) else signal.channels
    for column in ("label", "name", "id"):
        if column in table and len(table):
            return [str(value) for value in table[column]]
    count = len(table) if isinstance(signal, Events) else signal.values.shape[1]
    return [str(channel) for channel in range(count)]
