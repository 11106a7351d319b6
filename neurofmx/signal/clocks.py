"""Clocks: two devices that saw the same pulses, and series of times that are nearly regular.

A device's clock is an affine map of the recording's, t = offset + (1 + drift) · t_device. Pulses
that both saw give pairs of times, through which a line is fitted. A clock that was restarted or
stepped while no pulse came has another line from there on: in each wide interval between pulses
the lines through the pulses before and after are compared, and parted where they differ by
far more than the pulses scatter about them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from neurofmx.signal.lines import OUTLIER, RESOLUTION, Line, fit_line_robustly
from neurofmx.signal.restarts import NEAR, WIDE, match_across_steps
from neurofmx.types import Clock, Piece

FEW = 10  # pulses that a line of its own needs


@dataclass(frozen=True)
class ClockFit:
    """A fitted clock and the pulses that both sides saw.

    Attributes:
        device: On the device's clock (s).
        reference: On the reference's clock (s).
        residual: Reference minus fit (s).
        used: False for outliers, which the fit left out.
    """

    clock: Clock
    device: Float[ndarray, " pulse"]
    reference: Float[ndarray, " pulse"]
    residual: Float[ndarray, " pulse"]
    used: Bool[ndarray, " pulse"]


def fit_clock(device: Float[ndarray, " pulse"], reference: Float[ndarray, " event"]) -> Clock:
    """The clock that maps a device's time to the reference's, by least squares over shared pulses.

    Args:
        device: Sorted times of pulses on the device's clock (s).
        reference: Sorted times of the same pulses on the reference's clock (s); either side may
            have missed some and may start at any time.

    Raises:
        ValueError: Fewer than 3 pulses are shared, two shifts explain them equally well, or a
            long run of pulses meets none though the reference had pulses then.
    """
    return fit_pulses(device, reference).clock


def fit_pulses(device: Float[ndarray, " pulse"], reference: Float[ndarray, " event"]) -> ClockFit:
    """`fit_clock` with the pulses that it was fitted to."""
    pairs = match_across_steps(device, reference)
    x, y = device[pairs[:, 0]], reference[pairs[:, 1]]
    cuts = _steps(x, y, 0, len(x))
    residual, used, lines = np.zeros(len(x)), np.ones(len(x), bool), []
    for start, stop in zip([0, *cuts], [*cuts, len(x)], strict=True):
        line, used[start:stop] = fit_line_robustly(x[start:stop], y[start:stop])
        residual[start:stop] = line.residual(x[start:stop], y[start:stop])
        lines.append(line)
    later = tuple(
        Piece(float(x[cut - 1] + x[cut]) / 2, line.offset, line.drift * 1e6)
        for cut, line in zip(cuts, lines[1:], strict=True)
    )
    error = float(np.sqrt(np.mean(residual[used] ** 2)))
    clock = Clock(lines[0].offset, lines[0].drift * 1e6, error, int(used.sum()), later)
    return ClockFit(clock, x, y, residual, used)


def _steps(x: ndarray, y: ndarray, start: int, stop: int) -> list[int]:
    """First pulse of each line after the first, the plainest step found first."""
    apart = np.maximum(np.diff(x), np.diff(y))
    wide = np.flatnonzero(apart > WIDE * np.median(apart)) + 1
    wide = wide[(wide >= start + FEW) & (wide <= stop - FEW)]
    ends = [start, *wide.tolist(), stop]
    heights = [_height(x, y, cut, ends) for cut in ends[1:-1]]
    if not heights or max(heights) < 1.0:
        return []
    cut = _true_cut(x, y, ends[1 + int(np.argmax(heights))], ends)
    return [*_steps(x, y, start, cut), cut, *_steps(x, y, cut, stop)]


def _height(x: ndarray, y: ndarray, cut: int, ends: list[int]) -> float:
    """How far the lines before and after part at the cut, by what scatter could part them."""
    middle = np.array([(x[cut - 1] + x[cut]) / 2])
    sides, doubt = [], RESOLUTION
    for part in _sides(cut, ends):
        line, used = fit_line_robustly(x[part], y[part])
        sides.append(line(middle)[0])
        doubt += _doubt(line, x[part][used], y[part][used], middle[0])
    return float(abs(sides[1] - sides[0])) / (OUTLIER * doubt)


def _sides(cut: int, ends: list[int]) -> tuple[slice, slice]:
    """Pulses before and after a cut, to the next gap: a step there would hide the one here."""
    before = max(e for e in ends if e <= cut - FEW)
    after = min(e for e in ends if e >= cut + FEW)
    return slice(max(before, cut - NEAR), cut), slice(cut, min(after, cut + NEAR))


def _true_cut(x: ndarray, y: ndarray, cut: int, ends: list[int]) -> int:
    """Of the gaps around a step the one that leaves each pulse on its own side's line."""
    before, after = (fit_line_robustly(x[part], y[part])[0] for part in _sides(cut, ends))
    near = slice(max(ends[0], cut - NEAR), min(ends[-1], cut + NEAR))
    errors = [np.abs(line.residual(x[near], y[near])) for line in (before, after)]
    cost = np.append(0, np.cumsum(errors[0] - errors[1]))
    inside = [end for end in ends[1:-1] if near.start <= end <= near.stop]
    return min(inside, key=lambda end: cost[end - near.start])


def _doubt(line: Line, x: ndarray, y: ndarray, at: float) -> float:
    """Scatter about a line, and the standard error of the line at some time (s)."""
    scatter = float(np.sqrt((line.residual(x, y) ** 2).sum() / (len(x) - 2)))
    lever = 1 / len(x) + (at - line.at) ** 2 / ((x - line.at) ** 2).sum()
    return scatter * (1 + float(np.sqrt(lever)))


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
