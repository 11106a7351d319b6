"""When the samples of a time series in an NWB file were taken, and refusal of times that cannot be.

Times are kept as a rate and a first time wherever they lie on a regular grid.
"""

import re

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from pynwb import TimeSeries

from neurofmx.errors import DataError

EVEN = 1e-6  # timestamps this close to a regular grid, in samples, are regular

Sampling = tuple[float | None, float, Float[ndarray, " time"] | None]


def sampling_of(series: TimeSeries, n: int | None = None) -> Sampling:
    """Rate (Hz), time of the first sample (s), and times where they are irregular.

    Args:
        n: Number of samples, where the file does not hold them itself.

    Raises:
        DataError: The rate is no rate, or the times are too few, unknown or run backwards.
    """
    if series.timestamps is None:
        rate = float(series.rate or 0.0)
        if not (np.isfinite(rate) and rate > 0):
            raise DataError(f"rate is {series.rate} Hz; a rate is positive. Mend it in the file")
        return rate, float(series.starting_time) - _lag(series), None
    times = times_of(series)
    n = len(series.data) if n is None else n
    if len(times) != n:
        raise DataError(f"{n} samples but {len(times)} timestamps; mend the file")
    check_times(times, "timestamps")
    even = even_rate(times)
    return (None, 0.0, times) if even is None else (even, float(times[0]), None)


def times_of(series: TimeSeries, rows: slice = slice(None)) -> Float[ndarray, " time"]:
    """Time of each sample (s), as stored; for binned counts the start of the bin."""
    if series.timestamps is not None:
        times = np.asarray(series.timestamps[rows], dtype=np.float64)
    else:
        times = series.starting_time + np.arange(len(series.data))[rows] / series.rate
    return times - _lag(series)


def bin_width(series: TimeSeries) -> float | None:
    """Width of the bins (s) of binned counts, as their comments state it, or None."""
    found = re.search(r"bin_width_s=([0-9.eE+-]+)", series.comments or "")
    return float(found[1]) if found else None


def even_rate(times: Float[ndarray, " time"]) -> float | None:
    """Rate (Hz) of times that lie on a regular grid, or None where they do not."""
    if len(times) < 3 or not times[-1] > times[0]:
        return None
    step = (times[-1] - times[0]) / (len(times) - 1)
    off = np.abs(times - (times[0] + step * np.arange(len(times)))).max()
    # Times carry the rounding of a double, which at 10⁴ s is a visible part of a short step.
    return float(1.0 / step) if off <= EVEN * step + 4 * np.spacing(abs(times).max()) else None


def check_finite(times: Float[ndarray, " time"], what: str) -> None:
    """Raise a DataError where a time is no number."""
    wrong = np.flatnonzero(~np.isfinite(times))
    if len(wrong):
        raise DataError(f"{what}[{wrong[0]}] is {times[wrong[0]]}; every time must be a number")


def check_times(times: Float[ndarray, " time"], what: str) -> None:
    """Raise a DataError where a time is no number or before the one that precedes it."""
    check_finite(times, what)
    wrong = np.flatnonzero(np.diff(times) < 0)
    if len(wrong):
        k = wrong[0] + 1
        raise DataError(
            f"{what}[{k}] is {times[k]} s, before the {times[k - 1]} s that precede it; "
            "time must not run backwards"
        )


def _lag(series: TimeSeries) -> float:
    """Seconds from the start of a bin to its timestamp."""
    place = re.search(r"timestamps=bin_(center|end)", series.comments or "")
    width = bin_width(series) or 0.0
    return 0.0 if place is None else width if place[1] == "end" else width / 2
