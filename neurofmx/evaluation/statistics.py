"""Intervals that respect autocorrelation: blocks of time are drawn again, not samples.

Samples 20 ms apart are near copies of each other, so drawing them one by one makes an interval
far too narrow. Contiguous blocks longer than the correlation are nearly exchangeable (Künsch
1989, doi:10.1214/aos/1176347265).
"""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from neurofmx.evaluation.metrics import Metric

MIN_BLOCKS = 5  # fewer cannot show a spread


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
) -> tuple[Float[ndarray, " figure"], Float[ndarray, " figure"], Float[ndarray, " figure"]]:
    """Value and 95 % percentile interval of each figure; with several, their mean comes last.

    Args:
        statistics: As `metric.statistics` gives them.
        blocks: Block of each query; whole blocks are drawn with replacement.
        draws: How often.
        rng: Draws the blocks.

    Returns:
        value, low, high; an interval from fewer than `MIN_BLOCKS` blocks is NaN.
    """
    _, place = np.unique(blocks, return_inverse=True)
    sums = np.zeros((place.max() + 1, *statistics.shape[1:]))
    np.add.at(sums, place, statistics)
    value = _with_mean(metric.value(sums.sum(axis=0)))
    if len(sums) < MIN_BLOCKS:
        return value, np.full_like(value, np.nan), np.full_like(value, np.nan)
    times_drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), draws)
    drawn = _with_mean(metric.value(np.tensordot(times_drawn.astype(float), sums, axes=1)))
    defined = np.isfinite(drawn).all(axis=0)
    low, high = np.full_like(value, np.nan), np.full_like(value, np.nan)
    low[defined], high[defined] = np.percentile(drawn[:, defined], [2.5, 97.5], axis=0)
    return value, low, high


def _with_mean(figures: Float[ndarray, "*draw figure"]) -> Float[ndarray, "*draw more"]:
    if figures.shape[-1] == 1:
        return figures
    return np.concatenate([figures, figures.mean(axis=-1, keepdims=True)], axis=-1)
