"""Clocks: two devices that saw the same pulses, and series of times that are nearly regular.

A device's clock is an affine map of the recording's, t = offset + (1 + drift) · t_device. Pulses
that both saw give pairs of times, but each side misses some, so pulse k of one need not be pulse
k of the other. A short stretch of the device's pulses is slid along the reference: the shift at
which most of them find a partner starts a line, which is then fitted over a stretch twice as
long, and again, until it spans all pulses. Evenly spaced pulses fit as well one period later;
such a tie is settled by the residual, by a complete match, or by clocks that started together
(|offset| below half a period, and as many pulses shared as at any shift); else it is an error.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from neurofmx.types import Clock

MAX_DRIFT = 500e-6  # quartz is within 100 ppm; ten times that is another fault than drift
ANCHOR = 30  # pulses that are slid: 500 ppm over 30 periods is 1.5% of a period
TRIALS = 40  # shifts that are followed to the end
OUTLIER = 5.0  # robust standard deviations
SHARED = 0.5  # of the pulses of the side that has fewer, at least
CHANCE = 0.03  # share of matches by which missed pulses make equal shifts differ
RESOLUTION = 1e-6  # s; residuals below this count as equal


@dataclass(frozen=True)
class _Match:
    pairs: Int[ndarray, "pair 2"]
    residual: float  # s, median absolute
    offset: float  # s, at the device's first pulse


def fit_clock(device: Float[ndarray, " pulse"], reference: Float[ndarray, " event"]) -> Clock:
    """The clock that maps a device's time to the reference's, by least squares over shared pulses.

    Args:
        device: Sorted times of pulses on the device's clock (s).
        reference: Sorted times of the same pulses on the reference's clock (s); either side may
            have missed some and may start at any time.

    Raises:
        ValueError: Fewer than 3 pulses are shared, or two shifts explain them equally well.
    """
    pairs = match_events(device, reference)
    x, y = device[pairs[:, 0]], reference[pairs[:, 1]]
    for _ in range(10):
        drift, at, to = _line(x, y)
        error = np.abs(_residual(x, y, drift, at, to))
        keep = error <= max(OUTLIER * 1.4826 * float(np.median(error)), RESOLUTION)
        if keep.all():
            break
        x, y = x[keep], y[keep]
    residual = float(np.sqrt(np.mean(_residual(x, y, drift, at, to) ** 2)))
    return Clock(to - (1.0 + drift) * at, drift * 1e6, residual, len(x))


def match_events(
    device: Float[ndarray, " pulse"], reference: Float[ndarray, " event"]
) -> Int[ndarray, "pair 2"]:
    """Index into `device` and into `reference` of each pulse that both saw, in order.

    Raises:
        ValueError: Fewer than 3 pulses are shared, or two shifts explain them equally well.
    """
    if min(len(device), len(reference)) < 3:
        raise ValueError(
            f"a clock needs 3 shared pulses; the device has {len(device)}, "
            f"the reference {len(reference)}"
        )
    grown = [_grow(device, reference, *start) for start in _starts(device, reference)]
    matches = [match for match in grown if match and len(match.pairs) >= 3]
    if not matches:
        raise ValueError(
            f"of {len(device)} device and {len(reference)} reference pulses less than half fit one "
            f"clock within {MAX_DRIFT * 1e6:.0f} ppm. Check that both signals saw the same pulses"
        )
    most = max(len(match.pairs) for match in matches)
    return _settle([m for m in matches if len(m.pairs) >= 0.9 * most], device, reference).pairs


def _starts(device: ndarray, reference: ndarray) -> list[tuple[slice, float]]:
    """Stretches of the device's pulses, each with a shift at which most find a partner."""
    firsts = {max(0, int(f * (len(device) - ANCHOR))) for f in (0.0, 0.25, 0.5, 0.75, 1.0)}
    found = []
    for first in sorted(firsts):
        anchor = slice(first, min(len(device), first + ANCHOR))
        found += [(anchor, shift, votes) for shift, votes in _shifts(device[anchor], reference)]
    best = max((votes for *_, votes in found), default=0)
    starts = [(anchor, shift) for anchor, shift, votes in found if votes >= 0.7 * best]
    starts.sort(key=lambda start: -_overlap(device, reference, start[1]))
    together = sorted(starts, key=lambda start: abs(start[1]))[:2]
    return starts[:TRIALS] + together


def _shifts(anchor: ndarray, reference: ndarray) -> list[tuple[float, int]]:
    """Shifts (s) at which many pulses of the anchor meet one of the reference, with the number."""
    shifts = np.sort((reference[:, None] - anchor).ravel())
    width = 2 * MAX_DRIFT * (anchor[-1] - anchor[0]) + 0.05 * _period(anchor)
    votes = np.searchsorted(shifts, shifts + width, side="right") - np.arange(len(shifts))
    good = np.flatnonzero(votes >= max(3, 0.7 * votes.max()))
    groups = np.split(good, np.flatnonzero(np.diff(shifts[good]) > width) + 1)
    return [(float(shifts[g].mean() + width / 2), int(votes[g].max())) for g in groups if len(g)]


def _overlap(device: ndarray, reference: ndarray, shift: float) -> int:
    """How many pulses could be shared at this shift."""
    low = max(device[0] + shift, reference[0])
    high = min(device[-1] + shift, reference[-1])
    inside = [int(((t >= low) & (t <= high)).sum()) for t in (device + shift, reference)]
    return min(inside)


