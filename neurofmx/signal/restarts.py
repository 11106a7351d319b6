"""Pulses that two devices saw, where the clock of one was restarted or stepped in a gap.

One line then does not hold for all pulses: a long run of them between gaps finds no partners, or
finds them by chance. The device's pulses are cut at a gap beside such a run, each side is matched
by itself, and pulses that lie between the sides go to the line that they fit.
"""

from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from neurofmx.signal.lines import fit_line_robustly
from neurofmx.signal.match import ANCHOR, SHARED, match_events, nearest, period_of

WIDE = 2.5  # median intervals; a clock may have stepped in one that is longer
CHANCE = 0.02  # of an interval; pulses that scatter more about their line met by chance
NEAR = 50  # pulses beside a gap that tell the line there


def match_across_steps(
    device: Float[ndarray, " pulse"], reference: Float[ndarray, " event"]
) -> Int[ndarray, "pair 2"]:
    """`match_events`, or that of the sides of a gap where one line does not hold for both.

    Raises:
        ValueError: A long run of pulses has no partners though the reference had pulses then, or
            as `match_events`.
    """
    pairs = _matched(device, reference)
    for start, stop in _poor_runs(device, reference, pairs):
        line = fit_line_robustly(device[pairs[:, 0]], reference[pairs[:, 1]])[0]
        first, last = line(device[[start, stop - 1]])
        if ((reference >= first) & (reference <= last)).sum() >= SHARED * (stop - start):
            raise ValueError(
                f"the device's {stop - start} pulses from {device[start]:.6g} s to "
                f"{device[stop - 1]:.6g} s do not meet the reference's under the clock that fits "
                "the others, nor under one of their own. Check that both saw the same pulses then"
            )
    return pairs


def _matched(device: ndarray, reference: ndarray) -> Int[ndarray, "pair 2"]:
    whole, refusal = np.zeros((0, 2), int), None
    try:
        whole = match_events(device, reference)
    except ValueError as error:
        refusal = error
    gap = _gap(device, reference, whole)
    if gap:
        try:
            before, after = (_matched(part, reference) for part in (device[:gap], device[gap:]))
            sides = _joined(device, reference, before, after + np.array([gap, 0]))
            if (np.diff(sides[:, 1]) > 0).all():
                return sides
        except ValueError:
            pass  # the sides tell less than the whole, which is judged below
    if refusal:
        raise refusal
    return whole


def _gap(device: ndarray, reference: ndarray, pairs: ndarray) -> int | None:
    """First pulse after the gap to cut at: the widest between a poor run and one that is not."""
    poor = _poor_runs(device, reference, pairs)
    sides = list(pairwise(_long_runs(device)))
    borders = [(a, b) for a, b in sides if (a in poor) != (b in poor)]
    if not borders and poor:
        borders = sides
    gaps = [gap for a, b in borders for gap in range(a[1], b[0] + 1)]
    return max(gaps, key=lambda gap: device[gap] - device[gap - 1], default=None)


def _long_runs(device: ndarray) -> list[tuple[int, int]]:
    """[start, stop) of the pulses between wide gaps, where enough to match alone."""
    if len(device) < ANCHOR:
        return []
    steps = np.diff(device)
    gaps = np.flatnonzero(steps > WIDE * np.median(steps)) + 1
    runs = pairwise([0, *gaps.tolist(), len(device)])
    return [(start, stop) for start, stop in runs if stop - start >= ANCHOR]


def _poor_runs(device: ndarray, reference: ndarray, pairs: ndarray) -> list[tuple[int, int]]:
    """Long runs of pulses that found no partner, or found them by chance."""
    poor = []
    for start, stop in _long_runs(device):
        inside = pairs[(pairs[:, 0] >= start) & (pairs[:, 0] < stop)]
        if len(inside) >= SHARED * (stop - start):
            x, y = device[inside[:, 0]], reference[inside[:, 1]]
            scatter = float(np.median(np.abs(fit_line_robustly(x, y)[0].residual(x, y))))
            if scatter <= CHANCE * period_of(device):
                continue
        poor.append((start, stop))
    return poor


def _joined(
    device: ndarray, reference: ndarray, before: ndarray, after: ndarray
) -> Int[ndarray, "pair 2"]:
    """Pairs of both sides of a gap, and of the pulses between that fit the line of either."""
    first, last = int(before[-1, 0]) + 1, int(after[0, 0])
    more = []
    for side in (before[-NEAR:], after[:NEAR]):
        line, _ = fit_line_robustly(device[side[:, 0]], reference[side[:, 1]])
        tolerance = CHANCE * period_of(device)
        found = nearest(device[first:last], reference, line, tolerance)
        more.append(found + np.array([first, 0]))
    steps = np.diff(device)
    cuts = [cut for cut in range(first, last + 1) if steps[cut - 1] > WIDE * np.median(steps)]

    def fitting(cut: int) -> tuple[int, float]:
        n = int((more[0][:, 0] < cut).sum() + (more[1][:, 0] >= cut).sum())
        return n, float(steps[cut - 1])

    cut = max(cuts, key=fitting)
    left, right = more[0][more[0][:, 0] < cut], more[1][more[1][:, 0] >= cut]
    return np.concatenate([before, left, right, after])
