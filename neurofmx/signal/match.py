"""Which pulse of one device is which of another, that saw the same pulses but missed others.

A short stretch of the device's pulses is slid along the reference: the shift at which most of
them find a partner starts a line, which is then fitted over a stretch twice as long, and again,
until it spans all pulses. Evenly spaced pulses fit as well one period later; such a tie is
settled by the residual, by a complete match, or by clocks that started together (|offset| below
half a period, and as many pulses shared as at any shift); else it is an error.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from neurofmx.signal.lines import RESOLUTION, Line, fit_line

MAX_DRIFT = 500e-6  # quartz is within 100 ppm; ten times that is another fault than drift
ANCHOR = 30  # pulses that are slid: 500 ppm over 30 periods is 1.5% of a period
TRIALS = 40  # shifts that are followed to the end
SHARED = 0.5  # of the pulses of the side that has fewer, at least
CHANCE = 0.03  # share of matches by which missed pulses make equal shifts differ


@dataclass(frozen=True)
class _Match:
    pairs: Int[ndarray, "pair 2"]
    residual: float  # s, median absolute
    offset: float  # s, at the device's first pulse


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
    firsts = sorted({max(0, int(f * (len(device) - ANCHOR))) for f in (0, 0.25, 0.5, 0.75, 1)})
    anchors = [slice(first, min(len(device), first + ANCHOR)) for first in firsts]
    found = [_shifts(device[anchor], reference) for anchor in anchors]
    shifts, votes = (np.concatenate(parts) for parts in zip(*found, strict=True))
    anchor = np.repeat(np.arange(len(anchors)), [len(part) for part, _ in found])
    good = np.flatnonzero(votes >= 0.7 * votes.max(initial=0))
    order = good[np.argsort(-_overlap(device, reference, shifts[good]), kind="stable")]
    together = order[np.argsort(np.abs(shifts[order]), kind="stable")][:2]
    return [(anchors[anchor[k]], float(shifts[k])) for k in (*order[:TRIALS], *together)]


def _shifts(
    anchor: ndarray, reference: ndarray
) -> tuple[Float[ndarray, " shift"], Int[ndarray, " shift"]]:
    """Shifts (s) at which many pulses of the anchor meet one of the reference, with the number."""
    shifts = np.sort((reference[:, None] - anchor).ravel())
    width = 2 * MAX_DRIFT * (anchor[-1] - anchor[0]) + 0.05 * period_of(anchor)
    votes = np.searchsorted(shifts, shifts + width, side="right") - np.arange(len(shifts))
    good = np.flatnonzero(votes >= max(3, 0.7 * votes.max()))
    if len(good) == 0:
        return np.zeros(0), np.zeros(0, np.int64)
    groups = np.flatnonzero(np.diff(shifts[good], prepend=-np.inf) > width)
    middle = (shifts[good[groups]] + np.maximum.reduceat(shifts[good], groups) + width) / 2
    return middle, np.maximum.reduceat(votes[good], groups)


def _overlap(
    device: ndarray, reference: ndarray, shifts: Float[ndarray, " shift"]
) -> Int[ndarray, " shift"]:
    """How many pulses could be shared at each shift."""
    low = np.maximum(device[0] + shifts, reference[0])
    high = np.minimum(device[-1] + shifts, reference[-1])

    def inside(times: ndarray, low: ndarray, high: ndarray) -> ndarray:
        return np.searchsorted(times, high, side="right") - np.searchsorted(times, low)

    return np.minimum(inside(device, low - shifts, high - shifts), inside(reference, low, high))


def _grow(device: ndarray, reference: ndarray, anchor: slice, shift: float) -> _Match | None:
    """Fit a line to the anchor's pairs, then to a stretch twice as long, until it spans all."""
    tolerance = 0.25 * min(period_of(device), period_of(reference))
    line = Line(0.0, 0.0, shift)
    first, last = anchor.start, anchor.stop
    while True:
        pairs = nearest(device[first:last], reference, line, tolerance)
        pairs[:, 0] += first
        if len(pairs) < 3:
            return None
        x, y = device[pairs[:, 0]], reference[pairs[:, 1]]
        line = fit_line(x, y)
        if abs(line.drift) > 2 * MAX_DRIFT:  # a short stretch leaves the slope uncertain
            return None
        if first == 0 and last == len(device):
            break
        length = last - first
        first, last = max(0, first - length // 2), min(len(device), last + length // 2 + 1)
    error = float(np.median(np.abs(line.residual(x, y))))
    # Pulses that meet by chance are few and lie anywhere in the tolerance.
    if len(pairs) < SHARED * min(len(device), len(reference)) or error > tolerance / 4:
        return None
    # The last line may reach pulses that the one before it missed.
    pairs = nearest(device, reference, line, max(10 * error, tolerance / 10))
    return _Match(pairs, error, float(line(device[:1])[0] - device[0]))


def nearest(
    device: Float[ndarray, " pulse"],
    reference: Float[ndarray, " event"],
    line: Line,
    tolerance: float,
) -> Int[ndarray, "pair 2"]:
    """Index of each pulse and of its mutually nearest one, no further apart than tolerance (s)."""
    mapped = line(device)
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
    period = period_of(device)
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


def period_of(times: Float[ndarray, " event"]) -> float:
    """Median interval (s)."""
    return float(np.median(np.diff(times)))
