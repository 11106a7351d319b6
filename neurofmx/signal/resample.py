"""Sampling: irregular times to a regular grid, from one rate to another, events to counts.

A `mask` is false where nothing was recorded, and no value crosses a gap: traces are interpolated
only between neighbours that are close, filtered only within a stretch that has no gap, and counts
are summed only over bins that were all recorded. Where the mask is false the value is 0.
"""

from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from numpy import ndarray
from scipy.signal import resample_poly

MAX_TERM = 1000  # largest numerator or denominator of a ratio of rates


def interpolate(
    values: Num[ndarray, "time channel"],
    times: Float[ndarray, " time"],
    t0: float,
    rate: float,
    n: int,
    max_gap: float,
) -> tuple[Float[ndarray, "n channel"], Bool[ndarray, " n"]]:
    """Straight lines between neighbours, on the grid t0 + k / rate, with its mask.

    Linear interpolation reads the next sample, so it is not causal. It does not filter: take a
    rate no lower than the series' own and `resample` from there.

    Args:
        values: A row with a NaN counts as not recorded.
        times: Strictly increasing (s).
        n: Length of the grid.
        max_gap: Neighbours further apart than this are not joined (s).
    """
    good = np.isfinite(values).all(axis=1)
    values, times = values[good], times[good]
    out = np.zeros((n, values.shape[1]), np.result_type(values.dtype, np.float32))
    if len(times) == 0:
        return out, np.zeros(n, bool)
    at = t0 + np.arange(n) / rate
    right = np.clip(np.searchsorted(times, at, side="right"), 1, max(1, len(times) - 1))
    left, right = right - 1, np.minimum(right, len(times) - 1)
    width = times[right] - times[left]
    share = np.divide(at - times[left], width, out=np.zeros(n), where=width > 0)
    exact = 1e-6 / rate
    on_left, on_right = np.abs(at - times[left]) < exact, np.abs(at - times[right]) < exact
    inside = (at >= times[left]) & (at <= times[right]) & (width <= max_gap)
    mask = inside | on_left | on_right
    share = np.where(on_left, 0.0, np.where(on_right, 1.0, share))[mask, None]
    out[mask] = values[left[mask]] * (1 - share) + values[right[mask]] * share
    return out, mask


def ratio_of(new_rate: float, rate: float, n: int) -> Fraction | None:
    """`new_rate` / `rate` in small whole numbers, or None where no such ratio holds over n samples.

    Over the whole series the grids may part by a hundredth of a sample.
    """
    ratio = new_rate / rate
    close = Fraction(ratio).limit_denominator(MAX_TERM)
    if close.numerator == 0 or close.numerator > MAX_TERM:
        return None
    return close if abs(float(close) / ratio - 1) * n < 0.01 else None


def resample(
    values: Num[ndarray, "time channel"], mask: Bool[ndarray, " time"], ratio: Fraction
) -> tuple[Float[ndarray, "new channel"], Bool[ndarray, " new"]]:
    """Band-limited change of rate by `ratio`, each stretch without a gap by itself.

    The anti-alias filter is a zero-phase FIR low-pass (Kaiser window). It sees what is left of a
    stretch without the straight line from its first to its last sample, so that constants and
    ramps come out unchanged.
    """
    up, down = ratio.numerator, ratio.denominator
    size = (len(values) - 1) * up // down + 1 if len(values) else 0
    out = np.zeros((size, values.shape[1]), np.result_type(values.dtype, np.float32))
    new_mask = np.zeros(size, bool)
    for start, stop in stretches(mask):
        first, last = -(-start * up // down), (stop - 1) * up // down + 1
        at = np.arange(first, last) * (down / up) - start
        out[first:last] = _resampled(values[start:stop], start, at, ratio)
        new_mask[first:last] = True
    return out, new_mask


def _resampled(
    piece: Num[ndarray, "time channel"], start: int, at: Float[ndarray, " new"], ratio: Fraction
) -> Float[ndarray, "new channel"]:
    """A stretch that begins at sample `start`, read at the fractional samples `at`."""
    up, down = ratio.numerator, ratio.denominator
    slope = (piece[-1] - piece[0].astype(float)) / max(1, len(piece) - 1)
    rest = piece - (piece[0] + np.arange(len(piece))[:, None] * slope)
    before = start % down  # zeros in front, so that both grids share the first point
    rest = resample_poly(np.pad(rest, ((before, 0), (0, 0))), up, down, axis=0)
    skip = -(-before * up // down)
    return rest[skip : skip + len(at)] + piece[0] + at[:, None] * slope


def sum_bins(
    counts: Num[ndarray, "time unit"], mask: Bool[ndarray, " time"], k: int
) -> tuple[Num[ndarray, "new unit"], Bool[ndarray, " new"]]:
    """Counts in bins k times as wide: a gap where one of the k is, a last partial bin cut off."""
    size = len(counts) // k
    new_mask = np.all(mask[: size * k].reshape(size, k), axis=1)
    sums = counts[: size * k].reshape(size, k, -1).sum(axis=1)
    sums[~new_mask] = 0
    return sums, new_mask


def stretches(mask: Bool[ndarray, " time"]) -> list[tuple[int, int]]:
    """[start, stop) of each run of true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def bin_events(
    times: Float[ndarray, " event"],
    index: Int[ndarray, " event"],
    n_units: int,
    t0: float,
    bin_width: float,
    n_bins: int,
) -> Int[ndarray, "bin unit"]:
    """Events of each unit in the half-open bins [t0 + k · bin_width, t0 + (k + 1) · bin_width).

    Args:
        times: In any order (s).
        index: Unit of each event.
        bin_width: Seconds.
    """
    edges = t0 + np.arange(n_bins + 1) * bin_width
    place = np.searchsorted(edges, times, side="right") - 1
    inside = (place >= 0) & (place < n_bins)
    flat = place[inside] * n_units + index[inside]
    return np.bincount(flat, minlength=n_bins * n_units).reshape(n_bins, n_units)
