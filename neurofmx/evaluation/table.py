"""Rows of the table of results, and the answers that pictures are drawn from."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from neurofmx.evaluation.baselines import Prediction, Problem
from neurofmx.evaluation.levels import Level
from neurofmx.evaluation.metrics import METRICS, BlockScore
from neurofmx.evaluation.statistics import (
    MIN_RECORDINGS,
    Recorded,
    block_bootstrap,
    contiguous_blocks,
    hierarchical_bootstrap,
    numbered,
)

SHIFTED = "shifted"
OVERALL = "all"  # in place of a recording: all of one level together
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


@dataclass(frozen=True)
class Score:
    """A metric of a method in a recording, open to resampling.

    Attributes:
        animal: Subject of the recording.
        by_block: Figures by how often each block is drawn.
        seconds, parameters: What the method took.
    """

    recording: str
    animal: str
    task: str
    metric: str
    method: str
    level: Level
    by_block: BlockScore
    seconds: float
    parameters: int

    @property
    def group(self) -> tuple[str, str, Level]:
        """Task, metric and level: what may be averaged over, and compared within."""
        return self.task, self.metric, self.level

    @property
    def value(self) -> float:
        """Of all queries, the mean over dimensions; NaN where it is undefined."""
        return self.by_block.value

    @property
    def recorded(self) -> Recorded:
        """Its mean over dimensions."""
        return Recorded(self.animal, self.by_block.n, self.by_block.main)


def scores(problem: Problem, scored: Scored, level: Level, block: float) -> list[Score]:
    """A score for each metric of the task.

    Args:
        scored: The method `shifted` is scored against truth moved by half of the test queries:
            whatever autocorrelation alone can give.
        block: Shortest stretch that is drawn whole (s); the same blocks for each method.
    """
    asked = problem.queries["test"]
    index = problem.shards.index.iloc[problem.positions["test"]]
    windows = contiguous_blocks(index["start"].to_numpy(), index["stop"].to_numpy(), block)
    blocks = numbered(windows[asked.window])
    truth = np.roll(asked.truth, len(asked) // 2 if scored.method == SHIFTED else 0, axis=0)
    return [
        Score(
            problem.recording.id,
            problem.recording.subject,
            problem.task,
            name,
            scored.method,
            level,
            metric.by_block(truth, scored.prediction.values, blocks),
            scored.seconds,
            scored.prediction.parameters,
        )
        for name, metric in METRICS.items()
        if problem.kind in metric.kinds
    ]


def figures(found: Sequence[Score], draws: int, seed: int) -> list[dict[str, Any]]:
    """A row for each figure of each score; undefined ones are NaN.

    Args:
        draws: Of the bootstrap.
        seed: Of the draws; the same blocks are drawn for each score of a recording.
    """
    rows = []
    for score in found:
        rng = np.random.default_rng(seed)
        for part, interval in block_bootstrap(score.by_block, draws, rng).items():
            row = _row(score, score.recording, score.seconds, score.parameters)
            rows.append(row | {"metric": score.metric + part, **asdict(interval)})
    return rows


def overall(found: Sequence[Score], draws: int, seed: int) -> list[dict[str, Any]]:
    """A row for each main figure and method over all recordings of a level, where there are two.

    The value is the unweighted mean over recordings, the interval of the hierarchical bootstrap.
    Seconds are those of all recordings, parameters those of the largest.

    Args:
        draws, seed: Of the bootstrap; the same draws for each method.
    """
    groups: dict[tuple, list[Score]] = defaultdict(list)
    for score in found:
        groups[*score.group, score.method].append(score)
    rows = []
    for group in groups.values():
        if len(group) >= MIN_RECORDINGS:
            rng = np.random.default_rng(seed)
            interval = hierarchical_bootstrap([score.recorded for score in group], draws, rng)
            seconds, size = sum(s.seconds for s in group), max(s.parameters for s in group)
            rows.append(_row(group[0], OVERALL, seconds, size) | asdict(interval))
    return rows


def _row(score: Score, recording: str, seconds: float, parameters: int) -> dict[str, Any]:
    return {
        "recording": recording,
        "task": score.task,
        "metric": score.metric,
        "method": score.method,
        "level": score.level,
        "seconds": round(seconds, 3),
        "parameters": parameters,
    }


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
        if each.method != SHIFTED:
            values = each.prediction.values
            if problem.n_classes:
                values = values.argmax(axis=1)
            elif each.prediction.spread is not None:
                table["deviation"] = each.prediction.spread.ravel()
            table[each.method] = values.ravel().astype(float)
    return table
