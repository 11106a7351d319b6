"""The mean response: what the time since a trial began gives, without looking at the brain.

    ŷ(τ) = Σ_trials Σ_τ' g(τ − τ') y(τ') / Σ_trials Σ_τ' g(τ − τ')

g is a Gaussian whose width is chosen on valid. It needs trials that repeat: where most instants of
test have fewer than `REPEATS` train trials at the same time since their start, it has no answer.

Source: the peri-event mean, Perkel, Gerstein & Moore 1967, doi:10.1016/S0006-3495(67)86596-2; as
the floor of a decoder Pei et al. 2021, arXiv:2109.04463.
"""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.ndimage import gaussian_filter1d

from neurofmx.evaluation import linear
from neurofmx.evaluation.baselines.base import BaselineParams, Prediction, Problem
from neurofmx.evaluation.baselines.lagged import Asked

REPEATS = 5


def needs_trials(problem: Problem) -> str | None:
    """Why there is no mean over trials."""
    within = problem.card.windows.within
    if not within:
        return "windows are not trials: the card lays them over the whole recording"
    asked = Asked.of(problem)
    since = _since(asked, within)
    seen = np.bincount(since["train"], minlength=int(since["test"].max()) + 1)
    if np.median(seen[since["test"]]) < REPEATS:
        return (
            f"{within!r} are no trials that repeat: most test instants have fewer than {REPEATS} "
            "train instants at the same time since their start"
        )
    return None


def psth(problem: Problem, params: BaselineParams) -> Prediction:
    """The train mean at the same time since the trial began."""
    asked, within = Asked.of(problem), problem.card.windows.within
    assert within is not None, "needs_trials"
    since, y = _since(asked, within), asked.y
    length = 1 + max(int(s.max()) for s in since.values())
    scores = {}
    for width in params.smoothing:
        curve = _curve(since["train"], y["train"], length, width * asked.grid.rate)
        scores[width] = linear.mean_r2(y["valid"], curve[since["valid"]])
    best = max(scores, key=scores.__getitem__)
    both = np.concatenate([since["train"], since["valid"]])
    curve = _curve(both, linear.joined(y), length, best * asked.grid.rate)
    chosen = {"smoothing": best, "valid_r2": scores[best]}
    return Prediction(problem.decoded(curve[since["test"]]), curve.size, chosen)


def _curve(
    since: Int[ndarray, " row"], y: Float[ndarray, "row coded"], length: int, sigma: float
) -> Float[ndarray, "bin coded"]:
    """Mean of `y` in every bin under a Gaussian of `sigma` bins; the mean of all where none is."""
    count, total = np.zeros((length, 1)), np.zeros((length, y.shape[1]))
    np.add.at(count, since, 1.0)
    np.add.at(total, since, y)
    if sigma > 0:
        count, total = (
            gaussian_filter1d(a, sigma, axis=0, mode="constant") for a in (count, total)
        )
    return np.where(count > 0, total / np.where(count > 0, count, 1.0), y.mean(axis=0))


def _since(asked: Asked, within: str) -> dict[str, Int[ndarray, " _row"]]:
    """Bins of each query after the first of its trial."""
    stretch = asked.stretches[within]
    number, first = np.unique(stretch, return_index=True)
    begin = first[np.searchsorted(number, stretch)]
    return {split: rows - begin[rows] for split, rows in asked.rows.items()}
