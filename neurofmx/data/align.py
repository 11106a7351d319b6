"""One clock and regular samples: what a recording becomes before it is cut into windows.

Times of a device are mapped by its fitted clock to the recording's; the stamps of frames lose
their jitter first. Irregular samples then move to a regular grid, at the rate that the card names
or else their own; samples that are regular already and keep their rate are passed on as they lie
on disk. A gap is a false mask: no value crosses it, and counts are never interpolated. Values are
computed as they are sliced, so a recording never lies in memory.
"""

import math
from dataclasses import replace
from fractions import Fraction

import dask
import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from neurofmx.data.arrays import Masked, Placed, Scaled
from neurofmx.data.cards import Card, ClockCard
from neurofmx.data.signal_cards import SignalCard
from neurofmx.errors import DataError
from neurofmx.signal.bins import SummedBins
from neurofmx.signal.clocks import ClockFit, fit_pulses, grid, nominal_rate
from neurofmx.signal.frames import Frames, recover_frames
from neurofmx.signal.interpolate import Interpolated
from neurofmx.signal.resample import Resampled, ratio_of
from neurofmx.signal.rows import BLOCK_BYTES, LazyRows, finite_rows
from neurofmx.types import AlignedRecording, Clock, Events, Intervals, Recording, Samples, Signal

MAX_GAP = 3.0  # samples; neighbours further apart are not joined, unless the card says otherwise
ON_GRID = 0.01  # samples; times this close to a grid need no interpolation
PAUSE, PAUSE_FRAMES = 1.0, 5  # s and frames; a camera may have been restarted in a longer gap
UNSTEADY = 0.5  # frames; stamps further off than this (rms) are not of frames at a fixed rate
SPARSE = 1000  # places on the grid per sample, beyond which a time is wrong rather than far


def align(recording: Recording, card: Card) -> AlignedRecording:
    """The recording on its own clock, every `Samples` regular, gaps masked.

    Raises:
        DataError: A clock cannot be fitted, or a signal cannot have the rate that the card names.
    """
    clocks: dict[str, Clock] = {}
    of_signal: dict[str, Clock] = {}
    for device, clock in card.clocks.items():
        if any(name in recording.signals for name in (*clock.signals, clock.device)):
            clocks[device] = fitted(recording, device, clock).clock
            of_signal |= dict.fromkeys([*clock.signals, clock.device], clocks[device])
    signals = {}
    for name, signal in recording.signals.items():
        spec = card.signals.get(name) or SignalCard(path="", modality=signal.modality)
        try:
            signals[name] = _aligned(signal, spec, of_signal.get(name), card.causal)
        except (DataError, ValueError) as error:
            raise DataError(f"signal {name!r}: {error}") from error
    return AlignedRecording(**{**vars(recording), "signals": signals}, clocks=clocks)


def fitted(recording: Recording, device: str, clock: ClockCard) -> ClockFit:
    """The clock of a device, with the pulses that it was fitted to.

    Raises:
        DataError: The pulses are absent, or do not tell; says why.
    """
    try:
        for name in {clock.device, clock.reference} - set(recording.signals):
            raise ValueError(f"the recording has no {name!r}")
        pulses = [_pulses(recording.signals[name]) for name in (clock.device, clock.reference)]
        return fit_pulses(*pulses)
    except ValueError as error:
        raise DataError(
            f"clock of {device!r} ({clock.device!r} against {clock.reference!r}): {error}"
        ) from error


def regular(samples: Samples, spec: SignalCard, causal: bool = False) -> Samples:
    """Samples at a fixed rate with a mask over gaps.

    Args:
        samples: A row with a NaN counts as a gap.
        spec: Names the rate (None keeps the samples' own), the method and the longest gap.
        causal: Use nothing after the time of a sample.

    Raises:
        DataError: Times run backwards or are too far apart for a grid, or counts are asked for
            at a rate that is no whole fraction of theirs.
        ValueError: The method is not causal.
    """
    rate = spec.rate
    if samples.rate is not None:
        if rate is None or rate == samples.rate:
            return _finite(samples)
        return _resampled(samples, samples.rate, rate, spec, causal)
    samples = _without_repeats(samples)
    times = samples.clock if samples.mask is None else samples.clock[samples.mask]
    own = nominal_rate(times)
    places = grid(times, own)
    _check_dense(len(times), places.size, own, times)
    if samples.modality == "binned_counts" or places.error <= ON_GRID / own:
        return regular(_snapped(samples, own), spec, causal)
    return _interpolated(samples, own, rate or own, spec, causal)


def _aligned(signal: Signal, spec: SignalCard, clock: Clock | None, causal: bool) -> Signal:
    frames = recovered(signal, spec) if isinstance(signal, Samples) and spec.frames else None
    if isinstance(signal, Samples) and frames is not None:
        signal = replace(signal, times=frames.times)
    if clock is not None:
        signal = _mapped(signal, clock)
    return regular(signal, spec, causal) if isinstance(signal, Samples) else signal


def recovered(samples: Samples, spec: SignalCard) -> Frames:
    """The frames of a device that runs at a fixed rate, on its clock.

    Raises:
        DataError: The samples have a rate already, so that no stamp is left to be mended, or the
            device did not run at a fixed rate.
    """
    if samples.times is None:
        raise DataError("has a fixed rate, so its frames have no stamps; drop `frames` in the card")
    period = 1.0 / (spec.nominal or nominal_rate(samples.times))
    frames = recover_frames(samples.times, spec.nominal, max(PAUSE, PAUSE_FRAMES * period))
    if frames.residual > UNSTEADY * period:
        raise DataError(
            f"stamps lie {frames.residual:.3g} s (rms) off frames every {period:.3g} s, so the "
            "device ran at no fixed rate; drop `frames` in the card, or mend `nominal`"
        )
    return frames


