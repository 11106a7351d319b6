"""Figures of sorted units, by the definitions of SpikeInterface's quality metrics.

    isi_violations    rate of spikes less than 1.5 ms apart over the unit's own rate (Hill, Mehta &
                      Kleinfeld 2011, J Neurosci): N_v T / (2 N² t_r)
    contamination     share of spikes of other neurons that explains the pairs less than 1.5 ms
                      apart (Llobet, Wyngaard & Barbour 2022): 1 - √(1 - N_v T / (N² t_r))
    presence          share of whole minutes in which the unit has a spike
    amplitude_cutoff  spikes too small to be detected per spike that was, were the histogram of
                      amplitudes as long on that side as on the other (Hill et al.)

N spikes in T seconds, N_v of them in violation, t_r the refractory period. What a file's own unit
table says about its units stands beside them, under `file_…`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray
from scipy.ndimage import gaussian_filter1d

from neurofmx.types import Events

REFRACTORY = 1.5e-3  # s
PRESENCE_BIN = 60.0  # s
AMPLITUDE_BINS, SMOOTHING, SPIKES_PER_BIN = 500, 3, 5

# Column of ours → column of a file's unit table, in the words of Allen's and IBL's files.
FROM_FILE = {
    "amplitude_cutoff": "amplitude_cutoff",
    "file_isi_violations": "isi_violations",
    "file_presence": "presence_ratio",
    "ibl_score": "ibl_quality_score",
}


def isi_violations(times: Float[ndarray, " spike"], duration: float) -> float:
    """Rate of intervals below 1.5 ms over the unit's rate; above 0.5 it is hardly one neuron.

    Args:
        times: Sorted (s).
        duration: Of the recording (s).
    """
    if len(times) == 0:
        return np.nan
    violations = int((np.diff(times) < REFRACTORY).sum())
    return float(violations * duration / (2 * len(times) ** 2 * REFRACTORY))


def contamination(times: Float[ndarray, " spike"], duration: float) -> float:
    """Share of spikes that are of other neurons; 1 where there are more violations than that.

    Args:
        times: Sorted (s).
        duration: Of the recording (s).
    """
    if len(times) == 0:
        return np.nan
    within = np.searchsorted(times, times + REFRACTORY) - np.arange(len(times)) - 1
    left = 1 - int(within.sum()) * duration / (len(times) ** 2 * REFRACTORY)
    return float(1 - np.sqrt(left)) if left >= 0 else 1.0


def presence(times: Float[ndarray, " spike"], start: float, stop: float) -> float:
    """Share of whole minutes from `start` to `stop` (s) with a spike; NaN where there is none."""
    bins = int((stop - start) // PRESENCE_BIN)
    place = (times - start) // PRESENCE_BIN
    seen = np.unique(place[(place >= 0) & (place < bins)])
    return len(seen) / bins if bins else np.nan


def amplitude_cutoff(amplitudes: Float[ndarray, " spike"]) -> float:
    """Spikes below the detection threshold per spike above it; NaN for fewer than 2500 spikes.

    Args:
        amplitudes: Of each spike, positive where larger is further from the threshold.
    """
    if len(amplitudes) < AMPLITUDE_BINS * SPIKES_PER_BIN:
        return np.nan
    heights, edges = np.histogram(amplitudes, AMPLITUDE_BINS, density=True)
    heights = gaussian_filter1d(heights, SMOOTHING)
    peak = int(np.argmax(heights))
    mirror = peak + int(np.argmin(np.abs(heights[peak:] - heights[0])))
    return float(min(0.5, heights[mirror:].sum() * (edges[1] - edges[0])))


def unit_rows(
    spikes: Events, span: tuple[float, float], allowed: tuple[float, float]
) -> Iterator[dict[str, Any]]:
    """One row per unit; a unit that shares its id with another has both rows.

    Args:
        span: First and last instant at which units could have been seen (s).
        allowed: Spikes outside are of another clock or unit of time (s).
    """
    start, stop = span
    duration = max(stop - start, np.finfo(float).tiny)
    table = spikes.units
    ids = table["id"] if "id" in table else pd.Series(range(len(table)))
    theirs = {ours: _numbers(table, column) for ours, column in FROM_FILE.items()}
    by_unit = np.argsort(spikes.index, kind="stable")
    firsts = np.searchsorted(spikes.index[by_unit], np.arange(len(table) + 1))
    for unit, unit_id in enumerate(ids):
        times = spikes.times[by_unit[firsts[unit] : firsts[unit + 1]]]
        yield {
            "unit": str(unit_id),
            "n_spikes": len(times),
            "rate": len(times) / duration if len(times) else 0.0,
            "isi_violations": isi_violations(times, duration),
            "contamination": contamination(times, duration),
            "presence": presence(times, start, stop),
            "n_outside": int(((times < allowed[0]) | (times >= allowed[1])).sum()),
        } | {ours: values[unit] for ours, values in theirs.items()}


def _numbers(table: pd.DataFrame, column: str) -> Float[ndarray, " unit"]:
    """A column of the file's table, NaN where there is none."""
    values = table[column] if column in table else pd.Series(np.nan, range(len(table)))
    return pd.to_numeric(values, errors="coerce").to_numpy(np.float64)
