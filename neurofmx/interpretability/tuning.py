"""Tuning curves that hold on data they were not made from.

A behaviour is cut into bins at the quantiles of the train split. A curve is the mean response of a
unit (or of a feature of the model) in each bin. The curve of train predicts the test split:

    R² = 1 − Σ (r_t − curve[bin_t])² / Σ (r_t − r̄)²        over the instants t of test

The null moves behaviour against the responses by random stretches of time, which keeps the
autocorrelation of both; q is the false discovery rate over all units (Benjamini & Hochberg 1995,
doi:10.1111/j.2517-6161.1995.tb02031.x).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.stats import false_discovery_control

from neurofmx.config import Params


class TuningParams(Params):
    """How curves are made and tested.

    Attributes:
        bins: Quantile bins of the behaviour.
        shifts: Circular shifts of the null.
    """

    bins: int = 10
    shifts: int = 200


@dataclass(frozen=True)
class Curves:
    """Curves of several units against one behaviour.

    Attributes:
        edges: Of the bins, in the behaviour's unit.
        train, test: Mean response in each bin; NaN in a bin without data.
        error: Standard error of `test`, over the instants.
        r2: Of the test responses, as predicted by the train curves.
        null: 95th percentile of the same under shifts.
        p: Share of the shifts that do as well.
    """

    edges: Float[ndarray, " edge"]
    train: Float[ndarray, "bin unit"]
    test: Float[ndarray, "bin unit"]
    error: Float[ndarray, "bin unit"]
    r2: Float[ndarray, " unit"]
    null: Float[ndarray, " unit"]
    p: Float[ndarray, " unit"]


def tuning_curves(
    behaviour: dict[str, Float[ndarray, " _time"]],
    responses: dict[str, Float[ndarray, "_time unit"]],
    params: TuningParams,
    rng: np.random.Generator,
) -> Curves:
    """Curves from the split train, judged on the split test.

    Args:
        behaviour, responses: By split, at the same instants in order of time.
        rng: Draws the shifts.
    """
    inner = np.quantile(behaviour["train"], np.linspace(0, 1, params.bins + 1)[1:-1])
    place = {split: np.searchsorted(inner, values) for split, values in behaviour.items()}
    train, _ = _means(place["train"], responses["train"], params.bins)
    r = responses["test"]
    test, error = _means(place["test"], r, params.bins)
    # A bin that train lacks predicts the train mean, as if nothing were known of it.
    curve = np.where(np.isnan(train), responses["train"].mean(axis=0), train)
    observed = _explained(curve, place["test"], r)
    n = len(r)
    nearest = max(1, n // 20)  # a smaller shift would leave much of the truth in place
    shifts = rng.integers(nearest, max(n - nearest, nearest + 1), params.shifts)
    null = np.stack([_explained(curve, np.roll(place["test"], shift), r) for shift in shifts])
    p = (1 + (null >= observed).sum(axis=0)) / (1 + params.shifts)
    edges = np.r_[behaviour["train"].min(), inner, behaviour["train"].max()]
    return Curves(edges, train, test, error, observed, np.quantile(null, 0.95, axis=0), p)


def _means(
    place: Int[ndarray, " time"], responses: Float[ndarray, "time unit"], bins: int
) -> tuple[Float[ndarray, "bin unit"], Float[ndarray, "bin unit"]]:
    """Mean response in each bin and its standard error; NaN in an empty one."""
    member = (place == np.arange(bins)[:, None]).astype(float)
    count = member.sum(axis=1, keepdims=True)
    count[count == 0] = np.nan
    mean = member @ responses / count
    variance = np.maximum(member @ responses**2 / count - mean**2, 0.0)
    return mean, np.sqrt(variance / count)


def _explained(
    curve: Float[ndarray, "bin unit"],
    place: Int[ndarray, " time"],
    responses: Float[ndarray, "time unit"],
) -> Float[ndarray, " unit"]:
    """R² of responses as predicted by the curve; 0 for a unit that never changes.

    Σ (r − c)² = Σr² − 2 Σ_bins c · (Σ r in the bin) + Σ_bins c² · n: no prediction is laid out.
    """
    member = (place == np.arange(len(curve))[:, None]).astype(responses.dtype)
    in_bin, count = member @ responses, member.sum(axis=1, keepdims=True)
    squares = (responses**2).sum(axis=0)
    rest = squares - 2 * (curve * in_bin).sum(axis=0) + (curve**2 * count).sum(axis=0)
    total = squares - responses.sum(axis=0) ** 2 / len(responses)
    varies = total > 1e-9 * np.maximum(squares, 1e-30)
    return np.where(varies, 1 - rest / np.where(varies, total, 1.0), 0.0)


def score_table(curves: Curves) -> pd.DataFrame:
    """A row per unit: R², null, p, q over these units, and selectivity of the train curve.

    Selectivity is (largest − smallest) / (largest + smallest) of the curve's absolute means.
    """
    size = np.abs(curves.train)
    high, low = np.nanmax(size, axis=0), np.nanmin(size, axis=0)
    total = np.where(high + low > 0, high + low, 1.0)
    return pd.DataFrame(
        {
            "unit": np.arange(len(curves.r2)),
            "r2": curves.r2,
            "null": curves.null,
            "p": curves.p,
            "q": false_discovery_control(curves.p),
            "selectivity": (high - low) / total,
        }
    )


def curve_table(curves: Curves) -> pd.DataFrame:
    """A row per unit and bin: centre, mean on train, mean on test and its error."""
    bins, units = curves.train.shape
    centre = (curves.edges[:-1] + curves.edges[1:]) / 2
    return pd.DataFrame(
        {
            "unit": np.repeat(np.arange(units), bins),
            "bin": np.tile(np.arange(bins), units),
            "centre": np.tile(centre, units),
            "train": curves.train.T.ravel(),
            "test": curves.test.T.ravel(),
            "error": curves.error.T.ravel(),
        }
    )
