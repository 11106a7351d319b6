"""What is known of channels and targets: mean and scale over train windows, and where they are.

Sums are kept, so that recordings can be measured apart and joined, and no window has to stay in
memory.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, Real
from numpy import ndarray

from neurofmx.data import windows
from neurofmx.data.cards import Card
from neurofmx.data.inputs import Occurred, Sampled, rate_of
from neurofmx.data.signal_cards import LABEL
from neurofmx.data.tasks import CircularTask, LabelTask
from neurofmx.errors import DataError
from neurofmx.signal.bins import stabilised
from neurofmx.signal.spectra import mel_edges
from neurofmx.types import POSITION, REGION, AlignedRecording, Events, Samples

# What files call the column that says in which part of the brain a unit or a channel is.
REGIONS = (
    REGION,
    "brain_area",
    "brain_region",
    "location",
    "area",
    "acronym",
    "structure_acronym",
    "ecephys_structure_acronym",
    "structure",
)
ROUNDING = 1e-12  # of the squared mean
UNKNOWN = ("", "unknown", "nan", "none", "n/a", "na", "null")


class Moments:
    """Running count, sum and sum of squares of each column."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, np.zeros(0), np.zeros(0)

    def add(self, values: Real[ndarray, "row column"]) -> None:
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
        """Variance of each column; 0 where it is no more than what rounding leaves of the mean."""
        variance = self.squares / max(1, self.count) - self.mean**2
        return np.where(variance > ROUNDING * self.mean**2, variance, 0.0)


class ChannelStatistics:
    """Mean, scale and place of each channel of a recording's inputs."""

    def __init__(self, recording: AlignedRecording, card: Card) -> None:
        self.recording, self._card = recording, card
        self._about = windows.about(recording, card)
        self._moments = {name: Moments() for name in self._about}

    def add(self, inputs: Mapping[str, Sampled | Occurred]) -> None:
        """Take in a train window, as `windows.inputs` gives it."""
        for name, found in inputs.items():
            if isinstance(found, Sampled):
                seen = found.values if found.mask is None else found.values[found.mask]
                roots = self._about[name]["stabilise"]
                self._moments[name].add(stabilised(seen) if roots else seen)

    def table(self) -> pd.DataFrame:
        """A row per recording, signal and channel; of events, per unit.

        A model knows a channel by `owner` and `number`: the recording and the channel's place in
        it, or, where the card says that recordings have the same channels, what they share and 0.

        Mean and scale are those of the square root of counts. The scale is the channel's deviation
        shrunk halfway toward the signal's mean variance: a nearly silent unit keeps a scale that
        its one event does not blow up. It is 1 where nothing varies, and for events, which have
        no size; their mean is 0. `region` is empty and `x`, `y`, `z` (m) are NaN where not known.
        """
        return pd.concat([self._rows(name) for name in self._about], ignore_index=True)

    def _rows(self, name: str) -> pd.DataFrame:
        labels, places = self._channels(name)
        n, moments = len(labels), self._moments[name]
        shared = self._card.signals[name].shared(self.recording.id)
        variance = moments.variance if moments.count else np.zeros(n)
        scale = np.sqrt(0.5 * (variance + variance.mean()))
        columns = {
            "recording": self.recording.id,
            "signal": name,
            "channel": np.arange(n),
            "label": labels,
            "owner": [f"{shared} {label}" for label in labels] if shared else self.recording.id,
            "number": 0 if shared else np.arange(n),
            "mean": moments.mean if moments.count else 0.0,
            "scale": np.where(scale > 0, scale, 1.0),
        }
        return pd.DataFrame(columns | places)

    def _channels(self, name: str) -> tuple[list[str], dict[str, Any]]:
        """Label of each channel, and regions and positions."""
        signal, tokenizer = self.recording.signals[name], self._about[name]["tokenizer"]
        if isinstance(signal, Events):
            return self._placed(name, signal.units, len(signal.units))
        assert isinstance(signal, Samples), "a table is no input"
        if tokenizer == "audio":
            mel, rate = self._card.signals[name].mel, rate_of(signal)
            edges = mel_edges(mel.bands, mel.low, mel.high or rate / 2)
            return [f"{centre:.0f} Hz" for centre in edges[1:-1]], _places(pd.DataFrame())
        if tokenizer == "image":
            return labels_of(signal.channels, signal.values.shape[1]), _places(pd.DataFrame())
        return self._placed(name, signal.channels, signal.values.shape[1])

    def _placed(self, name: str, table: pd.DataFrame, n: int) -> tuple[list[str], dict[str, Any]]:
        """Labels and places of n channels, their regions from where the card says."""
        labels, column = labels_of(table, n), self._card.signals[name].region
        if column in (None, LABEL):
            regions = None if column is None else labels
        elif column in table:
            regions = [str(word) for word in table[column]]
        else:
            raise DataError(
                f"signal {name}: its region is to be the column {column!r}, and its channels have "
                f"{', '.join(table) or 'no columns'}; name one of those in the card, or {LABEL!r}"
            )
        return labels, _places(table, regions)


