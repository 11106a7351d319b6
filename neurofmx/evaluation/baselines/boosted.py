"""Gradient boosted trees on lagged inputs, or on a window's features.

    F_m = F_{m−1} + ν h_m,  h_m a tree fitted to what F_{m−1} leaves

Channels are reduced to principal components before they are lagged, so that a fit stays under a
minute however many there are. Dimensions of a target have trees of their own, so one of many is
left out. Few trees on some of the rows tell settings apart: first smoothing and components, then
lags and their side. Then valid says how many trees a fit to all rows needs. Of a short recording
valid holds a few laps of a track, by which trees choose what will not last; there blocks of train
and valid together take turns.

Source: Friedman 2001, doi:10.1214/aos/1013203451; in histograms Ke et al. 2017 (LightGBM); as a
decoder Glaser et al. 2020, arXiv:1708.00909.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from neurofmx.evaluation import linear
from neurofmx.evaluation.baselines.base import BaselineParams, Prediction, Problem
from neurofmx.evaluation.baselines.choosing import Candidate, choose, fewest_rows, size
from neurofmx.evaluation.baselines.discriminant import described, features_of
from neurofmx.evaluation.baselines.lagged import SIDES, Asked, Lagged

SEED = 0
BRIEF, ROUND = 30, 25  # trees that settings are told apart by, and that are added at a time
MOST_ROWS = {"regression": 5000, "classification": 2000}  # that settings are told apart on
MOST_COLUMNS = 500
MOST_DIMENSIONS = 16  # of a target; a minute or so for each
BLOCKS, GUARD = 4, 1.0  # of train and valid where they are few; s between blocks
FIRST: dict[str, Any] = {"side": "past", "lags": 5}  # while smoothing and components are chosen


def boosted(problem: Problem, params: BaselineParams) -> Prediction:
    """Trees for each dimension or class; features, lags and number of trees are chosen."""
    return _classes(problem, params) if problem.n_classes else _numbers(problem, params)


def few_dimensions(problem: Problem) -> str | None:
    """Why trees would take hours."""
    dims = problem.queries["test"].truth.shape[1]
    if problem.n_classes or dims <= MOST_DIMENSIONS:
        return None
    return (
        f"trees are fitted to each dimension by itself, and {problem.task!r} has {dims}: more than "
        f"{MOST_DIMENSIONS} would take hours"
    )


@dataclass(frozen=True)
class _Fold:
    """Bins to fit to and bins to look at, with their coded truth."""

    rows: dict[str, Int[ndarray, " _row"]]
    y: dict[str, Float[ndarray, "_row coded"]]


class _Inputs:
    """Lags of components of the channels, by settings."""

    def __init__(self, asked: Asked, within: str):
        self.asked, self.stretch = asked, asked.stretches[within]
        self.scaled = lru_cache(asked.scaled)
        self.reduced = lru_cache(self._reduced)

    def __call__(self, settings: dict[str, Any], rows: dict[str, ndarray]) -> Lagged:
        """What reads them at the rows of a split."""
        values = self.reduced(settings["smoothing"], settings["components"])
        offsets = SIDES[settings["side"]](settings["lags"])
        return Lagged(values, offsets, self.stretch, rows)

    def _reduced(self, width: float, n: int) -> Float[ndarray, "bin component"]:
        values = self.scaled(width)
        if n >= values.shape[1]:
            return values
        kept = PCA(n, random_state=SEED).fit(values[self.asked.rows["train"]])
        return kept.transform(values).astype(np.float32)


def _numbers(problem: Problem, params: BaselineParams) -> Prediction:
    asked = Asked.of(problem)
    inputs, folds = _Inputs(asked, problem.card.windows.within or "recording"), _folds(asked)
    few = [_thinned(fold) for fold in folds]
    components = sorted({min(n, asked.channels) for n in params.components})
    first = [
        FIRST | {"smoothing": width, "components": n}
        for width, n in product(params.smoothing, components)
        if n * FIRST["lags"] <= MOST_COLUMNS or n == components[0]
    ]
    chosen = _best(inputs, few, first)
    n = chosen["components"]
    lags = [k for k in params.tree_lags if k * n <= MOST_COLUMNS] or [1]
    then = [chosen | {"side": side, "lags": k} for side, k in product(SIDES, lags)]
    chosen = _best(inputs, few, then)
    return _grown(problem, asked, inputs, folds, chosen, params)


def _folds(asked: Asked) -> list[_Fold]:
    """Train and valid; where those are few, `BLOCKS` of both together in turn."""
    rows, y = asked.joined, linear.joined(asked.y)
    if len(rows) > MOST_ROWS["regression"]:
        return [_Fold(asked.rows, asked.y)]
    block = np.argsort(np.argsort(rows)) * BLOCKS // len(rows)
    found = []
    for k in range(BLOCKS):
        left = block == k
        guard = GUARD * asked.grid.rate
        away = (rows < rows[left].min() - guard) | (rows > rows[left].max() + guard)
        parts = {"train": away, "valid": left}
        found.append(
            _Fold({s: rows[w] for s, w in parts.items()}, {s: y[w] for s, w in parts.items()})
        )
    return found


def _thinned(fold: _Fold) -> _Fold:
    """With fewer train rows, evenly spread."""
    n = len(fold.rows["train"])
    kept = np.linspace(0, n - 1, min(n, MOST_ROWS["regression"])).astype(int)
    rows, y = ({**part, "train": part["train"][kept]} for part in (fold.rows, fold.y))
    return _Fold(rows, y)


def _best(
    inputs: _Inputs, folds: list[_Fold], candidates: Iterable[dict[str, Any]]
) -> dict[str, Any]:
    """Settings whose brief fits do best on what the folds leave out."""
    truth, scores = np.concatenate([fold.y["valid"] for fold in folds]), []
    for settings in candidates:
        told = []
        for fold in folds:
            make = inputs(settings, fold.rows)
            x, shown = make("train"), make("valid")
            answer = [_trees(BRIEF, 0.2).fit(x, y).predict(shown) for y in fold.y["train"].T]
            told.append(np.stack(answer, axis=1))
        scores.append((linear.mean_r2(truth, np.concatenate(told)), settings))
    return max(scores, key=lambda pair: pair[0])[1]


def _grown(
    problem: Problem,
    asked: Asked,
    inputs: _Inputs,
    folds: list[_Fold],
    chosen: dict[str, Any],
    params: BaselineParams,
) -> Prediction:
    """Answers of as many trees as the folds ask for, fitted to train and valid."""
    makes = [inputs(chosen, fold.rows) for fold in folds]
    seen, shown = [m("train") for m in makes], [m("valid") for m in makes]
    make, y = inputs(chosen, asked.rows), linear.joined(asked.y)
    both, test, numbers, told, values, parameters = (
        make("train", "valid"),
        make("test"),
        [],
        [],
        [],
        0,
    )
    for k in range(y.shape[1]):
        ys = [fold.y["train"][:, k] for fold in folds]
        n, best = _needed(seen, ys, shown, [fold.y["valid"][:, k] for fold in folds], params)
        final = _trees(n, params.tree_rate).fit(both, y[:, k])
        numbers.append(n)
        told.append(best)
        values.append(final.predict(test))
        parameters += size(final)
    truth = np.concatenate([fold.y["valid"] for fold in folds])
    chosen = chosen | {"trees": numbers, "blocks": len(folds)}
    chosen["valid_r2"] = linear.mean_r2(truth, np.stack(told, axis=1))
    return Prediction(problem.decoded(np.stack(values, axis=1)), parameters, chosen)


def _needed(
    seen: list[ndarray],
    y: list[ndarray],
    shown: list[ndarray],
    truth: list[ndarray],
    params: BaselineParams,
) -> tuple[int, Float[ndarray, " row"]]:
    """Trees after which what is left out is answered best, and those answers."""
    whole, best = np.concatenate(truth), (np.inf, 0, np.zeros(0))
    grown = [_trees(ROUND, params.tree_rate).set_params(warm_start=True) for _ in y]
    for most in range(ROUND, params.trees + 1, ROUND):
        staged = [
            trees.set_params(max_iter=most).fit(*pair).staged_predict(x)
            for trees, pair, x in zip(grown, zip(seen, y, strict=True), shown, strict=True)
        ]
        for n, parts in enumerate(zip(*staged, strict=True), 1):
            answer = np.concatenate(parts)
            error = float(np.square(answer - whole).mean())
            best = min(best, (error, n, answer), key=lambda found: found[0])
        if best[1] <= most - ROUND:
            break
    return best[1], best[2]


def _trees(n: int, rate: float) -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(
        learning_rate=rate, max_iter=n, early_stopping=False, random_state=SEED
    )


def _classes(problem: Problem, params: BaselineParams) -> Prediction:
    features = {name: described(problem, of) for name, of in features_of(problem).items()}
    fewest = fewest_rows(problem)

    def first() -> Iterator[Candidate]:
        for name, (known, asked) in features.items():
            most = min(fewest - 1, known.shape[1])
            for n in sorted({min(n, most) for n in params.components}):
                settings = {"features": name, "components": n, "trees": ROUND}
                yield Candidate(settings, known, asked, _forest(n, ROUND, fewest, params))

    def then(found: dict[str, Any]) -> Iterator[Candidate]:
        n, read = found["components"], features[found["features"]]
        for k in (ROUND, 2 * ROUND, 4 * ROUND):
            settings = {"features": found["features"], "components": n, "trees": k}
            yield Candidate(settings, *read, _forest(n, k, fewest, params))

    rows = MOST_ROWS["classification"]
    return choose(problem, then(choose(problem, first(), rows).settings), rows)


def _forest(components: int, n: int, rows: int, params: BaselineParams) -> Pipeline:
    """Leaves may be small where there are few rows."""
    leaf = max(2, min(20, rows // 20))
    trees = HistGradientBoostingClassifier(
        learning_rate=params.tree_rate,
        max_iter=n,
        min_samples_leaf=leaf,
        early_stopping=False,
        random_state=SEED,
    )
    return make_pipeline(StandardScaler(), PCA(components, svd_solver="full"), trees)
