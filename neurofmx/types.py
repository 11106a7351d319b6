"""The types that flow between the stages.

Time is in seconds on the recording's clock, rates in hertz; intervals are half-open. A gap is a
false `mask`, never an invented value.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from numpy import ndarray

# What may be asked of a recording; each is a row of `HEADS` and of `LIKELIHOODS`.
TaskKind = Literal["regression", "classification", "ordinal", "circular"]

# Columns of units and channels that mean the same in every data set: where they are in the brain.
REGION, POSITION = "region", ("x_m", "y_m", "z_m")


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
