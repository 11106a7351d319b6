"""Intervals that respect autocorrelation: blocks of time are drawn again, not samples.

Samples 20 ms apart are near copies of each other, so drawing them one by one makes an interval
far too narrow. Contiguous blocks longer than the correlation are nearly exchangeable (Künsch
1989, doi:10.1214/aos/1176347265).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from neurofmx.evaluation.metrics import Metric

MIN_BLOCKS = 5  # fewer cannot show a spread


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval; the bounds are NaN where there are too few blocks for one."""

    value: float
    low: float
    high: float


def contiguous_blocks(
    start: Float[ndarray, " window"], stop: Float[ndarray, " window"], seconds: float
) -> Int[ndarray, " window"]:
    """Number of the block of each window.

    A block ends when it has lasted `seconds` and no window reaches beyond it, so that overlapping
    windows of one trial stay together.
    """
    blocks = np.zeros(len(start), int)
    first, last, block = -np.inf, -np.inf, -1
    for row in np.argsort(start, kind="stable"):
        if start[row] >= last - 1e-6 and start[row] >= first + seconds - 1e-6:
            first, block = start[row], block + 1
        last = max(last, stop[row])
        blocks[row] = block
    return blocks


def block_bootstrap(
    metric: Metric,
    statistics: Float[ndarray, "query figure statistic"],
    blocks: Int[ndarray, " query"],
    draws: int,
    rng: np.random.Generator,
) -> dict[str, Interval]:
    """Value and 95 % percentile interval of each figure, by "[0]", "[1]", …; of their mean by "".

    Args:
        statistics: As `metric.statistics` gives them.
        blocks: Block of each query; whole blocks are drawn with replacement.
        draws: How often.
        rng: Draws the blocks.
    """
    _, place = np.unique(blocks, return_inverse=True)
    sums = np.zeros((place.max() + 1, *statistics.shape[1:]))
    np.add.at(sums, place, statistics)
    n = len(sums)
    counts = rng.multinomial(n, np.full(n, 1.0 / n), size=draws).astype(float)
    values = metric.value(sums.sum(axis=0))
    drawn = metric.value(np.tensordot(counts, sums, axes=1))
    intervals = {"": _interval(values.mean(), drawn.mean(axis=-1), n)}
    if len(values) > 1:
        intervals |= {f"[{k}]": _interval(v, drawn[:, k], n) for k, v in enumerate(values)}
    return intervals


def _interval(value: float, drawn: Float[ndarray, " draw"], n_blocks: int) -> Interval:
    if n_blocks < MIN_BLOCKS or not np.isfinite(drawn).all():
        return Interval(float(value), np.nan, np.nan)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(value), float(low), float(high))
