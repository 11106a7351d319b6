"""Scores as sums over queries, so that resampling whole blocks is a matrix product.

A metric is a statistic of each query, whose sum over any set of queries is enough to score it:

    R² = 1 − Σ(y − ŷ)² / (Σy² − (Σy)² / n)      each dimension by itself, about the mean of the set
    accuracy = Σ hit / n;   balanced accuracy = mean over classes of Σ hit in class / n of class
    circular error = Σ |y − ŷ| / n      the shorter way round the circle, in degrees

R² is never clipped: below 0 the prediction is worse than the mean of the scored set.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from neurofmx.types import TaskKind


@dataclass(frozen=True)
class Metric:
    """A score.

    Attributes:
        kinds: Of the tasks that it scores.
        variant: What exactly is computed, for tables.
        perfect: Its value where every answer is right.
        statistics: (truth, prediction) → query × figure × statistic.
        value: Sums of the statistics → figures; NaN where they are undefined.
    """

    kinds: tuple[TaskKind, ...]
    variant: str
    statistics: Callable[..., Float[ndarray, "query figure statistic"]]
    value: Callable[..., Float[ndarray, "*draw figure"]]
    perfect: float = 1.0


def r2_statistics(
    truth: Float[ndarray, "query dim"], prediction: Float[ndarray, "query dim"]
) -> Float[ndarray, "query dim 4"]:
    """1, y, y² and (y − ŷ)² of each query, in deviations about the mean: R² stays the same."""
    spread = truth.std(axis=0)
    unit = np.where(spread > 1e-9 * np.abs(truth).max(axis=0), spread, np.inf)
    y, error = (truth - truth.mean(axis=0)) / unit, (truth - prediction) / unit
    return np.stack([np.ones_like(y), y, y**2, error**2], axis=-1)


def r2_value(sums: Float[ndarray, "*draw dim 4"]) -> Float[ndarray, "*draw dim"]:
    """1 − SS_residual / SS_total about the mean of the set, not clipped."""
    n, y, squares, error = np.moveaxis(sums, -1, 0)
    return 1.0 - _ratio(error, squares - _ratio(y**2, n))


def accuracy_statistics(
    truth: Float[ndarray, "query 1"], prediction: Float[ndarray, "query class"]
) -> Float[ndarray, "query 1 2"]:
    """1, and whether the most probable class is the true one."""
    hit = prediction.argmax(axis=1) == truth[:, 0]
    return np.stack([np.ones(len(hit)), hit.astype(float)], axis=-1)[:, None]


def accuracy_value(sums: Float[ndarray, "*draw 1 2"]) -> Float[ndarray, "*draw 1"]:
    """Share of the queries whose most probable class is the true one."""
    return _ratio(sums[..., 1], sums[..., 0])


def balanced_statistics(
    truth: Float[ndarray, "query 1"], prediction: Float[ndarray, "query class"]
) -> Float[ndarray, "query 1 statistic"]:
    """Per class: whether it is the true one, and whether it was also found."""
    of_class = truth == np.arange(prediction.shape[1])
    hit = of_class & (prediction.argmax(axis=1, keepdims=True) == truth)
    return np.concatenate([of_class, hit], axis=1).astype(float)[:, None]


def balanced_value(sums: Float[ndarray, "*draw 1 statistic"]) -> Float[ndarray, "*draw 1"]:
    """Mean accuracy over the classes that occur."""
    count, hits = np.split(sums, 2, axis=-1)
    rates = _ratio(hits, count)
    present = np.isfinite(rates)
    return _ratio(np.where(present, rates, 0.0).sum(-1), present.sum(-1).astype(float))


def circular_statistics(
    truth: Float[ndarray, "query dim"], prediction: Float[ndarray, "query dim"]
) -> Float[ndarray, "query dim 2"]:
    """1, and the distance of two angles (rad), the shorter way round, in degrees."""
    error = np.abs((prediction - truth + np.pi) % (2 * np.pi) - np.pi)
    return np.stack([np.ones_like(error), np.rad2deg(error)], axis=-1)


def circular_value(sums: Float[ndarray, "*draw dim 2"]) -> Float[ndarray, "*draw dim"]:
    """Mean distance of each angle (degrees)."""
    return _ratio(sums[..., 1], sums[..., 0])


def _ratio(a: Float[ndarray, "*any"], b: Float[ndarray, "*any"]) -> Float[ndarray, "*any"]:
    """a / b, NaN where b is 0."""
    return np.divide(a, b, out=np.full(np.shape(a), np.nan), where=b > 1e-9)


METRICS: dict[str, Metric] = {
    "r2": Metric(
        ("regression",),
        "R² = 1 − SS_residual / SS_total about the test mean, each dimension by itself (the mean "
        "over dimensions is unweighted), not clipped",
        r2_statistics,
        r2_value,
    ),
    "accuracy": Metric(
        ("classification", "ordinal"),
        "share of test queries whose most probable class is the true one",
        accuracy_statistics,
        accuracy_value,
    ),
    "balanced_accuracy": Metric(
        ("classification", "ordinal"),
        "accuracy within each class, averaged over the classes that occur",
        balanced_statistics,
        balanced_value,
    ),
    "circular_error": Metric(
        ("circular",),
        "mean distance of the decoded from the true angle, the shorter way round, in degrees, each "
        "angle by itself: 0 is perfect, 90 is chance, less is better",
        circular_statistics,
        circular_value,
        perfect=0.0,
    ),
}
