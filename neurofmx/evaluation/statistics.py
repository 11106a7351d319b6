"""Intervals that respect autocorrelation: blocks of time are drawn again, not samples.

Samples 20 ms apart are near copies of each other, so drawing them one by one makes an interval
far too narrow. Contiguous blocks longer than the correlation are nearly exchangeable (Künsch
1989, doi:10.1214/aos/1176347265). Recordings of one animal are alike, too, so figures over many
recordings draw animals, then recordings of each, then blocks of each (Saravanan et al. 2020,
arXiv:2007.07797).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from neurofmx.evaluation.metrics import BlockScore

MIN_BLOCKS = 5  # fewer cannot show a spread
MIN_RECORDINGS = 2


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval; the bounds are NaN where there is too little for one."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Recorded:
    """A recording's figure as a function of how often each of its blocks is drawn.

    Attributes:
        animal: Recordings of one animal are drawn together.
        n_blocks: How many blocks it has.
        score: Counts [draw block] → a figure of each draw; NaN where it is undefined.
    """

    animal: str
    n_blocks: int
    score: Callable[[Float[ndarray, "draw block"]], Float[ndarray, " draw"]]


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


def numbered(blocks: Int[ndarray, " query"]) -> Int[ndarray, " query"]:
    """Blocks numbered anew from 0, those without a query left out."""
    return np.unique(blocks, return_inverse=True)[1]


def block_bootstrap(score: BlockScore, draws: int, rng: np.random.Generator) -> dict[str, Interval]:
    """Value and 95 % percentile interval of each figure, by "[0]", "[1]", …; of their mean by "".

    There is no interval of fewer than `MIN_BLOCKS` blocks, nor where a draw leaves the figure
    undefined.

    Args:
        score: Whole blocks are drawn with replacement.
        draws: How often.
        rng: Draws the blocks.
    """
    values, drawn = score.whole(), score(_blocks(score.n, draws, rng))
    intervals = {"": _interval(values.mean(), drawn.mean(axis=-1), score.n >= MIN_BLOCKS)}
    if len(values) > 1:
        each = enumerate(values)
        intervals |= {f"[{k}]": _interval(v, drawn[:, k], score.n >= MIN_BLOCKS) for k, v in each}
    return intervals


def hierarchical_bootstrap(
    recordings: Sequence[Recorded], draws: int, rng: np.random.Generator
) -> Interval:
    """Unweighted mean over recordings with its 95 % percentile interval.

    As many animals are drawn with replacement as there are, of each as many recordings as it has,
    of each of these as many blocks as it has; a recording that is drawn twice draws its blocks
    twice. With one animal the interval says nothing of others. A recording whose figure is
    undefined is left out of the mean, in a draw of that draw; fewer than `MIN_RECORDINGS` that are
    left have no value.
    """
    total, known = np.zeros(draws), np.zeros(draws)
    times = _recordings([r.animal for r in recordings], draws, rng)
    values = np.array([float(r.score(np.ones((1, r.n_blocks)))[0]) for r in recordings])
    for recording, drawn in zip(recordings, times.T, strict=True):
        found = recording.score(_blocks(recording.n_blocks, int(drawn.sum()), rng))
        draw, defined = np.repeat(np.arange(draws), drawn), np.isfinite(found)
        total += np.bincount(draw[defined], found[defined], minlength=draws)
        known += np.bincount(draw[defined], minlength=draws)
    values = values[np.isfinite(values)]
    if len(values) < MIN_RECORDINGS:
        return Interval(np.nan, np.nan, np.nan)
    means = np.divide(total, known, out=np.full(draws, np.nan), where=known > 0)
    return _interval(values.mean(), means, True)


def _blocks(n: int, draws: int, rng: np.random.Generator) -> Float[ndarray, "draw block"]:
    return rng.multinomial(n, np.full(n, 1.0 / n), size=draws).astype(float)


def _recordings(
    animals: Sequence[str], draws: int, rng: np.random.Generator
) -> Int[ndarray, "draw recording"]:
    """How often each draw holds each recording."""
    names, of = np.unique(animals, return_inverse=True)
    times = np.zeros((draws, len(of)), int)
    drawn = _blocks(len(names), draws, rng).astype(int)
    for animal in range(len(names)):
        own = np.flatnonzero(of == animal)
        times[:, own] = rng.multinomial(
            drawn[:, animal] * len(own), np.full(len(own), 1 / len(own))
        )
    return times


def _interval(value: float, drawn: Float[ndarray, " draw"], enough: bool) -> Interval:
    if not enough or not np.isfinite(drawn).all():
        return Interval(float(value), np.nan, np.nan)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(value), float(low), float(high))
