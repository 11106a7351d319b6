"""One clock and regular samples: what a recording becomes before it is cut into windows.

Times of a device are mapped by its fitted clock to the recording's. Irregular samples then move
to a regular grid, at the rate that the card names or else their own; samples that are regular
already and keep their rate are passed on as they lie on disk. A gap is a false mask: no value
crosses it, and counts are never interpolated.
"""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from neurofmx.data.cards import Card, ClockCard
from neurofmx.data.store import BLOCK_BYTES
from neurofmx.errors import DataError
from neurofmx.signal import resample
from neurofmx.signal.clocks import fit_clock, grid, nominal_rate
from neurofmx.types import AlignedRecording, Clock, Events, Intervals, Recording, Samples, Signal

MAX_GAP = 3.0  # samples; neighbours further apart are not joined
ON_GRID = 0.01  # samples; times this close to a grid need no interpolation
SPARSE = 1000  # places on the grid per sample, beyond which a time is wrong rather than far


def align(recording: Recording, card: Card) -> AlignedRecording:
    """The recording on its own clock, every `Samples` regular, gaps masked.

    Raises:
        DataError: A clock cannot be fitted, or a signal cannot have the rate that the card names.
    """
    clocks = {device: _fitted(recording, device, clock) for device, clock in card.clocks.items()}
    of_signal = {s: clocks[device] for device, c in card.clocks.items() for s in c.signals}
    of_signal |= {clock.device: clocks[device] for device, clock in card.clocks.items()}
    signals = {}
    for name, signal in recording.signals.items():
        if name in of_signal:
            signal = _mapped(signal, of_signal[name])
        if isinstance(signal, Samples):
            rate = card.signals[name].rate if name in card.signals else None
            try:
                signal = regular(signal, rate)
            except (DataError, ValueError) as error:
                raise DataError(f"signal {name!r}: {error}") from error
        signals[name] = signal
    return AlignedRecording(**{**vars(recording), "signals": signals}, clocks=clocks)


def regular(samples: Samples, rate: float | None = None) -> Samples:
    """Samples at a fixed rate with a mask over gaps.

    Args:
        samples: A row with a NaN counts as a gap.
        rate: Hz; None keeps the samples' own.

    Raises:
        DataError: Times run backwards or are too far apart for a grid, or counts are asked for
            at a rate that is no whole fraction of theirs.
    """
    if samples.rate is not None:
        if rate is None or rate == samples.rate:
            return _finite(samples)
        return _resampled(samples, samples.rate, rate)
    samples = _without_repeats(samples)
    own = nominal_rate(samples.clock)
    places = grid(samples.clock, own)
    _check_dense(samples, places.size, own)
    if samples.modality == "binned_counts" or places.error <= ON_GRID / own:
        return regular(_snapped(samples, own), rate)
    return _interpolated(samples, own, rate or own)


def _fitted(recording: Recording, device: str, clock: ClockCard) -> Clock:
    try:
        pulses = [_pulses(recording.signals[name]) for name in (clock.device, clock.reference)]
        return fit_clock(*pulses)
    except ValueError as error:
        raise DataError(
            f"clock of {device!r} ({clock.device!r} against {clock.reference!r}): {error}"
        ) from error


def _pulses(signal: Signal) -> ndarray:
    if isinstance(signal, Events):
        return signal.times
    return signal.start if isinstance(signal, Intervals) else signal.clock


def _mapped(signal: Signal, clock: Clock) -> Signal:
    """The signal with its times on the recording's clock; a fixed rate stays fixed."""
    if isinstance(signal, Events):
        return replace(signal, times=clock(signal.times))
    if isinstance(signal, Intervals):
        return replace(signal, start=clock(signal.start), stop=clock(signal.stop))
    if signal.rate is None:
        return replace(signal, times=clock(signal.clock))
    first = float(clock(np.array([signal.t0]))[0])
    return replace(signal, t0=first, rate=signal.rate / (1.0 + clock.drift * 1e-6))


