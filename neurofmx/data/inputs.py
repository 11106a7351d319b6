"""What the model sees of a signal in a window, and what there is to know of the signal.

Counts stay counts, in the smallest unsigned type that holds them; everything else is float32.
Sound becomes a log-mel spectrum here, so that shards hold its frames and not its samples.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Real, UInt
from numpy import ndarray

from neurofmx.data.signal_cards import SignalCard
from neurofmx.errors import DataError
from neurofmx.signal.bins import bin_events
from neurofmx.signal.spectra import log_mel
from neurofmx.types import Events, Samples, Signal

COUNTS = ("spikes", "binned_counts")


class Sampled(NamedTuple):
    """A sampled signal in a window.

    Attributes:
        dt: Duration of a sample (s).
        values: 0 where nothing was recorded.
        mask: False there; None where all was recorded.
    """

    dt: float
    values: Real[ndarray, "time channel"]
    mask: Bool[ndarray, " time"] | None


class Occurred(NamedTuple):
    """The events of a signal in a window, for a tokenizer that reads them one by one.

    Attributes:
        times: After the window's start (s), in order.
        units: Row of the unit of each.
        n_units: Rows there are, silent ones too.
    """

    times: Float32[ndarray, " event"]
    units: UInt[ndarray, " event"]
    n_units: int


def read_input(
    signal: Signal, spec: SignalCard, bin_width: float, start: float, stop: float
) -> Sampled | Occurred:
    """A signal in [start, stop), as its tokenizer takes it.

    Args:
        bin_width: Of spikes that are counted (s).
        start: On the recording's clock (s), like `stop`.

    Raises:
        DataError: Counts are negative.
        ValueError: A sound cannot be cut into the bands or frames that its card asks for.
    """
    if isinstance(signal, Events):
        if spec.tokenized_by == "spikes":
            return _occurred(signal, start, stop)
        return _counted(signal, bin_width, start, stop)
    assert isinstance(signal, Samples), "a table is no input"
    rate = rate_of(signal)
    values, mask = _rows(signal, round((start - signal.t0) * rate), round((stop - start) * rate))
    if spec.tokenized_by == "audio":
        mel, seen = log_mel(values, rate, **spec.mel.model_dump(), mask=mask)
        return Sampled(spec.mel.hop, mel, None if seen.all() else seen)
    values = _as_counts(values) if spec.modality in COUNTS else _as_measured(values)
    return Sampled(1.0 / rate, values, mask)


def about_input(signal: Signal, spec: SignalCard, bin_width: float) -> dict[str, Any]:
    """What there is to know of an input, as plain values.

    Returns:
        `modality`; `tokenizer`, a row of `TOKENIZERS`; `dt`, the duration of a sample (s), None
        for events; `grid`, height and width of an image or bands of a sound, empty where the
        channels have no order; `stabilise`, true for counts, of which the square root is taken
        before they are normalised.

    Raises:
        DataError: The card's `grid` has another number of voxels than the signal.
    """
    dt: float | None
    if isinstance(signal, Events):
        dt, grid = None if spec.tokenized_by == "spikes" else bin_width, []
    else:
        assert isinstance(signal, Samples), "a table is no input"
        dt = spec.mel.hop if spec.tokenized_by == "audio" else 1.0 / rate_of(signal)
        grid = _grid(signal, spec)
    return {
        "modality": spec.modality,
        "tokenizer": spec.tokenized_by,
        "dt": dt,
        "grid": grid,
        "stabilise": spec.modality in COUNTS and dt is not None,
    }


def rate_of(signal: Samples) -> float:
    """Rate of an aligned signal (Hz)."""
    assert signal.rate is not None, "align makes every signal regular"
    return signal.rate


def _occurred(signal: Events, start: float, stop: float) -> Occurred:
    lo, hi = np.searchsorted(signal.times, (start, stop))
    # Rounded to float32, the last times could reach the stop, which the window leaves out.
    last = np.nextafter(np.float32(stop - start), np.float32(0))
    times = np.minimum((signal.times[lo:hi] - start).astype(np.float32), last)
    small = np.uint16 if len(signal.units) <= 2**16 else np.uint32
    return Occurred(times, signal.index[lo:hi].astype(small), len(signal.units))


def _counted(signal: Events, width: float, start: float, stop: float) -> Sampled:
    n, units = max(1, round((stop - start) / width)), len(signal.units)
    lo, hi = np.searchsorted(signal.times, (start, start + n * width))
    counts = bin_events(signal.times[lo:hi], signal.index[lo:hi], units, start, width, n)
    return Sampled(width, _as_counts(counts), None)


def _rows(
    signal: Samples, first: int, n: int
) -> tuple[Real[ndarray, "time channel"], Bool[ndarray, " time"] | None]:
    """`n` rows from the place `first`, which may lie outside; the mask is None where all count."""
    n = max(1, n)
    lo, hi = max(first, 0), max(0, min(first + n, len(signal)))
    if (lo, hi) == (first, first + n) and (signal.mask is None or signal.mask[lo:hi].all()):
        return signal.values[lo:hi], None
    values, mask = np.zeros((n, signal.values.shape[1]), signal.values.dtype), np.zeros(n, bool)
    if hi > lo:
        here = slice(lo - first, hi - first)
        mask[here] = True if signal.mask is None else signal.mask[lo:hi]
        values[here] = signal.values[lo:hi]
        values[~mask] = 0
    return values, mask


def _as_counts(values: Real[ndarray, "time channel"]) -> Real[ndarray, "time channel"]:
    """In the smallest unsigned type; fractions of counts, as smoothing leaves them, as float32."""
    if values.min(initial=0) < 0:
        raise DataError(
            f"holds {values.min():g}, which is no count; give it the modality calcium, or take it "
            "out of the card"
        )
    if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
        return values.astype(np.float32)
    return values.astype(np.min_scalar_type(int(values.max(initial=0))), copy=False)


def _as_measured(values: Real[ndarray, "time channel"]) -> Real[ndarray, "time channel"]:
    """Pixels of eight bits as they are, everything else as float32."""
    return values if values.dtype == np.uint8 else values.astype(np.float32, copy=False)


def _grid(signal: Samples, spec: SignalCard) -> list[int]:
    if spec.tokenized_by == "audio":
        return [spec.mel.bands]
    n = signal.values.shape[1]
    if spec.grid is not None and np.prod(spec.grid) != n:
        raise DataError(
            f"has {n} channels, but its grid in the card, {spec.grid}, has {np.prod(spec.grid)}; "
            "mend `grid`, or leave it out"
        )
    if spec.grid is None and {"row", "column"} <= set(signal.channels):  # pixels of a video
        return [int(signal.channels[axis].max()) + 1 for axis in ("row", "column")]
    return spec.grid or []
