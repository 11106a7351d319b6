"""Ridge on lagged inputs, and what a curve behind it adds.

    ridge           y = b + Σ_lag w_lag · x(t − lag)
    wiener_cascade  y = p(b + Σ_lag w_lag · x(t − lag)), p a cubic for each dimension

Source: ridge, Hoerl & Kennard 1970, doi:10.1080/00401706.1970.10488634; linear decoders of lagged
counts as the field's baseline, Glaser et al. 2020, arXiv:1708.00909; the linear-nonlinear cascade,
Hunter & Korenberg 1986, doi:10.1007/BF00341929, as a decoder Pohlmeyer et al. 2007,
doi:10.1088/1741-2560/4/4/003.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from neurofmx.evaluation import linear
from neurofmx.evaluation.baselines.base import BaselineParams, Prediction, Problem
from neurofmx.evaluation.baselines.lagged import SIDES, Asked, Lagged

DEGREE = 3
Line = Callable[[ndarray], ndarray]
Link = Callable[[linear.Ridge, ndarray, ndarray], Line]


def ridge(problem: Problem, params: BaselineParams) -> Prediction:
    """Ridge on the present and past bins of every input (the Wiener filter of the field)."""
    return _search(problem, params, ["past"], _straight)


def ridge_centred(problem: Problem, params: BaselineParams) -> Prediction:
    """Ridge on as many bins, half of them after the instant: what a window shows the model too."""
    return _search(problem, params, ["around"], _straight)


def wiener_cascade(problem: Problem, params: BaselineParams) -> Prediction:
    """Ridge on bins of the past or around the instant, and a cubic of what it says."""
    return _search(problem, params, ["past", "around"], Cubic.behind)


@dataclass(frozen=True)
class Cubic:
    """A line, and a polynomial of each dimension of it.

    Attributes:
        low, high: Of the line where the curve was fitted; a cubic is not trusted beyond.
        weights: Highest power first.
    """

    line: linear.Ridge
    low: Float[ndarray, " dim"]
    high: Float[ndarray, " dim"]
    weights: list[Float[ndarray, " power"]]

    @classmethod
    def behind(
        cls, line: linear.Ridge, a: Float[ndarray, "row more"], y: Float[ndarray, "row dim"]
    ) -> "Cubic":
        """Least squares of `y` on powers of the line at the rows `a`."""
        z = line(a)
        weights = [np.polyfit(*pair, DEGREE) for pair in zip(z.T, y.T, strict=True)]
        return cls(line, z.min(axis=0), z.max(axis=0), weights)

    def __call__(self, a: Float[ndarray, "row more"]) -> Float[ndarray, "row dim"]:
        """Values for rows that may have further columns."""
        z = self.line(a).clip(self.low, self.high)
        return np.stack([np.polyval(w, x) for w, x in zip(self.weights, z.T, strict=True)], axis=1)


def _straight(line: linear.Ridge, a: ndarray, y: ndarray) -> Line:
    return line


def _search(
    problem: Problem, params: BaselineParams, sides: Sequence[str], link: Link
) -> Prediction:
    """Lags, penalty and smoothing whose line, seen through `link`, does best on valid."""
    asked = Asked.of(problem)
    fitting = [n for n in params.lags if n * asked.channels <= params.max_columns] or [1]
    columns, y, best = [n * asked.channels for n in fitting], asked.y, -np.inf
    chosen: dict[str, Any] = {}
    for width in params.smoothing:
        values = asked.scaled(width)
        for (within, stretch), side in product(asked.stretches.items(), sides):
            make = Lagged(values, SIDES[side](max(fitting)), stretch, asked.rows)
            seen, shown = make("train"), make("valid")
            lines = linear.ridge_paths(seen, y["train"], params.alphas, columns)
            for (alpha, d), line in lines.items():
                score = linear.mean_r2(y["valid"], link(line, seen, y["train"])(shown))
                if score > best or not chosen:
                    best, found = score, (make, d)
                    chosen = {"alpha": alpha, "lags": d // asked.channels, "smoothing": width}
                    chosen |= {"lags_within": within, "valid_r2": score}
                    chosen |= {"side": side} if len(sides) > 1 else {}
    return _fitted_again(problem, asked, *found, chosen, link)


def _fitted_again(
    problem: Problem, asked: Asked, make: Lagged, d: int, chosen: dict[str, Any], link: Link
) -> Prediction:
    """Answers to test of the same fitted to train and valid."""
    both, y = make("train", "valid")[:, :d], linear.joined(asked.y)
    line = linear.ridge_paths(both, y, [chosen["alpha"]], [d])[chosen["alpha"], d]
    answer = link(line, both, y)
    values = problem.decoded(answer(make("test")))
    curves = (DEGREE + 1) * y.shape[1] if isinstance(answer, Cubic) else 0
    return Prediction(values, line.weight.size + line.intercept.size + curves, chosen)
