"""Poisson regression of many units on one set of features: a rate each, in spikes per bin.

    y ~ Poisson(r),  ln r = w · x + b,  least Σ (r − y ln r) / n + α |w|² / 2

Features are standardised by the fitted trials. Penalty, and features where there are several kinds,
are those that leave the least of the last fifth of the fitted trials unexplained; then all fitted
trials are used. A rate is held below the highest count that the unit was seen to have.

Source: Poisson GLM, McCullagh & Nelder 1989, and `PoissonRegressor` of scikit-learn; as the readout
of held-out neurons, Pei et al. 2021, arXiv:2109.04463, section 3.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.special import xlogy
from sklearn.linear_model import PoissonRegressor

ALPHAS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # the last leaves little but the mean rate
LEAST = 1e-9  # spikes per bin
SHOWN = 0.8  # of the trials that are fitted while penalties are compared

Features = Float[ndarray, "trial time width"]
Counts = Float[ndarray, "trial time unit"]


@dataclass(frozen=True)
class Readout:
    """Fitted rates of units.

    Attributes:
        kind: Of features that it reads.
        alpha: Penalty.
    """

    kind: str
    alpha: float
    mean: Float[ndarray, " width"]
    scale: Float[ndarray, " width"]
    weight: Float[ndarray, "width unit"]
    bias: Float[ndarray, " unit"]
    most: Float[ndarray, " unit"]

    def __call__(self, features: Mapping[str, Features]) -> Counts:
        """Spikes per bin, from features of any trials."""
        x = (features[self.kind] - self.mean) / self.scale
        with np.errstate(over="ignore"):
            rates = np.exp(x @ self.weight + self.bias)
        return np.clip(rates, LEAST, self.most)


def fit(features: Mapping[str, Features], counts: Counts) -> Readout:
    """The readout of some trials, in the order that they were recorded in.

    Args:
        features: By kind, such as the width of a filter.
        counts: Of the same trials; NaN where none were counted.
    """
    shown = max(1, int(SHOWN * len(counts)))
    tried = {}
    for kind, x in features.items():
        for alpha in ALPHAS:
            readout = _fitted(kind, x[:shown], counts[:shown], alpha)
            told = readout({kind: x[shown:]})
            tried[kind, alpha] = _loss(told, counts[shown:])
    kind, alpha = min(tried, key=tried.__getitem__)
    return _fitted(kind, features[kind], counts, alpha)


def _fitted(kind: str, features: Features, counts: Counts, alpha: float) -> Readout:
    x, y = features.reshape(-1, features.shape[-1]), counts.reshape(-1, counts.shape[-1])
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    z = (x - mean) / scale
    weight, bias = np.zeros((x.shape[1], y.shape[1])), np.full(y.shape[1], np.log(LEAST))
    for unit in range(y.shape[1]):
        known = ~np.isnan(y[:, unit])
        if y[known, unit].any():  # of a silent unit there is no maximum
            model = PoissonRegressor(alpha=alpha, solver="newton-cholesky", max_iter=200)
            model.fit(z[known], y[known, unit])
            weight[:, unit], bias[unit] = model.coef_, model.intercept_
    most = np.maximum(np.nanmax(y, axis=0, initial=0.0), LEAST)
    return Readout(kind, alpha, mean, scale, weight, bias, most)


def _loss(rates: Counts, counts: Counts) -> float:
    """Negative Poisson log-likelihood, up to what does not depend on the rates."""
    return float(np.nansum(rates - xlogy(counts, rates)))
