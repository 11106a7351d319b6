"""Ridge and logistic regression tuned on the valid split, then fitted on train and valid.

Ridge solves (AᵀA + αI) w = Aᵀy. With AᵀA + αI = LLᵀ, the factor of the first d columns is the
first d rows and columns of L, and so is the forward substitution L⁻¹Aᵀy. Columns come lag by lag,
so one factorisation for each α gives every number of lags.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.linalg import cholesky, solve_triangular
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from neurofmx.evaluation.metrics import METRICS


@dataclass(frozen=True)
class Ridge:
    """A fitted line: y = intercept + (a − mean) · weight, a the first columns of a row."""

    mean: Float[ndarray, " column"]
    intercept: Float[ndarray, " dim"]
    weight: Float[ndarray, "column dim"]

    def __call__(self, a: Float[ndarray, "row more"]) -> Float[ndarray, "row dim"]:
        """Values for rows that may have further columns."""
        columns = len(self.mean)
        return self.intercept + (a[:, :columns] - self.mean) @ self.weight


def ridge_paths(
    a: Float[ndarray, "row column"],
    y: Float[ndarray, "row dim"],
    alphas: Sequence[float],
    columns: Sequence[int],
) -> dict[tuple[float, int], Ridge]:
    """Ridge with each penalty, on the first `columns` of `a`, by (penalty, number of columns)."""
    mean, intercept = a.mean(axis=0, dtype=np.float64), y.mean(axis=0)
    a = a - mean.astype(a.dtype)
    gram = (a.T @ a).astype(np.float64)
    product = (a.T @ (y - intercept).astype(a.dtype)).astype(np.float64)
    lines = {}
    for alpha in alphas:
        factor = cholesky(gram + alpha * np.eye(len(gram)), lower=True, check_finite=False)
        forward = solve_triangular(factor, product, lower=True)
        for d in columns:
            weight = solve_triangular(factor[:d, :d], forward[:d], lower=True, trans="T")
            lines[alpha, d] = Ridge(mean[:d], intercept, weight)
    return lines


def joined(parts: dict[str, ndarray]) -> ndarray:
    """Rows of train and valid, for the fit after the settings are chosen."""
    return np.concatenate([parts["train"], parts["valid"]])


def mean_r2(truth: Float[ndarray, "row dim"], prediction: Float[ndarray, "row dim"]) -> float:
    """R² averaged over the dimensions that vary, by which settings are chosen."""
    figures = METRICS["r2"].by_block(truth, prediction, np.zeros(len(truth), int)).whole()
    return float(figures[np.isfinite(figures)].mean()) if np.isfinite(figures).any() else -np.inf


def logistic(
    x: dict[str, Float[ndarray, "_query feature"]],
    y: dict[str, Float[ndarray, " _query"]],
    n_classes: int,
    strengths: Sequence[float],
) -> tuple[Float[ndarray, "query class"], dict[str, float]]:
    """Probabilities on the test split, and the inverse penalty that did best on valid.

    Args:
        x, y: Features and class indices of the splits train, valid and test.
        n_classes: Known classes; one that train lacks gets probability 0.
        strengths: Inverse penalties C to choose from, by log loss on valid.
    """
    loss = {}
    for c in strengths:
        p = probabilities(fit_logistic(x["train"], y["train"], c), x["valid"], n_classes)
        # Bounded, so that one class that train lacks does not decide alone.
        p = p.clip(1e-6, 1.0) / p.clip(1e-6, 1.0).sum(axis=1, keepdims=True)
        loss[c] = log_loss(y["valid"], p, labels=np.arange(n_classes))
    best = min(loss, key=loss.__getitem__)
    final = fit_logistic(joined(x), joined(y), best)
    return probabilities(final, x["test"], n_classes), {"C": best}


def fit_logistic(
    x: Float[ndarray, "query feature"], y: Float[ndarray, " query"], c: float
) -> Pipeline:
    """Logistic regression on standardised features, C its inverse penalty."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a nearly free fit; valid judges it
        return model.fit(x, y.astype(int))


def probabilities(
    model: Pipeline, x: Float[ndarray, "query feature"], n_classes: int
) -> Float[ndarray, "query class"]:
    """Probability of each known class; 0 of one that the model was not shown."""
    p = np.zeros((len(x), n_classes))
    p[:, model.classes_] = model.predict_proba(x)
    return p