def _grow(device: ndarray, reference: ndarray, anchor: slice, shift: float) -> _Match | None:
    """Fit a line to the anchor's pairs, then to a stretch twice as long, until it spans all."""
    tolerance = 0.25 * min(_period(device), _period(reference))
    drift, at, to = 0.0, 0.0, shift
    first, last = anchor.start, anchor.stop
    while True:
        pairs = _nearest(device[first:last], reference, drift, at, to, tolerance)
        pairs[:, 0] += first
        if len(pairs) < 3:
            return None
        x, y = device[pairs[:, 0]], reference[pairs[:, 1]]
        drift, at, to = _line(x, y)
        if abs(drift) > 2 * MAX_DRIFT:  # a short stretch leaves the slope uncertain
            return None
        if first == 0 and last == len(device):
            break
        length = last - first
        first, last = max(0, first - length // 2), min(len(device), last + length // 2 + 1)
    error = float(np.median(np.abs(_residual(x, y, drift, at, to))))
    # Pulses that meet by chance are few and lie anywhere in the tolerance.
    if len(pairs) < SHARED * min(len(device), len(reference)) or error > tolerance / 4:
        return None
    # The last line may reach pulses that the one before it missed.
    pairs = _nearest(device, reference, drift, at, to, max(10 * error, tolerance / 10))
    return _Match(pairs, error, to - at + drift * (device[0] - at))


def _nearest(device, reference, drift, at, to, tolerance) -> Int[ndarray, "pair 2"]:
    """Mutually nearest pulses no further apart than the tolerance (s)."""
    mapped = to + (1.0 + drift) * (device - at)
    partner = _closest(reference, mapped)
    mutual = _closest(mapped, reference[partner]) == np.arange(len(mapped))
    near = np.abs(reference[partner] - mapped) <= tolerance
    index = np.flatnonzero(mutual & near)
    return np.stack([index, partner[index]], axis=1)


def _closest(sorted_times: ndarray, times: ndarray) -> ndarray:
    right = np.clip(np.searchsorted(sorted_times, times), 1, len(sorted_times) - 1)
    left_is_closer = times - sorted_times[right - 1] <= sorted_times[right] - times
    return right - left_is_closer


def _settle(matches: list[_Match], device: ndarray, reference: ndarray) -> _Match:
    """The match to believe, or an error where evenly spaced pulses leave it open."""
    best = min(matches, key=lambda match: match.residual)
    period = _period(device)
    tied = [m for m in matches if m.residual <= 1.5 * best.residual + RESOLUTION]
    rivals = [m for m in tied if abs(m.offset - best.offset) > period / 4]
    complete = [m for m in tied if len(m.pairs) == len(device) == len(reference)]
    most = max(len(m.pairs) for m in matches)
    together = [
        m for m in tied if abs(m.offset) < period / 2 and len(m.pairs) >= (1 - CHANCE) * most
    ]
    for choice in (complete, [] if rivals else [best], together):
        if choice:
            return max(choice, key=lambda match: len(match.pairs))
    raise ValueError(
        f"the pulses are evenly spaced ({period:.3g} s), so shifts of {best.offset:.6g} s and "
        f"{rivals[0].offset:.6g} s fit equally well; irregular pulses, or clocks that start "
        "within half a period of each other, are needed"
    )


def _period(times: ndarray) -> float:
    return float(np.median(np.diff(times)))


def _line(x: ndarray, y: ndarray) -> tuple[float, float, float]:
    """Drift, and the point (at, to) that the line passes through.

    Differences from the centre are fitted: epoch-sized times squared would lose microseconds.
    """
    at, to = x[0] + (x - x[0]).mean(), y[0] + (y - y[0]).mean()
    lead = (y - to) - (x - at)
    return float((x - at) @ lead / ((x - at) @ (x - at))), float(at), float(to)


def _residual(x: ndarray, y: ndarray, drift: float, at: float, to: float) -> ndarray:
    return (y - to) - (1.0 + drift) * (x - at)


@dataclass(frozen=True)
class Grid:
    """Regular times nearest to a series with gaps.

    Attributes:
        index: Place of each sample on the grid, strictly increasing.
        error: Largest distance of a sample from its place (s).
    """

    t0: float
    rate: float
    index: Int[ndarray, " time"]
    error: float

    @property
    def size(self) -> int:
        """Places from the first sample to the last."""
        return int(self.index[-1]) + 1


def nominal_rate(times: Float[ndarray, " time"]) -> float:
    """Rate inside the stretches without gaps (Hz), to 5 digits.

    The median interval alone is coarse where times were stored in milliseconds, so the intervals
    up to 1.5 times the median are averaged.

    Raises:
        ValueError: Fewer than 2 different times.
    """
    steps = np.diff(times)
    steps = steps[steps > 0]
    if len(steps) == 0:
        raise ValueError(f"a rate needs 2 different times; there are {len(times)} samples")
    mean = float(steps[steps < 1.5 * np.median(steps)].mean())
    return float(f"{1 / mean:.5g}")


def grid(times: Float[ndarray, " time"], rate: float) -> Grid:
    """Put each sample of a series with gaps on a regular grid that starts with the first.

    A stretch between gaps stays contiguous; only its start is rounded to the grid.

    Args:
        times: Strictly increasing (s).
        rate: Of the grid (Hz).
    """
    place = (times - times[0]) * rate
    new = np.concatenate([[True], np.diff(place) > 1.5])
    first = np.flatnonzero(new)
    starts = np.round(place[first]).astype(np.int64)
    stretch = np.cumsum(new) - 1
    index = starts[stretch] + np.arange(len(times)) - first[stretch]
    error = float(np.abs(index - place).max() / rate)
    return Grid(float(times[0]), rate, index, error)
