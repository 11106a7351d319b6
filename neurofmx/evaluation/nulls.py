"""Nulls that keep autocorrelation: is a score more than two slow signals give by themselves?

Two independent slow signals correlate by chance, and shuffling samples hides it: shuffled signals
are not slow. Here each signal stays whole.

- Linear shift: the answers are moved by −n … n steps against the middle of the truth, nothing
  wraps around. Of n + 1 neighbouring shifts at most k can be among the k best of the n to either
  side, so that for independent, stationary answers p = (shifts that do as well) / (n + 1), the
  unmoved one counted, is at most too large.
- Circular shift: by any stretch, the end put before the start. More shifts, but the seam is new.
- Pseudo-sessions: the truth of other recordings is scored against these answers. It holds whatever
  drifts, as long as the recordings could have been exchanged.

A score here is greater where it is better. One that is undefined under the null counts as doing as
well. Source: Harris 2020, Nonsense correlations in
neuroscience, doi:10.1101/2020.11.29.402719.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Numbers = Float[ndarray, "query _dim"]
Score = Callable[[ndarray, ndarray], float]


@dataclass(frozen=True)
class Null:
    """A score against a null.

    Attributes:
        value: The observed score, of the queries that the null uses too: of linear shifts the
            middle, of pseudo-sessions as many as the shortest recording has.
        null: Scores under the null.
        p: Chance of so high a score, the observed one counted among the null's.
    """

    value: float
    null: Float[ndarray, " draw"]
    p: float


def linear_shift(
    score: Score, truth: Numbers, prediction: Float[ndarray, "query _out"], n: int, step: int = 1
) -> Null:
    """Answers moved by up to `n` · `step` queries either way.

    Raises:
        ValueError: Too few queries to move them so far.
    """
    reach = n * step
    if n < 1 or len(truth) - 2 * reach < 2:
        raise ValueError(
            f"{n} shifts of {step} to either side leave {len(truth) - 2 * reach} of {len(truth)} "
            "queries; 1 shift and 2 queries are needed"
        )
    middle = truth[reach : len(truth) - reach]
    starts = [reach + k * step for k in range(-n, n + 1)]
    scores = [score(middle, prediction[start:][: len(middle)]) for start in starts]
    return _counted(scores[n], scores[:n] + scores[n + 1 :], n)


def circular_shift(
    score: Score,
    truth: Numbers,
    prediction: Float[ndarray, "query _out"],
    draws: int,
    nearest: int,
    rng: np.random.Generator,
) -> Null:
    """Answers moved by random stretches, none nearer to the observed place than `nearest` queries.

    Raises:
        ValueError: There is no such stretch.
    """
    if not 1 <= nearest <= len(truth) // 2:
        raise ValueError(
            f"the nearest shift is {nearest} of {len(truth)} queries; it is at least 1 and at most "
            "half of them"
        )
    shifts = rng.integers(nearest, len(truth) - nearest + 1, draws)
    scores = [score(truth, np.roll(prediction, shift, axis=0)) for shift in shifts]
    return _counted(score(truth, prediction), scores, draws)


def pseudo_sessions(
    score: Score,
    truth: Numbers,
    prediction: Float[ndarray, "query _out"],
    others: Sequence[Float[ndarray, "_other _dim"]],
) -> Null:
    """Answers to the truth of other recordings; all are cut to the shortest.

    Raises:
        ValueError: There is no other recording.
    """
    if not others:
        raise ValueError("pseudo-sessions need another recording of the task; there is none")
    n = min(len(each) for each in (truth, *others))
    scores = [score(other[:n], prediction[:n]) for other in others]
    return _counted(score(truth[:n], prediction[:n]), scores, len(others))


def _counted(value: float, scores: Sequence[float], of: int) -> Null:
    null = np.array(scores)
    as_good = 1 + int((~(null < value)).sum())
    return Null(value, null, min(1.0, as_good / (1 + of)))
