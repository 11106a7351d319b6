"""Frames of a camera that runs at a fixed rate: their numbers, and their times without jitter.

Frame n is exposed at t₀ + n · period, but stamped late or early and sometimes not at all. Jitter
of a fair part of the period hides dropped frames from a look at two stamps. A phase-locked loop
does not look at two: it predicts each stamp from all before it, and corrects its phase and its
period by a part of the error e,

    phase ← phase + k · period + α e        period ← period + β e

where k is the whole number of periods that comes nearest (Gardner 2005, Phaselock Techniques).
Stamps in periods since the loop's start are then the true numbers plus jitter; numbers increase,
so those that fit best are the isotonic regression of stamps minus order, rounded. A line per
stretch without a gap gives the times.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.optimize import isotonic_regression

from neurofmx.signal.clocks import nominal_rate
from neurofmx.signal.lines import fit_line_robustly

ALPHA = 0.05  # of the error goes to the phase: a prediction has a sixth of the stamps' jitter
BETA = ALPHA**2 / 2  # and to the period: the loop settles without ringing
LAGS = 2 ** np.arange(9)  # frames
FEW = 300  # frames; a shorter stretch has the period of the longest


@dataclass(frozen=True)
class Frames:
    """Frames by number.

    Attributes:
        index: Number of each frame, strictly increasing; frames lost in a gap are counted too, to
            the nearest one.
        segment: Stretch without a gap that each frame lies in.
        times: Without jitter, on the device's clock (s).
        rate: On the device's clock (Hz).
        dropped: Frames missing inside segments.
        residual: Root mean square of the stamps about `times` (s).
    """

    index: Int[ndarray, " frame"]
    segment: Int[ndarray, " frame"]
    times: Float[ndarray, " frame"]
    rate: float
    dropped: int
    residual: float


def recover_frames(
    times: Float[ndarray, " frame"], rate: float | None = None, max_gap: float = 1.0
) -> Frames:
    """Number and time of each frame of a camera that runs at a fixed rate.

    Args:
        times: Stamps in order (s), with jitter, drops and gaps.
        rate: Of the camera to a per cent (Hz); None takes it from the stamps.
        max_gap: An interval longer than this begins a segment, in which the camera may have been
            restarted (s).

    Raises:
        ValueError: There are fewer than 2 frames, or every interval would be a gap.
    """
    period = 1.0 / (rate or nominal_rate(times))
    if max_gap < 2 * period:
        raise ValueError(
            f"frames come every {period:.3g} s, so an interval of {max_gap:g} s is no gap; "
            "choose a `max_gap` of several frames"
        )
    breaks = np.diff(times) > max_gap
    segment = np.concatenate([[0], np.cumsum(breaks)])
    parts = np.split(times, np.flatnonzero(breaks) + 1)
    period = _period(times, segment, period)
    numbers = [_numbers(part, period) for part in parts]
    smooth, period = _smooth(numbers, parts, period)
    # Frames from the last of a segment to the first of the next, at least one.
    lost = np.maximum(1, np.rint(np.diff(smooth)[breaks] / period)).astype(np.int64)
    spans = np.array([number[-1] for number in numbers])
    first = np.concatenate([[0], np.cumsum(spans[:-1] + lost)])
    residual = float(np.sqrt(np.mean((times - smooth) ** 2)))
    index = np.concatenate(numbers) + first[segment]
    dropped = int((spans + 1).sum()) - len(times)
    return Frames(index, segment, smooth, 1 / period, dropped, residual)


def _period(
    times: Float[ndarray, " frame"], segment: Int[ndarray, " frame"], period: float
) -> float:
    """Seconds between frames, from frames ever further apart: each step halves the error."""
    for lag in LAGS[: len(times).bit_length()]:
        step = (times[lag:] - times[:-lag])[segment[lag:] == segment[:-lag]]
        n = np.rint(step / period)
        if n.any():
            period = float(step @ n / (n @ n))
    return period


def _numbers(times: Float[ndarray, " frame"], period: float) -> Int[ndarray, " frame"]:
    """Number of each frame of a stretch without a gap, from 0."""
    order = np.arange(len(times))
    ahead = isotonic_regression(_place(times - times[0], period) - order).x
    numbers = order + np.rint(ahead).astype(np.int64)
    return numbers - numbers[0]


def _place(times: Float[ndarray, " frame"], period: float) -> Float[ndarray, " frame"]:
    """Stamps in periods of the loop that follows them."""
    place, count, phase = np.empty(len(times)), 0, 0.0
    for k, stamp in enumerate(times.tolist()):
        ahead = round((stamp - phase) / period)
        error = stamp - phase - ahead * period
        count += ahead
        place[k] = count + error / period
        phase += ahead * period + max(ALPHA, 1 / (k + 1)) * error
        period += BETA * error
    return place


def _smooth(
    numbers: list[ndarray], parts: list[ndarray], period: float
) -> tuple[Float[ndarray, " frame"], float]:
    """Times on a line per stretch, and the period of the longest, which short ones share (s)."""
    ideal = [number * period for number in numbers]
    lines = [fit_line_robustly(*pair)[0] for pair in zip(ideal, parts, strict=True)]
    drift = lines[int(np.argmax([len(part) for part in parts]))].drift
    lines = [
        line if len(part) >= FEW else line._replace(drift=drift)
        for line, part in zip(lines, parts, strict=True)
    ]
    times = [line(x) for line, x in zip(lines, ideal, strict=True)]
    return np.concatenate(times), period * (1.0 + drift)
