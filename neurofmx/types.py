"""The types that flow between the stages.

Time is in seconds on the recording's clock, rates in hertz; intervals are half-open. A gap is a
false `mask`, never an invented value.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor


@dataclass(frozen=True)
class Samples:
    """A signal sampled in time: a trace, a set of channels, or counts in bins.

    Attributes:
        values: Time × channel. Anything with `shape`, `dtype` and slices (an array, an HDF5 or
            Zarr data set), so that a long recording can stay on disk.
        unit: Physical unit of the values, SI where one exists ("V", "m", "count").
        rate: Sampling rate (Hz), or None where `times` are irregular.
        t0: Time of the first sample (s).
        times: Time of each sample (s), only where they are irregular.
        mask: False where nothing was recorded, or None where all is valid.
        channels: One row per column of `values` (for binned counts: per unit).
        modality: A row of `MODALITIES`.
        source: Path inside the file that it came from.
    """

    values: Any
    unit: str
    rate: float | None = None
    t0: float = 0.0
    times: Float[ndarray, " time"] | None = None
    mask: Bool[ndarray, " time"] | None = None
    channels: pd.DataFrame = field(default_factory=pd.DataFrame)
    modality: str = "behavior"
    source: str = ""

    def __post_init__(self):
        if (self.rate is None) == (self.times is None):
            raise ValueError("Samples need either a rate (with t0) or the time of each sample")
        if self.times is not None and len(self.times) != self.values.shape[0]:
            raise ValueError(f"{self.values.shape[0]} samples but {len(self.times)} times")

    def __len__(self) -> int:
        return self.values.shape[0]

    @property
    def clock(self) -> Float[ndarray, " time"]:
        """Time of each sample (s)."""
        if self.rate is None:
            assert self.times is not None  # __post_init__
            return self.times
        return self.t0 + np.arange(len(self)) / self.rate

    @property
    def span(self) -> tuple[float, float]:
        """Half-open domain [start, stop) in seconds: a regular sample lasts 1 / rate."""
        if len(self) == 0:
            return self.t0, self.t0
        if self.rate is not None:
            return self.t0, self.t0 + len(self) / self.rate
        step = float(np.median(np.diff(self.clock))) if len(self) > 1 else 0.0
        return float(self.clock[0]), float(self.clock[-1]) + step


@dataclass(frozen=True)
class Events:
    """Instants, each of one source: spikes of sorted units, pulses, licks.

    Attributes:
        times: Sorted times (s).
        index: Row of `units` that each event belongs to.
        units: One row per source of events; a silent unit is a row without events.
        modality: A row of `MODALITIES`.
        source: Path inside the file that it came from.
    """

    times: Float[ndarray, " event"]
    index: Int[ndarray, " event"]
    units: pd.DataFrame
    modality: str = "spikes"
    source: str = ""

    def __len__(self) -> int:
        return len(self.times)

    @property
    def span(self) -> tuple[float, float]:
        """First and last event (s)."""
        return (float(self.times[0]), float(self.times[-1])) if len(self) else (0.0, 0.0)


@dataclass(frozen=True)
class Intervals:
    """Half-open stretches [start, stop) in seconds, a row of `columns` each: trials, epochs."""

    start: Float[ndarray, " interval"]
    stop: Float[ndarray, " interval"]
    columns: pd.DataFrame = field(default_factory=pd.DataFrame)
    modality: str = "trials"
    source: str = ""

    def __len__(self) -> int:
        return len(self.start)

    @property
    def span(self) -> tuple[float, float]:
        """Start of the first and end of the last stretch (s)."""
        return (float(self.start.min()), float(self.stop.max())) if len(self) else (0.0, 0.0)


Signal = Samples | Events | Intervals


@dataclass(frozen=True)
class Recording:
    """One session of one animal. Tables of units and channels lie with the signal they describe.

    Attributes:
        id: Unique in its dataset; the name of its folder in every stage.
        provenance: Source asset, sha256, licence, start time and notes, as they were found.
    """

    id: str
    subject: str
    species: str
    dataset: str
    signals: dict[str, Signal]
    provenance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Piece:
    """A line that a device's clock follows from some time on, where it was restarted or stepped.

    Attributes:
        start: First time on the device's clock that it holds for (s).
        offset: Seconds to add at device time 0.
        drift: Parts per million.
    """

    start: float
    offset: float
    drift: float


@dataclass(frozen=True)
class Clock:
    """From a device's clock to the recording's: t = offset + (1 + drift · 1e-6) · t_device.

    Attributes:
        offset: Seconds to add at device time 0.
        drift: Parts per million by which the device runs slow (positive) or fast (negative).
        residual: Root mean square of the shared events about the fit (s).
        n_events: Shared events that the fit used; 0 for a clock taken as it is.
        later: Lines that take over from the first, in order.
    """

    offset: float = 0.0
    drift: float = 0.0
    residual: float = 0.0
    n_events: int = 0
    later: tuple[Piece, ...] = ()

    def __call__(self, times: Float[ndarray, " time"]) -> Float[ndarray, " time"]:
        """Times of the device on the recording's clock (s).

        Time never runs backwards: where the device jumped ahead, the old line ends where the new
        one begins.
        """
        mapped = self.offset + (1.0 + self.drift * 1e-6) * times
        for piece in self.later:
            moved = piece.offset + (1.0 + piece.drift * 1e-6) * times
            first = piece.offset + (1.0 + piece.drift * 1e-6) * piece.start
            mapped = np.where(times >= piece.start, moved, np.minimum(mapped, first))
        return mapped


@dataclass(frozen=True)
class AlignedRecording(Recording):
    """A recording on one clock: every `Samples` regular, gaps masked.

    Attributes:
        clocks: The fitted clock of each device.
    """

    clocks: dict[str, Clock] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenizedSequence:
    """Tokens with a start and a duration each, what every tokenizer emits.

    Attributes:
        tokens: Token × feature, with any leading batch axes.
        t0: Start of the first token (s, float64: float32 is 1 ms coarse at 10⁴ s).
        dt: Duration of each token (s), or one number for all of them.
        mask: True where the token is valid.
    """

    tokens: Float[Tensor, "*batch token feature"]
    t0: Float[Tensor, "*batch"]
    dt: Float[Tensor, "*batch token"] | Float[Tensor, ""]
    mask: Bool[Tensor, "*batch token"]

    def __post_init__(self):
        if self.tokens.ndim < 2:
            raise ValueError(f"tokens are (…, token, feature), not {tuple(self.tokens.shape)}")
        if self.mask.shape != self.tokens.shape[:-1]:
            raise ValueError(
                f"mask {tuple(self.mask.shape)} does not fit tokens {tuple(self.tokens.shape)}: "
                "it needs one entry per token"
            )
        if not bool((torch.as_tensor(self.dt) > 0).all()):
            raise ValueError("dt is the duration of a token in seconds and must be positive")

    @property
    def times(self) -> Float[Tensor, "*batch token"]:
        """Middle of each token relative to `t0` (s); relative times stay exact in float32."""
        dt = self.dt.expand(self.mask.shape)
        return dt.cumsum(-1) - dt / 2

    def to(self, device: torch.device | str) -> "TokenizedSequence":
        """The same tokens on another device."""
        return TokenizedSequence(
            self.tokens.to(device), self.t0.to(device), self.dt.to(device), self.mask.to(device)
        )


@dataclass(frozen=True)
class SignalBatch:
    """One modality of a batch of windows, before its tokenizer: ragged channels, padded.

    Attributes:
        values: Window × time × channel; 0 where padded.
        t0: Start of each window (s, float64).
        dt: Duration of a sample (s).
        mask: False where a sample is a gap or padding.
        channel_ids: Row of the model's vocabulary of each channel; 0 = unknown.
        channel_mask: False where a channel is padding.
    """

    values: Float[Tensor, "batch time channel"]
    t0: Float[Tensor, " batch"]
    dt: float
    mask: Bool[Tensor, "batch time"]
    channel_ids: Int[Tensor, "batch channel"]
    channel_mask: Bool[Tensor, "batch channel"]

    def to(self, device: torch.device | str) -> "SignalBatch":
        """The same windows on another device."""
        return SignalBatch(
            self.values.to(device),
            self.t0.to(device),
            self.dt,
            self.mask.to(device),
            self.channel_ids.to(device),
            self.channel_mask.to(device),
        )


@dataclass(frozen=True)
class Target:
    """What a task asks of a batch of windows.

    Attributes:
        kind: Of the task: regression or classification.
        values: Window × query × dimension, centred and scaled by the train split; for classes,
            the class as a float in dimension 0.
        times: Time of each query relative to the window's start (s).
        mask: False where the target is undefined: such a query never enters loss or score.
    """

    kind: Literal["regression", "classification"]
    values: Float[Tensor, "batch query dim"]
    times: Float[Tensor, "batch query"]
    mask: Bool[Tensor, "batch query"]

    def to(self, device: torch.device | str) -> "Target":
        """The same targets on another device."""
        moved = (x.to(device) for x in (self.values, self.times, self.mask))
        return Target(self.kind, *moved)


@dataclass(frozen=True)
class Batch:
    """Windows of several recordings, by modality, with their targets by task.

    Attributes:
        signals: By name of the signal (one tokenizer each).
        targets: By name of the task.
        recordings: Recording of each window.
        keys: Key of each window in the shards' index.
    """

    signals: dict[str, SignalBatch]
    targets: dict[str, Target]
    recordings: list[str]
    keys: list[str]

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return Batch(
            {name: signal.to(device) for name, signal in self.signals.items()},
            {name: target.to(device) for name, target in self.targets.items()},
            self.recordings,
            self.keys,
        )


@dataclass(frozen=True)
class ModelOutput:
    """What the model computes for a batch.

    Attributes:
        latents: Perceiver latents that fuse the modalities.
        features: Output of the backbone of each signal, in time.
        heads: By `decode.<task>` (scaled targets or logits), `answer.<task>` (what it is read
            from), `reconstruct.<signal>` and `forecast.<signal>` (normalised samples; the
            forecast made at a patch is of the next one).
    """

    latents: Float[Tensor, "batch latent width"]
    features: dict[str, TokenizedSequence]
    heads: dict[str, Tensor]


@dataclass(frozen=True)
class Hidden:
    """What masked modelling hides of each signal of a batch.

    Attributes:
        channels: Hidden for the whole window: to be told from the other channels.
        patches: Tokens hidden over all channels: to be told from other times.
    """

    channels: dict[str, Bool[Tensor, "batch channel"]]
    patches: dict[str, Bool[Tensor, "batch token"]]
