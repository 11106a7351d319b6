"""Scores of decoded numbers and angles, y the truth and ŷ the answer.

    R² = 1 − Σ(y − ŷ)² / (Σy² − (Σy)² / n)      about the mean of the scored set
    r = (Σyŷ − Σy Σŷ / n) / √((Σy² − (Σy)² / n) (Σŷ² − (Σŷ)² / n))      Pearson 1895
    MSE = Σ(y − ŷ)² / n
    circular error = Σ |y − ŷ| / n      the shorter way round the circle, in degrees

R² is never clipped: below 0 the prediction is worse than the mean of the scored set. Its variants
differ widely, so each has its own name: over dimensions with equal weights (`r2`) or with those of
their variances (`r2_weighted`, the one of FALCON, Karpowicz et al. 2024, and of scikit-learn's
`variance_weighted`).
"""

import numpy as np
from jaxtyping import Float, Int, Real
from numpy import ndarray

from neurofmx.evaluation.metrics.base import BlockScore, ratio, summed

Numbers = Float[ndarray, "query dim"]
Blocks = Int[ndarray, " query"]


def r2(truth: Numbers, prediction: Numbers, blocks: Blocks) -> BlockScore:
    """R² of each dimension, undefined where the truth never changes."""
    return summed(_squares(truth, prediction), blocks, _r2)


def r2_weighted(truth: Numbers, prediction: Numbers, blocks: Blocks) -> BlockScore:
    """R² over all dimensions; those in which the truth never changes are left out."""
    variance = truth.var(axis=0)
    weight = variance / max(variance.max(), np.finfo(float).tiny)

    def value(sums: Float[ndarray, "*draw dim 4"]) -> Float[ndarray, "*draw 1"]:
        each, total = _r2(sums), _total(sums) * weight
        known = np.isfinite(each)
        explained = np.where(known, each * total, 0.0).sum(-1, keepdims=True)
        return ratio(explained, np.where(known, total, 0.0).sum(-1, keepdims=True))

    return summed(_squares(truth, prediction), blocks, value)


def pearson(truth: Numbers, prediction: Numbers, blocks: Blocks) -> BlockScore:
    """Pearson's r of each dimension, undefined where truth or answer never changes."""
    y, p = _standardised(truth, truth), _standardised(prediction, prediction)
    return summed(np.stack([np.ones_like(y), y, p, y * y, p * p, y * p], -1), blocks, _pearson)


def mse(truth: Numbers, prediction: Numbers, blocks: Blocks) -> BlockScore:
    """Mean squared error of each dimension."""
    return summed(_with_ones((truth - prediction) ** 2), blocks, _mean)


def circular_error(truth: Numbers, prediction: Numbers, blocks: Blocks) -> BlockScore:
    """Mean distance of each angle (degrees) from angles in radians."""
    return summed(_with_ones(_distance(truth, prediction)), blocks, _mean)


def circular_median(truth: Numbers, prediction: Numbers, blocks: Blocks) -> BlockScore:
    """Median distance of each angle (degrees) from angles in radians."""
    error = _distance(truth, prediction)
    order = np.argsort(error, axis=0)
    place, ordered = blocks[order], np.take_along_axis(error, order, axis=0)

    def figures(counts: Real[ndarray, "*draw block"]) -> Float[ndarray, "*draw dim"]:
        medians = np.zeros((*counts.shape[:-1], error.shape[1]))
        for *draw, k in np.ndindex(medians.shape):
            medians[*draw, k] = _median(ordered[:, k], counts[tuple(draw)][place[:, k]])
        return medians

    return BlockScore(int(blocks.max()) + 1, figures)


def _squares(truth: Numbers, prediction: Numbers) -> Float[ndarray, "query dim 4"]:
    """1, y, y² and (y − ŷ)² of each query, in deviations about the mean: R² stays the same."""
    y = _standardised(truth, truth)
    error = y - _standardised(prediction, truth)
    return np.stack([np.ones_like(y), y, y**2, error**2], axis=-1)


def _standardised(values: Numbers, by: Numbers) -> Numbers:
    """`values` in deviations of `by` about its mean; 0 where that never changes."""
    spread = by.std(axis=0)
    unit = np.where(spread > 1e-9 * np.abs(by).max(axis=0), spread, np.inf)
    return (values - by.mean(axis=0)) / unit


def _total(sums: Float[ndarray, "*draw dim 4"]) -> Float[ndarray, "*draw dim"]:
    n, y, squares, _ = np.moveaxis(sums, -1, 0)
    return squares - ratio(y**2, n)


def _r2(sums: Float[ndarray, "*draw dim 4"]) -> Float[ndarray, "*draw dim"]:
    return 1.0 - ratio(sums[..., 3], _total(sums))


def _pearson(sums: Float[ndarray, "*draw dim 6"]) -> Float[ndarray, "*draw dim"]:
    n, y, p, yy, pp, yp = np.moveaxis(sums, -1, 0)
    spread = (yy - ratio(y**2, n)).clip(0) * (pp - ratio(p**2, n)).clip(0)
    return ratio(yp - ratio(y * p, n), np.sqrt(spread))


def _with_ones(values: Numbers) -> Float[ndarray, "query dim 2"]:
    return np.stack([np.ones_like(values), values], axis=-1)


def _mean(sums: Float[ndarray, "*draw dim 2"]) -> Float[ndarray, "*draw dim"]:
    return ratio(sums[..., 1], sums[..., 0])


def _distance(truth: Numbers, prediction: Numbers) -> Numbers:
    """Distance of two angles (rad), the shorter way round, in degrees."""
    return np.rad2deg(np.abs((prediction - truth + np.pi) % (2 * np.pi) - np.pi))


def _median(ordered: Float[ndarray, " query"], counts: Real[ndarray, " query"]) -> float:
    """Median of values in rising order, each repeated; of an even number the mean of the middle."""
    reached = np.cumsum(counts)
    if reached[-1] == 0:
        return np.nan
    half = reached[-1] / 2
    return float(
        (ordered[np.searchsorted(reached, half)] + ordered[np.searchsorted(reached, half, "right")])
        / 2
    )
