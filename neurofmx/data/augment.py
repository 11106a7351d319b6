"""Augmentation: a window changes by its seed and its own data alone.

Neither its neighbours in the batch nor its place there, padding or worker have a part in it, so
that a run that goes on, at another world size or with other workers, sees the same windows. For
that every draw has a stream of its own, by (seed, what is drawn, signal), and is as long as what
the window itself holds.

In this order: mixup, warp, noise and jitter, masks of time and bands, dropout of units and whole
signals, anonymous units. What was masked stays masked; what is masked here becomes 0.
"""

import dataclasses
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from pydantic import Field
from torch import Tensor

from neurofmx.batches import Batch, EventBatch, SignalBatch
from neurofmx.config import Params
from neurofmx.data.mixup import Draw, mix
from neurofmx.signal.warp import Warp, between, nearest


class AugmentParams(Params):
    """What is done to train windows; nothing by default.

    Attributes:
        modality_dropout: Probability that a signal is left out of a window; never all of them
            (Neverova et al. 2015, ModDrop, arXiv:1501.00102).
        channel_dropout: Share of the units or channels of each signal that are left out, never
            all (Azabou et al. 2023, POYO, arXiv:2310.16046).
        anonymous: Share of windows whose channels lose their ids where a region or a position is
            known of them, so that this has to serve (Gal & Ghahramani 2016, dropout of embeddings,
            arXiv:1512.05287).
        time_masks: Stretches that are masked in each sampled signal. Events have no mask in time:
            to take some away would claim silence.
        time_mask: Longest such stretch (s); together they never take more than half.
        band_masks: Stretches of neighbouring bands that are masked in each spectrum; with
            `time_masks` and `warp` this is SpecAugment (Park et al. 2019, arXiv:1904.08779).
        band_mask: Widest such stretch (bands); together they never take more than half.
        warp: Greatest share by which time runs fast or slow (Um et al. 2017, arXiv:1706.00527).
        noise: Deviation of what is added to samples, in deviations of their channel over the
            train windows (Bishop 1995, doi:10.1162/neco.1995.7.1.108).
        jitter: Deviation of what is added to the time of each event (s).
        mixup: α of Beta(α, α), from which a window's share in its mixture with another window of
            its recording is drawn; see `neurofmx.data.mixup`.
    """

    modality_dropout: float = Field(0.0, ge=0, lt=1)
    channel_dropout: float = Field(0.0, ge=0, lt=1)
    anonymous: float = Field(0.0, ge=0, le=1)
    time_masks: int = Field(0, ge=0)
    time_mask: float = Field(0.1, gt=0)
    band_masks: int = Field(0, ge=0)
    band_mask: int = Field(8, ge=1)
    warp: float = Field(0.0, ge=0, le=0.5)
    noise: float = Field(0.0, ge=0)
    jitter: float = Field(0.0, ge=0)
    mixup: float = Field(0.0, ge=0)

    @property
    def off(self) -> bool:
        """True where nothing is to be done."""
        return not any(self.model_dump(exclude={"time_mask", "band_mask"}).values())


def augment(
    batch: Batch,
    params: AugmentParams,
    seeds: Sequence[int],
    spectra: Collection[str] = (),
    counts: Collection[str] = (),
) -> Batch:
    """The batch with its windows changed; the very same one where `params` are off.

    Args:
        batch: On the CPU. For mixup it holds the windows and behind them, in the same order, the
            `partners` that they are mixed with; only the former are returned.
        params: What is done.
        seeds: One of each window, from 0 to 2⁶³.
        spectra: Signals whose channels are bands of frequency.
        counts: Signals of counts: a warp repeats and skips their bins, and interpolates others.

    Raises:
        ValueError: The number of seeds is not that of the windows, or a window is to be mixed with
            one of another recording.
    """
    if params.off:
        return batch
    needed = len(seeds) * (2 if params.mixup else 1)
    if len(batch.windows) != needed:
        raise ValueError(
            f"{len(seeds)} seeds ask for a batch of {needed} windows, not {len(batch.windows)}: "
            "a seed for each window and, for mixup, the partners behind them (`partners`)"
        )
    draws = [_streams(seed) for seed in seeds]
    batch = mix(batch, params.mixup, draws) if params.mixup else batch
    batch = dataclasses.replace(
        batch,
        signals={name: _copied(signal) for name, signal in batch.signals.items()},
        events={name: _copied(events) for name, events in batch.events.items()},
        targets={name: _copied(target) for name, target in batch.targets.items()},
    )
    for row, draw in enumerate(draws):
        _change(_Window.of(batch, row), params, draw, spectra, counts)
    return batch