def mean_counts(
    mean: Float[ndarray, " channel"], scale: Float[ndarray, " channel"]
) -> Float32[ndarray, " channel"]:
    """Mean count of a sample of each channel, from what `ChannelStatistics.table` has of its roots.

    E[n] = E[√n]² + Var √n, and the variance that was shrunk into the scale, s² = (v + v̄) / 2, is
    found again from all channels of the signal, since the mean of s² is v̄.

    Args:
        mean, scale: Columns of the table, of every channel of a signal of one recording.
    """
    if (scale == 1).all():  # what the table has where nothing varies
        return (mean**2).astype(np.float32)
    variance = (2 * scale**2 - (scale**2).mean()).clip(min=0)
    return (mean**2 + variance).astype(np.float32)


def join_tasks(card: Card, sums: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What a model must know of each task: kind, classes or dimensions, mean and scale.

    `count` says of how many rows mean and scale are, so that data sets can be pooled. Angles stay
    as they are: their mean is 0 and their scale 1.
    """
    tasks: dict[str, dict[str, Any]] = {}
    for task, spec in card.tasks.items():
        if isinstance(spec, LabelTask):
            tasks[task] = {"kind": spec.kind, "classes": spec.classes}
            continue
        moments = Moments()
        for part in sums:
            moments.join(part[task])
        mean, scale = moments.mean, np.sqrt(moments.variance)
        if isinstance(spec, CircularTask):
            mean, scale = np.zeros_like(mean), np.ones_like(scale)
        tasks[task] = {
            "kind": spec.kind,
            "mean": mean.tolist(),
            "scale": np.where(scale > 0, scale, 1.0).tolist(),
            "count": moments.count,
        }
    return tasks


def labels_of(table: pd.DataFrame, n: int) -> list[str]:
    """A name for each of n channels: its `label`, `name` or `id`, else its number."""
    column = next((name for name in ("label", "name", "id") if name in table), None)
    return [str(name) for name in (range(n) if column is None else table[column])]


def _places(table: pd.DataFrame, regions: list[str] | None = None) -> dict[str, Any]:
    """`region`, else from the first column of text that names it, and `x`, `y`, `z` (m)."""
    found: dict[str, Any] = {"region": "", "x": np.nan, "y": np.nan, "z": np.nan}
    texts = [name for name in REGIONS if name in table and table[name].dtype.kind == "O"]
    if regions is None and texts:
        regions = [str(word) for word in table[texts[0]]]
    if regions is not None:
        words = [word.strip() for word in regions]
        found["region"] = ["" if word.lower() in UNKNOWN else word for word in words]
    for axis, column in zip("xyz", POSITION, strict=True):
        if column in table:
            found[axis] = table[column].to_numpy(np.float64)
    return found
