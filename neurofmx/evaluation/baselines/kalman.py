"""The Kalman filter: the target as a state that moves smoothly and is seen through the channels.

    z_t = A z_{t−1} + w,  w ~ N(0, s W)        z: the target, its velocity, its acceleration
    x_t = C z_t + q,  q ~ N(0, Q)              x: every channel in the bins that end at t − lag

A, C, W and Q are least squares and the covariances of what they leave. With J = Cᵀ Q⁻¹ C,

    P⁻ = A P Aᵀ + s W,  P = (I + P⁻ J)⁻¹ P⁻,  z = A z + P (Cᵀ Q⁻¹ x − J A z)

so nothing as large as the channels is inverted at a step, and a state with one part that follows
from another (a velocity is a difference of positions) is no trouble. The filter begins anew, at the
train mean, at every edge that windows must not cross, and behind every gap.

Source: Wu, Gao, Bienenstock, Donoghue & Black 2006, doi:10.1162/089976606774841585, equations 1 to
9; the scale s as in Glaser et al. 2020, arXiv:1708.00909; Q by Ledoit & Wolf 2004,
doi:10.1016/S0047-259X(03)00096-4, so that it can be inverted with more channels than instants.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from sklearn.covariance import ledoit_wolf

from neurofmx.evaluation import design, linear
from neurofmx.evaluation.baselines.base import BaselineParams, Prediction, Problem
from neurofmx.evaluation.baselines.lagged import Asked

ORDERS = (0, 1, 2)  # derivatives that the state holds
WIDEST = 1000  # channels and bins that are seen at once; the covariance Q grows with its square
FEWEST = 20  # instants with a known state
FIRST = {"derivatives": 0, "noise": 1.0}  # while it is chosen what is seen


def kalman(problem: Problem, params: BaselineParams) -> Prediction:
    """Filtered states: what is seen is chosen on valid, then the noise and the derivatives."""
    asked = Asked.of(problem)
    runs = _runs(asked, problem.card.windows.within)
    spans = [n for n in params.kalman_spans if n * asked.channels <= WIDEST] or [1]
    scored = []
    for width in params.smoothing:
        values = asked.scaled(width)
        for lag, span in product(params.kalman_lags, spans):
            shown = _shown(asked, values, lag, span, runs)
            settings = {"smoothing": width, "lag": lag, "span": span}
            scored += _scored(asked, runs, shown, settings | FIRST, [FIRST["noise"]])
    first = max(scored, key=lambda pair: pair[0])[1]
    values = asked.scaled(first["smoothing"])
    shown = _shown(asked, values, first["lag"], first["span"], runs)
    for order in (k for k in ORDERS if _told(_state(asked, ["train"], k, runs)) >= FEWEST):
        scored += _scored(asked, runs, shown, first | {"derivatives": order}, params.kalman_noise)
    score, chosen = max(scored, key=lambda pair: pair[0])
    state = _state(asked, ["train", "valid"], chosen["derivatives"], runs)
    model = _Model.fitted(shown, state, runs)
    answer = model.filtered(shown, runs, chosen["noise"])[asked.rows["test"]]
    values = problem.decoded(answer[:, : asked.y["test"].shape[1]])
    return Prediction(values, model.parameters, chosen | {"valid_r2": score})


def _scored(
    asked: Asked,
    runs: "_Runs",
    shown: Float[ndarray, "bin seen"],
    settings: dict[str, Any],
    noises: Sequence[float],
) -> list[tuple[float, dict[str, Any]]]:
    """What a fit to train reaches on valid with each noise."""
    state = _state(asked, ["train"], settings["derivatives"], runs)
    model, truth, found = _Model.fitted(shown, state, runs), asked.y["valid"], []
    for noise in noises:
        answer = model.filtered(shown, runs, noise)[asked.rows["valid"]]
        score = linear.mean_r2(truth, answer[:, : truth.shape[1]])
        found.append((score, settings | {"noise": noise}))
    return found


@dataclass(frozen=True)
class _Runs:
    """Stretches of bins that the filter goes through without a break, the longest first."""

    start: Int[ndarray, " run"]
    length: Int[ndarray, " run"]
    number: Int[ndarray, " bin"]


@dataclass(frozen=True)
class _Model:
    """Of states about their mean.

    Attributes:
        gained: Q⁻¹ C.
        seen: C.
    """

    mean: Float[ndarray, " state"]
    spread: Float[ndarray, "state state"]
    move: Float[ndarray, "state state"]
    jitter: Float[ndarray, "state state"]
    seen: Float[ndarray, "seen state"]
    gained: Float[ndarray, "seen state"]

    @classmethod
    def fitted(
        cls, shown: Float[ndarray, "bin seen"], state: Float[ndarray, "bin state"], runs: _Runs
    ) -> "_Model":
        """Least squares on the bins whose state is known."""
        known = np.isfinite(state).all(axis=1) & (runs.number >= 0)
        mean = state[known].mean(axis=0)
        z = np.where(known[:, None], state - mean, 0.0)
        after = np.flatnonzero(known[1:] & known[:-1] & (runs.number[1:] == runs.number[:-1])) + 1
        move = _least_squares(z[after - 1], z[after])
        left = z[after] - z[after - 1] @ move
        seen = _least_squares(z[known], shown[known])
        rest = shown[known] - z[known] @ seen
        noise = ledoit_wolf(rest.astype(float), assume_centered=True)[0]
        noise += 1e-6 * np.trace(noise) / len(noise) * np.eye(len(noise))  # silent channels
        gained = np.linalg.solve(noise, seen.T)
        jitter = left.T @ left / max(1, len(left))
        return cls(mean, np.cov(z[known].T).reshape(jitter.shape), move.T, jitter, seen.T, gained)

    @property
    def parameters(self) -> int:
        """Numbers that were fitted; of Q⁻¹ what enters."""
        parts = (self.mean, self.spread, self.move, self.jitter, self.seen, self.gained)
        return sum(part.size for part in parts)

    def filtered(
        self, shown: Float[ndarray, "bin seen"], runs: _Runs, noise: float
    ) -> Float[ndarray, "bin state"]:
        """State of every bin from the bins of its run until then; the mean outside."""
        inside, told = self.seen.T @ self.gained, shown @ self.gained
        states = np.zeros((len(shown), len(self.mean)))
        z, p, settled = np.zeros((len(runs.start), len(self.mean))), self.spread, False
        for step in range(int(runs.length.max(initial=0))):
            if not settled:
                moved = self.move @ p @ self.move.T + noise * self.jitter if step else p
                before, p = p, np.linalg.solve(np.eye(len(p)) + moved @ inside, moved)
                settled = bool(np.abs(p - before).max() <= 1e-9 * np.abs(p).max())
                turn = self.move - p @ inside @ self.move
            running = int(np.searchsorted(-runs.length, -step, side="left"))
            at = runs.start[:running] + step
            z = z[:running] @ turn.T + told[at] @ p.T
            states[at] = z
        return states + self.mean


def _told(state: Float[ndarray, "bin state"]) -> int:
    """Bins whose state is known whole."""
    return int(np.isfinite(state).all(axis=1).sum())


def _least_squares(
    a: Float[ndarray, "row state"], b: Float[ndarray, "row column"]
) -> Float[ndarray, "state column"]:
    return np.linalg.lstsq(a, b.astype(float), rcond=None)[0]


def _shown(
    asked: Asked, values: Float[ndarray, "bin channel"], lag: int, span: int, runs: _Runs
) -> Float[ndarray, "bin seen"]:
    """For each bin the channels of the `span` bins that end `lag` before it, within its run."""
    return design.lagged(values, np.arange(asked.grid.n), range(lag, lag + span), runs.number)


def _state(asked: Asked, splits: list[str], order: int, runs: _Runs) -> Float[ndarray, "bin state"]:
    """Target and its differences within a run, where the splits tell it; NaN elsewhere."""
    width = asked.y[splits[0]].shape[1]
    target = np.full((asked.grid.n, width), np.nan)
    for split in splits:
        target[asked.rows[split]] = asked.y[split]
    parts, begins = [target], np.diff(runs.number, prepend=-2) != 0
    for _ in range(order):
        step = np.diff(parts[-1], axis=0, prepend=np.nan)
        parts.append(np.where(begins[:, None], np.nan, step))
    return np.hstack(parts)


def _runs(asked: Asked, within: str | None) -> _Runs:
    """Bins of one stretch in which every input was recorded."""
    stretch = asked.stretches[within or "recording"]
    seen = (stretch >= 0) & _recorded(asked)
    edge = np.flatnonzero(np.diff(stretch) != 0) + 1
    begins = np.zeros(len(seen) + 1, bool)
    begins[0] = begins[edge] = True
    begins[1:-1] |= seen[1:] & ~seen[:-1]
    start = np.flatnonzero(begins[:-1] & seen)
    number = np.where(seen, np.searchsorted(start, np.arange(len(seen)), side="right") - 1, -1)
    length = np.bincount(number[seen], minlength=len(start))
    order = np.argsort(-length, kind="stable")
    return _Runs(start[order], length[order], number)


def _recorded(asked: Asked) -> Bool[ndarray, " bin"]:
    return ~np.isnan(np.hstack([values[:, :1] for values in asked.signals])).any(axis=1)
