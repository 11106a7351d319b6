"""What methods read that answer at a target's own samples: inputs in its bins, and their lags."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from neurofmx.data.tasks import SampledTask
from neurofmx.evaluation import design
from neurofmx.evaluation.baselines.base import Problem
from neurofmx.types import Intervals

Side = Callable[[int], Sequence[int]]


def past(n: int) -> Sequence[int]:
    """The present bin and those before it."""
    return range(n)


def around(n: int) -> Sequence[int]:
    """As many bins, half of them after the instant, the nearest first."""
    return sorted(range(-(n // 2), n - n // 2), key=abs)


SIDES: dict[str, Side] = {"past": past, "around": around}


@dataclass(frozen=True)
class Asked:
    """A problem in the bins of its target.

    Attributes:
        signals: Each input, NaN where nothing was recorded.
        rows: Bin of each query, by split; train windows overlap: there an instant is kept once.
        y: Coded truth of the same queries.
        stretches: Of every bin, the stretch that lags must stay in: the recording, or the
            intervals that windows must not leave.
    """

    grid: design.Grid
    signals: list[Float[ndarray, "bin _channel"]]
    rows: dict[str, Int[ndarray, " _row"]]
    y: dict[str, Float[ndarray, "_row coded"]]
    stretches: dict[str, Int[ndarray, " bin"]]

    @classmethod
    def of(cls, problem: Problem) -> "Asked":
        """All that a method may read; the truth of test is there to be scored, not to be read."""
        spec = problem.card.tasks[problem.task]
        assert isinstance(spec, SampledTask)
        grid = design.Grid.of(problem.recording.signals[spec.signal])
        signals = design.inputs_at(problem.recording, problem.card, grid)
        return cls(grid, signals, *_unique_rows(problem, grid), _stretches(problem, grid))

    @property
    def channels(self) -> int:
        """Of all inputs together."""
        return sum(values.shape[1] for values in self.signals)

    @property
    def joined(self) -> Int[ndarray, " row"]:
        """Bins of train and valid."""
        return np.concatenate([self.rows["train"], self.rows["valid"]])

    def smoothed(self, widths: Sequence[float]) -> Iterator[tuple[float, ndarray]]:
        """Each width (s) and all channels under a Gaussian of it, scaled by the train rows."""
        for width in widths:
            yield width, self.scaled(width)

    def scaled(self, width: float) -> Float[ndarray, "bin channel"]:
        """All channels side by side under a Gaussian (s), scaled by the train rows."""
        smooth = design.smooth(self.signals, width * self.grid.rate)
        return design.standardised(smooth, self.rows["train"])


@dataclass(frozen=True)
class Lagged:
    """Lags of all channels, side by side, for the queries of a split."""

    values: Float[ndarray, "bin channel"]
    offsets: Sequence[int]
    stretch: Int[ndarray, " bin"]
    rows: dict[str, Int[ndarray, " _row"]]

    def __call__(self, *splits: str) -> Float[ndarray, "row column"]:
        """Columns come offset by offset."""
        rows = np.concatenate([self.rows[split] for split in splits])
        return design.lagged(self.values, rows, self.offsets, self.stretch)


def _unique_rows(problem: Problem, grid: design.Grid) -> tuple[dict, dict]:
    rows, truth = {}, {}
    for split, queries in problem.queries.items():
        bins = np.round((queries.time - grid.t0) * grid.rate).astype(int)
        kept = np.arange(len(bins)) if split == "test" else np.unique(bins, return_index=True)[1]
        rows[split], truth[split] = bins[kept], problem.code(queries.truth[kept])
    return rows, truth


def _stretches(problem: Problem, grid: design.Grid) -> dict[str, Int[ndarray, " bin"]]:
    """Whether lags may cross the edges that windows must not; where there are none, they may."""
    stretches = {"recording": design.stretch_of(grid, None)}
    within = problem.card.windows.within
    if within:
        table = problem.recording.signals[within]
        assert isinstance(table, Intervals)
        stretches[within] = design.stretch_of(grid, table)
    return stretches