@dataclass
class _Sampled:
    """One window of a sampled signal: views that reach as far as what it holds."""

    values: Float[ndarray, "time channel"]
    dt: float
    mask: Bool[ndarray, " time"]
    ids: Int[ndarray, " channel"]
    channel_mask: Bool[ndarray, " channel"]
    placed: Bool[ndarray, " channel"]

    @classmethod
    def of(cls, signal: SignalBatch, row: int) -> "_Sampled":
        mask, channel_mask = _row(signal.mask, row), _row(signal.channel_mask, row)
        t, c = _extent(mask), _extent(channel_mask)
        values, ids = _row(signal.values, row)[:t, :c], _row(signal.channel_ids, row)[:c]
        return cls(values, signal.dt, mask[:t], ids, channel_mask[:c], _placed(signal, row)[:c])

    def drop(self, channels: Bool[ndarray, " channel"]) -> None:
        """Leave channels out."""
        self.channel_mask[channels] = False
        self.values[:, channels] = 0.0

    def hide(self, times: Bool[ndarray, " time"] | slice) -> None:
        """Mask samples."""
        self.mask[times] = False
        self.values[times] = 0.0


@dataclass
class _Events:
    """One window of a signal of events: views; its events lie in front, padding behind."""

    columns: list[ndarray]  # times, channels and, where there are any, waveforms
    duration: float
    mask: Bool[ndarray, " event"]
    ids: Int[ndarray, " channel"]
    channel_mask: Bool[ndarray, " channel"]
    placed: Bool[ndarray, " channel"]

    @classmethod
    def of(cls, events: EventBatch, row: int) -> "_Events":
        given = (events.times, events.channels, events.waveforms)
        columns = [_row(column, row) for column in given if column is not None]
        mask, channel_mask = _row(events.mask, row), _row(events.channel_mask, row)
        c, duration = _extent(channel_mask), float(events.duration[row])
        ids, placed = _row(events.channel_ids, row)[:c], _placed(events, row)[:c]
        return cls(columns, duration, mask, ids, channel_mask[:c], placed)

    @property
    def times(self) -> Float[ndarray, " event"]:
        """Of its own events (s)."""
        return self.columns[0][: self.mask.sum()]

    def keep(self, order: Int[ndarray, " kept"]) -> None:
        """Only these of the events, in this order."""
        for column in self.columns:
            column[: len(order)] = column[order]
            column[len(order) :] = 0
        self.mask[len(order) :] = False

    def drop(self, channels: Bool[ndarray, " channel"]) -> None:
        """Leave units out, with their events."""
        self.channel_mask[channels] = False
        self.keep(np.flatnonzero(~channels[self.columns[1][: len(self.times)]]))


@dataclass
class _Window:
    """One window of a batch; only the signals that it has."""

    sampled: dict[str, _Sampled]
    events: dict[str, _Events]
    queries: list[ndarray]  # times of each task

    @classmethod
    def of(cls, batch: Batch, row: int) -> "_Window":
        sampled = {name: _Sampled.of(signal, row) for name, signal in batch.signals.items()}
        events = {name: _Events.of(events, row) for name, events in batch.events.items()}
        return cls(
            {name: s for name, s in sampled.items() if s.values.size},
            {name: e for name, e in events.items() if e.channel_mask.size},
            [_row(target.times, row) for target in batch.targets.values()],
        )

    @property
    def signals(self) -> dict[str, _Sampled | _Events]:
        return self.sampled | self.events

    @property
    def duration(self) -> float:
        """To the end of all that it holds (s)."""
        ends = [len(s.mask) * s.dt for s in self.sampled.values()]
        ends += [e.duration for e in self.events.values()]
        return max([0.0, *ends, *(float(q.max(initial=0.0)) for q in self.queries)])


def _change(
    window: _Window, params: AugmentParams, draw: Draw, spectra: Collection, counts: Collection
) -> None:
    if params.warp and window.duration:
        _warp(window, params.warp, draw, counts)
    for name, signal in window.sampled.items():
        if params.noise:
            _add_noise(signal, params.noise, draw(f"noise {name}"))
        if params.time_masks:
            _mask_time(signal, params.time_masks, params.time_mask, draw(f"time {name}"))
        if params.band_masks and name in spectra:
            _mask_bands(signal, params.band_masks, params.band_mask, draw(f"bands {name}"))
    for name, events in window.events.items():
        if params.jitter:
            _jitter(events, params.jitter, draw(f"jitter {name}"))
    if params.channel_dropout:
        for name, either in window.signals.items():
            _drop_channels(either, params.channel_dropout, draw(f"channels {name}"))
    if params.modality_dropout:
        _drop_signals(window, params.modality_dropout, draw)
    if params.anonymous and draw("anonymous").random() < params.anonymous:
        for either in window.signals.values():
            either.ids[either.placed] = 0


