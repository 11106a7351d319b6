"""Rows of the table of results, and the answers that pictures are drawn from."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from neurofmx.evaluation.baselines import Prediction, Problem
from neurofmx.evaluation.metrics import METRICS
from neurofmx.evaluation.statistics import block_bootstrap, contiguous_blocks

SHIFTED = "shifted"
PICTURED = ("neurofmx", "untrained", "ridge", "logistic")
COLUMNS = (
    *("dataset", "recording", "task", "metric", "method", "level", "value", "low", "high"),
    *("seconds", "parameters", "command"),
)


@dataclass(frozen=True)
class Scored:
    """What one method answered, and the seconds that it took."""

    method: str
    prediction: Prediction
    seconds: float


def figures(
    problem: Problem, scored: Scored, draws: int, block: float, seed: int
) -> list[dict[str, Any]]:
    """A row for each figure of each metric of the task.

    Args:
        scored: The method `shifted` is scored against truth moved by half of the test queries:
            whatever autocorrelation alone can give.
        draws: Of the bootstrap.
        block: Shortest stretch that is drawn whole (s).
        seed: Of the draws; the same blocks for each method.
    """
    asked = problem.queries["test"]
    index = problem.shards.index.iloc[problem.positions["test"]]
    windows = contiguous_blocks(index["start"].to_numpy(), index["stop"].to_numpy(), block)
    truth = np.roll(asked.truth, len(asked) // 2 if scored.method == SHIFTED else 0, axis=0)
    rows = []
    for name, metric in METRICS.items():
        if problem.kind not in metric.kinds:
            continue
        statistics = metric.statistics(truth, scored.prediction.values)
        rng = np.random.default_rng(seed)
        intervals = block_bootstrap(metric, statistics, windows[asked.window], draws, rng)
        rows += [
            {
                "recording": problem.recording.id,
                "task": problem.task,
                "metric": name + part,
                "method": scored.method,
                **asdict(interval),
                "seconds": round(scored.seconds, 3),
                "parameters": scored.prediction.parameters,
            }
            for part, interval in intervals.items()
        ]
    return rows


def picture(problem: Problem, scored: list[Scored]) -> pd.DataFrame:
    """Truth and answers, a row per test query and dimension; of classes, their indices.

    `deviation` is the standard deviation that ours gives its answers; classes have none.
    """
    asked = problem.queries["test"]
    n, dims = asked.truth.shape
    table = pd.DataFrame(
        {
            "recording": problem.recording.id,
            "task": problem.task,
            "time": np.repeat(asked.time, dims),
            "dim": np.tile(np.arange(dims), n),
            "truth": asked.truth.ravel(),
        }
    )
    for each in scored:
        if each.method in PICTURED:
            values = each.prediction.values
            if problem.n_classes:
                values = values.argmax(axis=1)
            elif each.prediction.spread is not None:
                table["deviation"] = each.prediction.spread.ravel()
            table[each.method] = values.ravel().astype(float)
    return table
