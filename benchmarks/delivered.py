"""The windows that every contender has to deliver, and whether it does."""

import itertools
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Float32, Int
from numpy import ndarray
from torch import Tensor

from neurofmx.batches import Batch
from neurofmx.data.cards import Card
from neurofmx.data.shards import Shards
from neurofmx.stages import base

Values = dict[str, Tensor]  # window × time × channel of each input, padded with zeros


@dataclass(frozen=True)
class Windows:
    """Train windows that all last as long, of one data set.

    Attributes:
        shards: Of the working directory.
        card: Of the data set.
        positions: In the index.
        length: Of a window (s).
    """

    shards: Shards
    card: Card
    positions: Int[ndarray, " window"]
    length: float

    @classmethod
    def of(cls, card: Card) -> "Windows":
        """Those of the usual length that begin on the samples of all signals of their recording,
        so that windows can be cut from the whole recording.
        """
        shards = Shards(base.STORAGE / "tokenize")
        train = shards.positions("train")
        table = shards.index.iloc[train]
        dts = [spec["dt"] for spec in shards.signals.values()]
        lengths = [
            tuple(len(shards[p].arrays[f"{name}.values"]) for name in shards.signals) for p in train
        ]
        usual = Counter(lengths).most_common(1)[0][0]
        (length,) = {round(n * dt, 6) for n, dt in zip(usual, dts, strict=True)}
        since = table["start"] - table.groupby("recording")["start"].transform("min")
        fits = np.array([n == usual for n in lengths])
        for dt in dts:
            fits &= np.abs(since / dt - np.rint(since / dt)) < 1e-6
        return cls(shards, card, train[fits], length)

    def __len__(self) -> int:
        return len(self.positions)

    def raw(self, position: int) -> dict[str, Float32[ndarray, "time channel"]]:
        """Samples of each input, as they lie in the shards."""
        arrays = self.shards[position].arrays
        return {name: arrays[name].astype(np.float32) for name in self.inputs}

    @property
    def inputs(self) -> list[str]:
        """Names of the arrays that the model sees."""
        return [f"{name}.values" for name in self.shards.signals]

    @property
    def targets(self) -> list[str]:
        """Names of the arrays that tasks ask for."""
        roles = ("target", "times", "asked")
        return [f"{task}.{role}" for task in self.shards.tasks for role in roles]

    def by_recording(self) -> Iterator[tuple[str, Int[ndarray, " _"]]]:
        """Each recording with the positions of its windows."""
        recordings = self.shards.index["recording"].iloc[self.positions].to_numpy()
        for recording in np.unique(recordings):
            yield recording, self.positions[recordings == recording]

    @cached_property
    def starts(self) -> dict[str, Float[ndarray, " window"]]:
        """Start of each window (s), by recording."""
        start = self.shards.index["start"].to_numpy()
        return {recording: start[rows] for recording, rows in self.by_recording()}

    @cached_property
    def content(self) -> Counter:
        """How often each window is there."""
        return Counter(fingerprint(self.raw(int(p))) for p in self.positions)


def fingerprint(values: Mapping[str, ndarray | Tensor]) -> tuple[int, ...]:
    """Tells windows apart, whatever zeros they are padded with."""
    arrays = [np.asarray(values[name], np.float32) for name in sorted(values)]
    return tuple(zlib.crc32(x[x != 0].tobytes()) for x in arrays)


def same_windows(windows: Windows, stream: Iterable[Values]) -> None:
    """Raise where the first epoch of a stream does not have the samples of the shards.

    Raises:
        ValueError: Says how many windows differ.
    """
    rows = (
        {n: batch[n][k] for n in windows.inputs} for batch in stream for k in range(size(batch))
    )
    found = Counter(fingerprint(row) for row in itertools.islice(rows, len(windows)))
    differ = (windows.content - found).total()
    if differ:
        raise ValueError(f"{differ} of {len(windows)} windows have other samples than the shards")


def same_batches(windows: Windows, stream: Iterable[Batch]) -> None:
    """Raise where ours are not the samples of the shards, normalised channel by channel.

    Raises:
        ValueError: Names the window and the signal.
    """
    seen: list[int] = []
    table = windows.shards.channels.set_index(["recording", "signal"])
    for batch in stream:
        for row, position in enumerate(batch.windows):
            for array, x in windows.raw(position).items():
                name = array.removesuffix(".values")
                about = table.loc[[(batch.recordings[row], name)]]
                x = np.sqrt(x) if windows.shards.signals[name]["stabilise"] else x
                expected = (x - about["mean"].to_numpy()) / about["scale"].to_numpy()
                found = batch.signals[name].values[row, : len(x), : x.shape[1]].numpy()
                if not np.allclose(found, expected, rtol=1e-4, atol=1e-4):
                    raise ValueError(f"window {position}: {name} has other samples")
        seen += batch.windows
        if len(seen) >= len(windows):
            break
    if sorted(seen[: len(windows)]) != windows.positions.tolist():
        raise ValueError("an epoch does not hold every window once")


def size(batch: Batch | Values) -> int:
    """Windows of a batch."""
    return len(batch.windows) if isinstance(batch, Batch) else len(next(iter(batch.values())))
