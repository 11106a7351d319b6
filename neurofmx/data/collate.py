"""Windows → `Batch`: read, padded to one shape, normalised by the train windows.

Windows that share a layout, as most do, are taken as one array of bytes, so that what is done for
each window is little. Values go from there to their place in the batch in one pass where they are
normalised only, or two where their square root is taken first, in blocks that fit in the cache.
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float32, Float64, Int64, Shaped
from numpy import ndarray
from torch import Tensor

from neurofmx.batches import Batch, EventBatch, SignalBatch, Target
from neurofmx.data.pool import Windows
from neurofmx.data.samples import Layout, unpack
from neurofmx.data.shards import Packed, Position
from neurofmx.data.statistics import mean_counts
from neurofmx.errors import DataError
from neurofmx.signal.bins import stabilised

BLOCK = 2**18  # bytes of windows that are taken as one: a few copies of them fit in the cache
OnCorrupt = Literal["error", "skip"]
# (signal, channels, regions) → rows of the model's vocabulary of channels, of regions.
Rows = Callable[[str, Sequence[tuple[str, int]], Sequence[str]], tuple[list[int], list[int]]]


def keys(table: pd.DataFrame) -> list[tuple[str, int]]:
    """What a model knows the channels of `Shards.channels` by."""
    return list(zip(table["owner"], table["number"].astype(int), strict=True))


class Channels(NamedTuple):
    """What there is to know of channels: of one recording, or of each window of a batch."""

    gain: Float32[ndarray, "*batch channel"]  # 1 / scale
    shift: Float32[ndarray, "*batch channel"]  # −mean / scale
    rate: Float32[ndarray, "*batch channel"]  # mean count per sample; of no meaning for traces
    ids: Int64[ndarray, "*batch channel"]
    regions: Int64[ndarray, "*batch channel"]
    positions: Float32[ndarray, "*batch channel 3"]
    mask: Bool[ndarray, "*batch channel"]

    @classmethod
    def of(cls, table: pd.DataFrame, rows: Rows) -> "Channels":
        """Those of one signal of one recording, by their rows of `Shards.channels`.

        Channels of which a model knows nothing, neither their id nor where they lie, are left out
        where it knows others: all that they could say is a mean over strangers.
        """
        ids, areas = rows(table["signal"].iloc[0], keys(table), table["region"].tolist())
        positions = table[["x", "y", "z"]].to_numpy(np.float32)
        known = (np.array(ids) > 0) | (np.array(areas) > 0) | np.isfinite(positions).all(axis=1)
        return cls(
            gain=(1 / table["scale"]).to_numpy(np.float32),
            shift=(-table["mean"] / table["scale"]).to_numpy(np.float32),
            rate=mean_counts(table["mean"].to_numpy(), table["scale"].to_numpy()),
            ids=np.array(ids, np.int64),
            regions=np.array(areas, np.int64),
            positions=positions,
            mask=known if known.any() else ~known,
        )

    def embedded(self) -> dict[str, Any]:
        """As `SignalBatch` and `EventBatch` have it."""
        placed = np.isfinite(self.positions).any()
        return {
            "channel_ids": torch.from_numpy(self.ids),
            "channel_mask": torch.from_numpy(self.mask),
            "regions": torch.from_numpy(self.regions) if self.regions.any() else None,
            "positions": torch.from_numpy(self.positions) if placed else None,
            "population": torch.from_numpy(np.asarray(self.mask.sum(-1))),
        }

    def counted(self) -> dict[str, Tensor]:
        """As the `SignalBatch` of counts has it."""
        columns = {"gain": self.gain, "shift": self.shift, "rate": self.rate}
        return {name: torch.from_numpy(column) for name, column in columns.items()}


_FLOATS, _ROWS = np.zeros(0, np.float32), np.zeros(0, np.int64)
NONE = Channels(
    _FLOATS, _FLOATS, _FLOATS, _ROWS, _ROWS, np.zeros((0, 3), np.float32), np.zeros(0, bool)
)


class Group(NamedTuple):
    """Windows of the same layout: their rows in the batch, and each array along a new axis."""

    rows: slice | list[int]
    arrays: dict[str, Shaped[ndarray, "window ..."]]


class Read(NamedTuple):
    """Windows that were read: recording and start (s) and so on of each, and their arrays."""

    infos: list[dict[str, Any]]
    groups: list[Group]

    def of(self, name: str) -> list[tuple[slice | list[int], ndarray]]:
        """An array where there is one, by rows of the batch."""
        return [(rows, arrays[name]) for rows, arrays in self.groups if name in arrays]

    def lengths(self, name: str) -> Int64[ndarray, " window"]:
        """Of an array in each window; −1 where there is none."""
        lengths = np.full(len(self.infos), -1)
        for rows, array in self.of(name):
            lengths[rows] = array.shape[1]
        return lengths

    def padded(self, name: str, blank: Shaped[ndarray, "0 ..."]) -> Shaped[ndarray, "window ..."]:
        """An array of each window, 0 behind the shorter ones, in the type and shape of `blank`."""
        longest = max(0, self.lengths(name).max())
        padded = np.zeros((len(self.infos), longest, *blank.shape[1:]), blank.dtype)
        for rows, array in self.of(name):
            padded[rows, : array.shape[1]] = array
        return padded

    @property
    def starts(self) -> Float64[Tensor, " window"]:
        """Start of each window (s)."""
        return torch.tensor([info["start"] for info in self.infos], dtype=torch.float64)


class Collator:
    """Windows at some positions → `Batch`: channels normalised, ragged time and channels padded.

    Each channel is centred and scaled by its train windows, counts after their square root. The
    scale is shrunk toward that of the whole signal, so that a nearly silent unit's one event is
    not blown up.

    Args:
        shards: Supplies windows and the statistics of channels and tasks.
        rows: Finds channels and regions in the model's vocabulary, as `NeuroFMX.rows` does.
        signals: What the model reads; None: all that there are.
        on_corrupt: `skip` leaves out a window that cannot be read, and says so in the batch.
        tasks: What is asked, with the scales that targets are given in; None: as in the shards.
    """

    def __init__(
        self,
        shards: Windows,
        rows: Rows,
        signals: Collection[str] | None = None,
        on_corrupt: OnCorrupt = "error",
        tasks: dict[str, dict[str, Any]] | None = None,
    ):
        self.tasks = shards.tasks if tasks is None else tasks
        self.shards, self.rows, self.on_corrupt = shards, rows, on_corrupt
        read = shards.signals if signals is None else signals
        self.specs = {name: spec for name, spec in shards.signals.items() if name in read}
        self._places = shards.channels.groupby(["recording", "signal"]).indices
        self._known: dict[tuple[str, str], Channels] = {}

    def __call__(
        self,
        windows: Iterable[Position],
        partners: Iterable[Position] = (),
        signals: Collection[str] | None = None,
    ) -> Batch:
        """A batch of windows, in their order, and behind them their partners, if they have any.

        Args:
            signals: The signals to give; None: all that the model reads.

        Raises:
            DataError: A window cannot be read; with `skip`, none can.
        """
        columns = [[int(position) for position in column] for column in (windows, partners)]
        places, count = [*columns[0], *columns[1]], len(columns[0])
        found = self.shards.read(places)
        wrong: dict[int, str] = {}
        for number, one in enumerate(found):
            if isinstance(one, DataError):
                if self.on_corrupt == "error":
                    raise one
                wrong.setdefault(number % count, str(one))
        if len(wrong) == count:
            raise DataError(f"no window of a step can be read. {wrong[0]}")
        kept = [number for number in range(len(places)) if number % count not in wrong]
        read = _read([found[number] for number in kept])  # type: ignore[misc]
        given = {n: s for n, s in self.specs.items() if signals is None or n in signals}
        return Batch(
            signals={n: self._signal(n, read) for n in sorted(given) if read.of(f"{n}.values")},
            events={n: self._events(n, read) for n in sorted(given) if read.of(f"{n}.events")},
            targets={n: _target(n, spec, read) for n, spec in self.tasks.items()},
            recordings=[info["recording"] for info in read.infos],
            windows=[places[number] for number in kept],
            skipped=list(wrong.values()),
        )

    def _signal(self, name: str, read: Read) -> SignalBatch:
        spec, lengths = self.specs[name], read.lengths(f"{name}.values")
        mask = np.arange(lengths.max()) < lengths[:, None]
        channels = self._channels(name, read, lengths)
        values = _normalised(read.of(f"{name}.values"), mask.shape[1], channels, spec["stabilise"])
        gaps = read.of(f"{name}.mask")
        for rows, own in gaps:
            mask[rows, : own.shape[1]] = own
        if gaps:
            values[~mask] = 0.0
        return SignalBatch(
            values=torch.from_numpy(values),
            t0=read.starts,
            dt=spec["dt"],
            mask=torch.from_numpy(mask),
            **channels.embedded(),
            **(channels.counted() if spec["stabilise"] else {}),
        )

    def _events(self, name: str, read: Read) -> EventBatch:
        lengths = read.lengths(f"{name}.events")
        durations = [info["stop"] - info["start"] for info in read.infos]
        times = read.padded(f"{name}.events", _FLOATS)
        return EventBatch(
            times=torch.from_numpy(times),
            channels=torch.from_numpy(read.padded(f"{name}.units", _ROWS)),
            t0=read.starts,
            duration=torch.tensor(durations, dtype=torch.float32),
            mask=torch.from_numpy(np.arange(times.shape[1]) < lengths[:, None]),
            **self._channels(name, read, lengths).embedded(),
        )

    def _channels(self, name: str, read: Read, lengths: Int64[ndarray, " window"]) -> Channels:
        """Of each window; those of a window that lacks the signal are all padding."""
        pairs = zip(read.infos, lengths.tolist(), strict=True)
        names = [info["recording"] if length >= 0 else None for info, length in pairs]
        own = {n: NONE if n is None else self._of_recording(n, name) for n in dict.fromkeys(names)}
        place = {recording: number for number, recording in enumerate(own)}
        rows = np.array([place[recording] for recording in names])
        return Channels(*(_stacked(column)[rows] for column in zip(*own.values(), strict=True)))

    def _of_recording(self, recording: str, signal: str) -> Channels:
        found = self._known.get((recording, signal))
        if found is None:
            table = self.shards.channels.iloc[self._places[recording, signal]]
            found = self._known[recording, signal] = Channels.of(table, self.rows)
        return found


def _read(packed: list[Packed]) -> Read:
    """Unpack windows, those of one layout together."""
    infos, groups = [], []
    alike: dict[int, tuple[Layout, list[int]]] = {}
    for row, (content, layout) in enumerate(packed):
        if layout is None:
            sample = unpack(content, None)
            arrays = {name: array[None] for name, array in sample.arrays.items()}
            infos.append(sample.info)
            groups.append(Group(slice(row, row + 1), arrays))
        else:
            infos.append(layout.info(content))
            alike.setdefault(id(layout), (layout, []))[1].append(row)
    for layout, rows in alike.values():
        size = max(1, BLOCK // len(packed[rows[0]].content))
        for some in (rows[k : k + size] for k in range(0, len(rows), size)):
            arrays = layout.stacked([packed[row].content for row in some])
            run = some[-1] - some[0] == len(some) - 1
            groups.append(Group(slice(some[0], some[-1] + 1) if run else some, arrays))
    return Read(infos, groups)


def _normalised(
    found: list[tuple[slice | list[int], ndarray]], time: int, channels: Channels, stabilise: bool
) -> Float32[ndarray, "batch time channel"]:
    """Values of each window; 0 where there is none."""
    shape = (*channels.mask.shape[:1], time, channels.mask.shape[1])
    full = sum(array.size for _, array in found) == math.prod(shape)
    values = np.empty(shape, np.float32) if full else np.zeros(shape, np.float32)
    for rows, array in found:
        _, t, c = array.shape
        place = (rows, slice(t), slice(c))
        # Rows that follow each other are a view, others a copy that has to go back.
        block = values[place] if isinstance(rows, slice) else np.empty(array.shape, np.float32)
        raw = torch.from_dlpack(stabilised(array, out=block) if stabilise else array)
        gain, shift = (torch.from_numpy(x[rows, None, :c]) for x in (channels.gain, channels.shift))
        torch.addcmul(shift, raw, gain, out=torch.from_numpy(block))
        if not isinstance(rows, slice):
            values[place] = block
    return values


def _target(task: str, spec: dict[str, Any], read: Read) -> Target:
    """A window of a data set without the task asks nothing."""
    values = read.padded(f"{task}.target", np.zeros((0, len(spec.get("mean") or [0])), np.float32))
    if spec.get("mean"):
        values -= np.array(spec["mean"], np.float32)
        values /= np.array(spec["scale"], np.float32)
    return Target(
        spec["kind"],
        torch.from_numpy(values),
        torch.from_numpy(read.padded(f"{task}.times", _FLOATS)),
        torch.from_numpy(read.padded(f"{task}.asked", np.zeros(0, bool))),
    )


def _stacked(columns: Sequence[ndarray]) -> Shaped[ndarray, "recording channel ..."]:
    """What is known of the channels of some recordings; NaN or 0 where one has fewer."""
    if len(columns) == 1:
        return columns[0][None]
    longest = max(map(len, columns))
    blank = np.nan if columns[0].ndim == 2 else 0  # of positions, where 0 is a place
    stacked = np.full((len(columns), longest, *columns[0].shape[1:]), blank, columns[0].dtype)
    for row, column in zip(stacked, columns, strict=True):
        row[: len(column)] = column
    return stacked
