"""Tables of tests: ours against each other method over recordings, and against its nulls.

Many tests find something by chance, so each table has false discovery rates q over all its rows
(Benjamini & Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x).
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import false_discovery_control

from neurofmx.evaluation.metrics import METRICS, Metric
from neurofmx.evaluation.nulls import Null, linear_shift, pseudo_sessions
from neurofmx.evaluation.paired import rank_biserial, sign_flip, wilcoxon
from neurofmx.evaluation.statistics import MIN_RECORDINGS, Recorded, hierarchical_bootstrap
from neurofmx.evaluation.table import Score
from neurofmx.types import TaskKind

TESTS = (
    *("task", "metric", "level", "method", "n", "difference", "low", "high"),
    *("p", "p_sign_flip", "q", "effect"),
)
NULLS = ("recording", "task", "metric", "level", "null", "n", "value", "null_high", "p", "q")
MOST_SHIFTS = 99  # to either side; p is 0.01 at least


class Answered(NamedTuple):
    """What ours answered to a task in a recording, in the order of time."""

    recording: str
    task: str
    kind: TaskKind
    level: str
    truth: Float[ndarray, "query dim"]
    prediction: Float[ndarray, "query output"]


def paired_tests(found: Sequence[Score], ours: str, draws: int, seed: int) -> pd.DataFrame:
    """A row for each task, metric and level with two recordings, and each method other than ours.

    `difference` is ours less the method's, the mean over recordings that both are defined in, with
    its interval of the hierarchical bootstrap, both scored on the same draws. `p` is of Wilcoxon's
    signed-rank test, `p_sign_flip` of the mean difference, `effect` the rank-biserial correlation.

    Args:
        ours: Name of the method that the others are compared with.
        draws, seed: Of the bootstrap and of sign flips that are too many to enumerate.
    """
    groups: dict[tuple, dict[str, dict[str, Score]]] = defaultdict(lambda: defaultdict(dict))
    for score in found:
        groups[score.group][score.method][score.recording] = score
    rows = []
    for (task, metric, level), methods in groups.items():
        for method, others in methods.items():
            pairs = [(methods[ours][r], other) for r, other in others.items() if r in methods[ours]]
            pairs = [(a, b) for a, b in pairs if np.isfinite(a.value) and np.isfinite(b.value)]
            if method != ours and len(pairs) >= MIN_RECORDINGS:
                row = {"task": task, "metric": metric, "level": level, "method": method}
                rows.append(row | _compared(pairs, draws, seed))
    return _with_q(rows, TESTS)


def _compared(pairs: list[tuple[Score, Score]], draws: int, seed: int) -> dict[str, Any]:
    recordings = [Recorded(a.animal, a.by_block.n, _difference(a, b)) for a, b in pairs]
    each = np.array([a.value - b.value for a, b in pairs])
    found = hierarchical_bootstrap(recordings, draws, np.random.default_rng(seed))
    return {
        "n": len(each),
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "p": wilcoxon(each),
        "p_sign_flip": sign_flip(each, np.random.default_rng(seed)),
        "effect": rank_biserial(each),
    }


def _difference(a: Score, b: Score) -> Callable[..., Float[ndarray, " draw"]]:
    return lambda counts: a.by_block.main(counts) - b.by_block.main(counts)


def null_tests(answered: Sequence[Answered]) -> pd.DataFrame:
    """A row for each recording and task, and each null that can be had there.

    The metric is the first of the task's kind, its mean over dimensions. `linear_shift` moves the
    answers by up to a quarter of the queries either way, `pseudo_session` scores them against the
    truth of the other recordings. `null_high` is what the best twentieth of the null reaches
    (the least error, where less is better).
    """
    rows = []
    for mine in answered:
        name = next(n for n, metric in METRICS.items() if mine.kind in metric.kinds)
        others = [o.truth for o in answered if o.task == mine.task and o is not mine]
        sign = -1.0 if METRICS[name].is_error else 1.0
        for null, found in _nulls(mine, others, _main(METRICS[name], sign)).items():
            known = found.null[np.isfinite(found.null)]
            if np.isfinite(found.value) and len(known):
                rows.append(
                    {
                        "recording": mine.recording,
                        "task": mine.task,
                        "metric": name,
                        "level": mine.level,
                        "null": null,
                        "n": len(found.null),
                        "value": sign * found.value,
                        "null_high": sign * float(np.quantile(known, 0.95)),
                        "p": found.p,
                    }
                )
    return _with_q(rows, NULLS)


def _main(metric: Metric, sign: float) -> Callable[[ndarray, ndarray], float]:
    """The mean over dimensions, greater where it is better; NaN where it is undefined."""

    def score(truth: ndarray, prediction: ndarray) -> float:
        return sign * metric.by_block(truth, prediction, np.zeros(len(truth), int)).value

    return score


def _nulls(
    mine: Answered,
    others: list[Float[ndarray, "_query dim"]],
    score: Callable[[ndarray, ndarray], float],
) -> dict[str, Null]:
    """Those that can be had: a recording may be too short, or alone."""
    found, reach = {}, len(mine.truth) // 4
    n = min(reach, MOST_SHIFTS)
    if n:
        step = reach // n
        found["linear_shift"] = linear_shift(score, mine.truth, mine.prediction, n, step)
    if others:
        found["pseudo_session"] = pseudo_sessions(score, mine.truth, mine.prediction, others)
    return found


def _with_q(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(columns))
    if len(table):
        table["q"] = false_discovery_control(table["p"])
    return table
