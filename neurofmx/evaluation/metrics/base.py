"""A score as a function of how often each block of queries is drawn.

A bootstrap draws blocks of time again, so block b counts c_b times, as if its queries had been
repeated. Most scores are functions of sums over queries, S = Σ_b c_b S_b: the sums of the blocks
are made once, and all draws are one matrix product (`summed`). Others, such as the area under the
ROC curve or a median, find their own way to the same promise: the score of counts c equals the
score of the queries really repeated.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Real
from numpy import ndarray

from neurofmx.types import TaskKind


@dataclass(frozen=True)
class BlockScore:
    """The figures of some answers, by how often each block is drawn.

    Attributes:
        n: Number of blocks.
        of: Counts [*draw block] → figures [*draw figure]; NaN where a draw leaves one undefined.
    """

    n: int
    of: Callable[[Real[ndarray, "*draw block"]], Float[ndarray, "*draw figure"]]

    def __call__(self, counts: Real[ndarray, "*draw block"]) -> Float[ndarray, "*draw figure"]:
        """Figures of each draw."""
        return self.of(counts)

    def main(self, counts: Real[ndarray, "*draw block"]) -> Float[ndarray, "*draw"]:
        """Their unweighted mean."""
        return self(counts).mean(axis=-1)

    def whole(self) -> Float[ndarray, " figure"]:
        """Figures of all queries, once each."""
        return self(np.ones(self.n))

    @property
    def value(self) -> float:
        """Mean of the figures of all queries."""
        return float(self.whole().mean())


@dataclass(frozen=True)
class Metric:
    """A score.

    Attributes:
        kinds: Of the tasks that it scores.
        variant: What exactly is computed, for tables.
        by_block: (truth, prediction, blocks) → score; blocks are numbered from 0, none is empty.
            For classes truth is the class index, and the prediction a probability of each.
        perfect: Its value where every answer is right; 0 of errors, of which less is better.
    """

    kinds: tuple[TaskKind, ...]
    variant: str
    by_block: Callable[..., BlockScore]
    perfect: float = 1.0

    @property
    def is_error(self) -> bool:
        """True where less is better."""
        return self.perfect == 0

    def score(
        self, truth: Float[ndarray, "query dim"], prediction: Float[ndarray, "query output"]
    ) -> Float[ndarray, " figure"]:
        """Figures of all queries.

        Raises:
            ValueError: One of them is undefined, such as R² of a truth that never changes.
        """
        figures = self.by_block(truth, prediction, np.zeros(len(truth), int)).whole()
        if not np.isfinite(figures).all():
            raise ValueError(
                f"undefined over these {len(truth)} queries, figures {figures.tolist()}: "
                f"{self.variant}. Score queries in which the truth (and, for correlations, the "
                "answer) takes more than one value"
            )
        return figures


def summed(
    statistics: Float[ndarray, "query *figure statistic"],
    blocks: Int[ndarray, " query"],
    value: Callable[..., Float[ndarray, "*draw figure"]],
) -> BlockScore:
    """A score that sums over queries decide.

    Args:
        statistics: What is summed.
        value: Sums → figures.
    """
    sums = np.zeros((blocks.max() + 1, *statistics.shape[1:]))
    np.add.at(sums, blocks, statistics)
    return BlockScore(len(sums), lambda counts: value(np.tensordot(counts, sums, axes=1)))


def ratio(a: Float[ndarray, "*any"], b: Float[ndarray, "*any"]) -> Float[ndarray, "*any"]:
    """a / b, NaN where b is 0."""
    return np.divide(a, b, out=np.full(np.shape(a), np.nan), where=b > 1e-9)
