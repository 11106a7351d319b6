"""What a task asks in a window."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from neurofmx.data.inputs import rate_of
from neurofmx.data.tasks import CircularTask, LabelTask, RegressionTask, SampledTask
from neurofmx.errors import DataError
from neurofmx.types import Intervals, Samples

TOLERANCE = 1e-6  # s; times from files carry rounding
SPEED_SPAN = 0.5  # s; a shorter one takes jitter of the tracker for motion


@dataclass(frozen=True)
class Window:
    """A stretch [start, stop) of a recording; [score_from, score_to) of it is asked about (s)."""

    split: str
    start: float
    stop: float
    score_from: float
    score_to: float = np.inf


@dataclass(frozen=True)
class WindowTarget:
    """What a task asks in a window: values, angles (rad) or a class index at each time (s)."""

    times: Float[ndarray, " query"]
    values: Float[ndarray, "query dim"]
    mask: Bool[ndarray, " query"]


def sampled_target(signal: Samples, spec: SampledTask, window: Window) -> WindowTarget:
    """The signal at each of its samples in the window; angles in radians, in [−π, π].

    It is asked where it was recorded, beyond what is only seen, and only in motion if the task says
    so.

    Raises:
        DataError: Angles are in an unknown unit.
    """
    lo = max(0, int(np.ceil((window.start - signal.t0) * rate_of(signal) - TOLERANCE)))
    hi = min(len(signal), int(np.ceil((window.stop - signal.t0) * rate_of(signal) - TOLERANCE)))
    hi = max(lo, hi)
    columns = spec.columns or list(range(signal.values.shape[1]))
    values = np.asarray(signal.values[lo:hi], np.float64)[:, columns]
    times = signal.t0 + np.arange(lo, hi) / rate_of(signal)
    mask = np.isfinite(values).all(axis=1) & (times >= window.score_from - TOLERANCE)
    mask &= times < window.score_to - TOLERANCE
    if signal.mask is not None:
        mask &= signal.mask[lo:hi]
    if isinstance(spec, RegressionTask) and spec.while_moving is not None:
        mask &= _speed(signal, columns, lo, hi) > spec.while_moving
    if isinstance(spec, CircularTask):
        values = wrapped(values * _radians(signal, spec))
    return WindowTarget(times - window.start, np.nan_to_num(values).astype(np.float32), mask)


def wrapped(angles: Float[ndarray, "*any"]) -> Float[ndarray, "*any"]:
    """The same directions in [−π, π] (rad)."""
    return np.arctan2(np.sin(angles), np.cos(angles))


def _radians(signal: Samples, spec: CircularTask) -> float:
    """What an angle of the signal has to be multiplied by; ingest has turned known units."""
    unit = "radians" if signal.unit == "rad" else spec.unit
    if unit is None:
        raise DataError(
            f"signal {spec.signal!r} ({signal.source}) is to be decoded as angles, and its unit is "
            f"{signal.unit!r}; write `unit: degrees` or `unit: radians` in the card's task"
        )
    return np.pi / 180 if unit == "degrees" else 1.0


def _speed(signal: Samples, columns: list[int], lo: int, hi: int) -> Float[ndarray, " time"]:
    """Speed of samples lo…hi over the `SPEED_SPAN` around each, 0 where that is not all recorded.

    It reads beyond the window, so that an instant's speed is the same in every window.
    """
    half = max(1, round(SPEED_SPAN * rate_of(signal) / 2))
    before, after = np.arange(lo, hi) - half, np.arange(lo, hi) + half
    inside = (before >= 0) & (after < len(signal))
    first, last = max(0, lo - half), min(len(signal), hi + half)
    values = np.asarray(signal.values[first:last], np.float64)[:, columns]
    step = values[after[inside] - first] - values[before[inside] - first]
    speed = np.zeros(hi - lo)
    speed[inside] = np.linalg.norm(step, axis=1) * rate_of(signal) / (2 * half)
    if signal.mask is not None:
        seen = signal.mask[before.clip(0)] & signal.mask[after.clip(max=len(signal) - 1)]
        speed[~seen] = 0.0
    return speed


def class_target(
    table: Intervals, spec: LabelTask, known: list[str], window: Window
) -> WindowTarget:
    """One query at the end of each labelled interval that fills at least half of the window."""
    overlap = np.minimum(table.stop, window.stop) - np.maximum(table.start, window.start)
    shorter = np.minimum(table.stop - table.start, window.stop - window.start)
    rows = np.flatnonzero(overlap >= 0.5 * shorter - TOLERANCE)
    labels = spec.labels(table.columns.iloc[rows])
    index = [known.index(label) if label in known else -1 for label in labels]
    times = np.minimum(table.stop[rows], window.stop) - window.start
    values = np.maximum(np.array(index, np.float32), 0.0)[:, None]
    return WindowTarget(times, values.reshape(-1, 1), np.array(index, int) >= 0)