def _pulses(signal: Signal) -> ndarray:
    if isinstance(signal, Events):
        return signal.times
    return signal.start if isinstance(signal, Intervals) else signal.clock


def _mapped(signal: Signal, clock: Clock) -> Signal:
    """The signal with its times on the recording's clock; a fixed rate stays fixed if it can."""
    if isinstance(signal, Events):
        return replace(signal, times=clock(signal.times))
    if isinstance(signal, Intervals):
        return replace(signal, start=clock(signal.start), stop=clock(signal.stop))
    if signal.rate is None or clock.later:
        return replace(signal, rate=None, times=clock(signal.clock))
    first = float(clock(np.array([signal.t0]))[0])
    return replace(signal, t0=first, rate=signal.rate / (1.0 + clock.drift * 1e-6))


def _without_repeats(samples: Samples) -> Samples:
    """Of samples with one time all but the first masked."""
    steps = np.diff(samples.clock)
    if not (steps >= 0).all():
        raise DataError(
            f"{int((~(steps >= 0)).sum())} times are not after the one before; run validate first"
        )
    if (steps > 0).all():
        return samples
    return replace(samples, mask=_mask(samples) & np.concatenate([[True], steps > 0]))


def _check_dense(n: int, size: int, rate: float, times: ndarray) -> None:
    if size > SPARSE * n:
        longest = float(np.diff(times).max())
        raise DataError(
            f"{n} samples at {rate:g} Hz span {size} places because of a gap of "
            f"{longest:g} s; check the times in the source"
        )


def _snapped(samples: Samples, rate: float) -> Samples:
    """Each sample at the nearest place of a regular grid, values unchanged."""
    seen = _mask(samples)
    places = grid(samples.clock[seen], rate)
    if places.error > 0.75 / rate:
        raise DataError(
            f"counts lie up to {places.error:.3g} s from bins of {1 / rate:.3g} s, and counts are "
            "not interpolated; give their bins regular times within each stretch"
        )
    values = Placed(samples.values, np.flatnonzero(seen), places.index)
    return replace(
        samples, values=values, times=None, rate=rate, t0=places.t0, mask=_or_none(values.mask)
    )


def _interpolated(
    samples: Samples, own: float, rate: float, spec: SignalCard, causal: bool
) -> Samples:
    """Values between samples, on a grid at least as fine as the samples, then down to `rate`."""
    k = max(1, math.ceil(own / rate - ON_GRID))
    mask = _mask(samples) & _seen(samples)
    times = (samples.t0, own) if samples.times is None else samples.times
    first, last = float(samples.clock[0]), float(samples.clock[-1])
    n = math.floor((last - first) * rate * k + ON_GRID) + 1
    method = spec.method or ("previous" if causal else "linear")
    gap = spec.max_gap or MAX_GAP / own
    values: LazyRows = Interpolated(
        samples.values, times, first, rate * k, n, method, gap, mask, causal
    )
    if k > 1:
        values = Resampled(values, values.mask, Fraction(1, k), causal)
    mask = values.mask
    return replace(samples, values=values, times=None, rate=rate, t0=first, mask=_or_none(mask))


def _resampled(
    samples: Samples, own: float, rate: float, spec: SignalCard, causal: bool
) -> Samples:
    """Regular samples at another rate: counts summed, traces filtered and resampled."""
    ratio = ratio_of(rate, own, len(samples))
    if ratio == 1:
        return _finite(replace(samples, rate=rate))
    values: LazyRows
    if samples.modality == "binned_counts":
        if ratio is None or ratio.numerator != 1:
            raise DataError(
                f"counts at {own:g} Hz cannot be summed to {rate:g} Hz: a whole number "
                f"of bins is needed. Choose {own:g} / k, or leave `rate` out of the card"
            )
        values = SummedBins(samples.values, samples.mask, ratio.denominator)
    elif ratio is None or spec.method is not None:
        return _interpolated(samples, own, rate, spec, causal)
    else:
        values = Resampled(samples.values, _mask(samples) & _seen(samples), ratio, causal)
    return replace(samples, values=values, rate=rate, mask=_or_none(values.mask))


def _finite(samples: Samples) -> Samples:
    """The same object where every value counts; else with 0 and a false mask where none does."""
    mask = _mask(samples) & _seen(samples)
    if mask.all():
        return samples if samples.mask is None else replace(samples, mask=None)
    return replace(samples, values=Masked(samples.values, mask), mask=mask)


def _seen(samples: Samples) -> Bool[ndarray, " time"]:
    """Rows without NaN, looked for block by block, side by side where Dask has workers."""
    values, n = samples.values, len(samples)
    packed = isinstance(values, Scaled) and values.packed
    if values.dtype.kind != "f" or packed:
        return np.ones(n, bool)
    rows = max(1, BLOCK_BYTES // max(1, values.shape[1] * values.dtype.itemsize))
    look = dask.delayed(lambda first: finite_rows(values[first : first + rows]), pure=False)
    return np.concatenate([np.ones(0, bool), *dask.compute(*[look(k) for k in range(0, n, rows)])])


def _mask(samples: Samples) -> Bool[ndarray, " time"]:
    return np.ones(len(samples), bool) if samples.mask is None else samples.mask


def _or_none(mask: Bool[ndarray, " time"]) -> Bool[ndarray, " time"] | None:
    return None if mask.all() else mask