def _without_repeats(samples: Samples) -> Samples:
    """The first of samples with one time."""
    times = samples.clock
    steps = np.diff(times)
    if not (steps >= 0).all():
        raise DataError(
            f"{int((~(steps >= 0)).sum())} times are not after the one before; run validate first"
        )
    if (steps > 0).all():
        return samples
    new = np.concatenate([[True], steps > 0])
    mask = None if samples.mask is None else samples.mask[new]
    return replace(samples, values=samples.values[:][new], times=times[new], mask=mask)


def _check_dense(samples: Samples, size: int, rate: float) -> None:
    if size > SPARSE * len(samples):
        longest = float(np.diff(samples.clock).max())
        raise DataError(
            f"{len(samples)} samples at {rate:g} Hz span {size} places because of a gap of "
            f"{longest:g} s; check the times in the source"
        )


def _snapped(samples: Samples, rate: float) -> Samples:
    """Each sample at the nearest place of a regular grid, values unchanged."""
    places = grid(samples.clock, rate)
    if places.error > 0.75 / rate:
        raise DataError(
            f"counts lie up to {places.error:.3g} s from bins of {1 / rate:.3g} s, and counts are "
            "not interpolated; give their bins regular times within each stretch"
        )
    values = np.zeros((places.size, samples.values.shape[1]), samples.values.dtype)
    mask = np.zeros(places.size, bool)
    values[places.index] = samples.values[:]
    mask[places.index] = True if samples.mask is None else samples.mask
    return replace(samples, values=values, times=None, rate=rate, t0=places.t0, mask=mask)


def _interpolated(samples: Samples, own: float, rate: float) -> Samples:
    """Lines between neighbours, on a grid at least as fine as the samples, then down to `rate`."""
    k = max(1, math.ceil(own / rate - ON_GRID))
    times = samples.clock
    first = float(times[0])
    n = math.floor((times[-1] - first) * rate * k + ON_GRID) + 1
    values = np.asarray(samples.values[:])
    if samples.mask is not None:
        values, times = values[samples.mask], times[samples.mask]
    fine = resample.interpolate(values, times, first, rate * k, n, MAX_GAP / own)
    values, mask = fine if k == 1 else resample.resample(*fine, Fraction(1, k))
    return replace(samples, values=values, times=None, rate=rate, t0=first, mask=_or_none(mask))


def _resampled(samples: Samples, own: float, rate: float) -> Samples:
    """Regular samples at another rate: counts summed, traces filtered and resampled."""
    ratio = resample.ratio_of(rate, own, len(samples))
    if ratio == 1:
        return _finite(replace(samples, rate=rate))
    if samples.modality == "binned_counts":
        if ratio is None or ratio.numerator != 1:
            raise DataError(
                f"counts at {own:g} Hz cannot be summed to {rate:g} Hz: a whole number "
                f"of bins is needed. Choose {own:g} / k, or leave `rate` out of the card"
            )
        values, mask = resample.sum_bins(samples.values[:], _mask(samples), ratio.denominator)
    elif ratio is None:
        return _interpolated(samples, own, rate)
    else:
        samples = _finite(samples)
        values, mask = resample.resample(samples.values[:], _mask(samples), ratio)
    return replace(samples, values=values, rate=rate, mask=_or_none(mask))


def _finite(samples: Samples) -> Samples:
    """The same object where every value counts; else with 0 and a false mask where none does."""
    mask = _mask(samples)
    if samples.values.dtype.kind == "f":
        rows = max(1, BLOCK_BYTES // max(1, samples.values[:1].nbytes))
        for k in range(0, len(samples), rows):
            mask[k : k + rows] &= np.isfinite(samples.values[k : k + rows]).all(axis=1)
    if mask.all():
        return samples if samples.mask is None else replace(samples, mask=None)
    values = np.where(mask[:, None], samples.values[:], np.zeros((), samples.values.dtype))
    return replace(samples, values=values, mask=mask)


def _mask(samples: Samples) -> Bool[ndarray, " time"]:
    return np.ones(len(samples), bool) if samples.mask is None else samples.mask.copy()


def _or_none(mask: Bool[ndarray, " time"]) -> Bool[ndarray, " time"] | None:
    return None if mask.all() else mask