def _warp(window: _Window, share: float, draw: Draw, counts: Collection) -> None:
    """Samples, events and queries alike: a target keeps its value and stays at its instant."""
    warp = Warp.drawn(share, window.duration, draw("warp"))
    for name, signal in window.sampled.items():
        places = warp(np.arange(len(signal.mask)) * signal.dt) / signal.dt
        read = nearest if name in counts else between
        signal.values[:], signal.mask[:] = read(signal.values, signal.mask, places)
    for events in window.events.values():
        events.times[:] = _inside(warp.inverse(events.times), events.duration)
    for queries in window.queries:
        queries[:] = warp.inverse(queries)


def _add_noise(signal: _Sampled, deviation: float, rng: np.random.Generator) -> None:
    noise = rng.standard_normal(signal.values.shape, np.float32) * np.float32(deviation)
    signal.values += noise * signal.mask[:, None] * signal.channel_mask


def _jitter(events: _Events, deviation: float, rng: np.random.Generator) -> None:
    moved = events.times + rng.normal(0.0, deviation, len(events.times))
    # Reflected at both ends, so that none piles up there.
    moved = np.abs(moved)
    moved = events.duration - np.abs(events.duration - moved)
    events.times[:] = _inside(moved, events.duration)
    events.keep(np.argsort(events.times, kind="stable"))


def _inside(times: Float[ndarray, " event"], duration: float) -> Float[ndarray, " event"]:
    """Within [0, duration), also as float32."""
    return times.astype(np.float32).clip(0, np.nextafter(np.float32(duration), np.float32(0)))


def _mask_time(signal: _Sampled, number: int, longest: float, rng: np.random.Generator) -> None:
    for length, start in rng.random((number, 2)):
        n = min(round(length * longest / signal.dt), len(signal.mask) // (2 * number))
        first = round(start * (len(signal.mask) - n))
        signal.hide(slice(first, first + n))


def _mask_bands(signal: _Sampled, number: int, widest: int, rng: np.random.Generator) -> None:
    bands = np.arange(len(signal.channel_mask))
    for width, start in rng.random((number, 2)):
        n = min(int(width * (widest + 1)), len(bands) // (2 * number))
        first = round(start * (len(bands) - n))
        signal.drop((bands >= first) & (bands < first + n))


def _drop_channels(signal: _Sampled | _Events, share: float, rng: np.random.Generator) -> None:
    luck = np.where(signal.channel_mask, rng.random(len(signal.channel_mask)), -1.0)
    signal.drop((luck < share) & (luck < luck.max(initial=-1.0)))


def _drop_signals(window: _Window, probability: float, draw: Draw) -> None:
    luck = {name: draw(f"signal {name}").random() for name in window.signals}
    for name, signal in window.signals.items():
        if luck[name] < probability and luck[name] < max(luck.values()):
            signal.drop(np.ones(len(signal.channel_mask), bool))
            if isinstance(signal, _Sampled):
                signal.hide(slice(None))


def _streams(seed: int) -> Draw:
    """A stream of random numbers for each thing that a window draws."""
    return lambda what: np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(what.encode())]))


def _copied(thing: Any) -> Any:
    return dataclasses.replace(
        thing, **{name: x.clone() for name, x in vars(thing).items() if isinstance(x, Tensor)}
    )


def _placed(signal: SignalBatch | EventBatch, row: int) -> Bool[ndarray, " channel"]:
    """Whether it is known where a channel lies."""
    known = np.zeros(signal.channel_ids.shape[1], bool)
    if signal.regions is not None:
        known |= _row(signal.regions, row) > 0
    if signal.positions is not None:
        known |= np.isfinite(_row(signal.positions, row)).all(-1)
    return known


def _row(tensor: Tensor, row: int) -> ndarray:
    return tensor[row].numpy()


def _extent(mask: Bool[ndarray, " any"]) -> int:
    """Up to and with the last that is true."""
    return int(len(mask) - mask[::-1].argmax()) if mask.any() else 0
