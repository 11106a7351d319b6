"""Scores of decoded classes; the answer to a query is its most probable class.

With t, p and h the numbers of queries that are of a class, answered so, and both, n all of them:

    accuracy = Σh / n;   balanced accuracy = mean of h / t over the classes that occur
    F1 = mean of 2h / (t + p) over the classes that occur or are answered      van Rijsbergen 1979
    κ = (Σh / n − e) / (1 − e),  e = Σ tp / n²      Cohen 1960, doi:10.1177/001316446002000104

    AUC = share of the pairs (one of the class, one of the rest) in which the class is thought more
    probable where it is true, ties counting half      Mann & Whitney 1947; Hand & Till 2001

A pair lies in two blocks. With W[b, c] the pairs won by the class in block b over the rest in
block c, and P, N how many of either a block holds, counts k give AUC = kᵀWk / (kᵀP · kᵀN).
"""

import numpy as np
from jaxtyping import Bool, Float, Int, Real
from numpy import ndarray

from neurofmx.evaluation.metrics.base import BlockScore, ratio, summed

Truth = Float[ndarray, "query 1"]
Probabilities = Float[ndarray, "query class"]
Blocks = Int[ndarray, " query"]
Sums = Float[ndarray, "*draw 3 class"]
One = Float[ndarray, "*draw 1"]


def accuracy(truth: Truth, prediction: Probabilities, blocks: Blocks) -> BlockScore:
    """Share of the queries whose most probable class is the true one."""
    return summed(_counted(truth, prediction), blocks, _accuracy)


def balanced_accuracy(truth: Truth, prediction: Probabilities, blocks: Blocks) -> BlockScore:
    """Mean accuracy over the classes that occur."""
    return summed(_counted(truth, prediction), blocks, _balanced)


def f1(truth: Truth, prediction: Probabilities, blocks: Blocks) -> BlockScore:
    """Macro F1."""
    return summed(_counted(truth, prediction), blocks, _f1)


def kappa(truth: Truth, prediction: Probabilities, blocks: Blocks) -> BlockScore:
    """Cohen's κ, undefined where truth and answers are all of one class."""
    return summed(_counted(truth, prediction), blocks, _kappa)


def auc(truth: Truth, prediction: Probabilities, blocks: Blocks) -> BlockScore:
    """Area under the ROC curve, each class against the rest; undefined where only one occurs."""
    n, classes = int(blocks.max()) + 1, range(prediction.shape[1])
    chosen = classes if len(classes) != 2 else (1,)  # of two, one is the mirror of the other
    parts = [_pairs(truth[:, 0] == k, prediction[:, k], blocks, n) for k in chosen]
    wins, hits, rest = (np.stack(part) for part in zip(*parts, strict=True))

    def figures(counts: Real[ndarray, "*draw block"]) -> One:
        won = np.stack([((counts @ of_class) * counts).sum(-1) for of_class in wins], axis=-1)
        return _mean_of_known(ratio(won, (counts @ hits.T) * (counts @ rest.T)))

    return BlockScore(n, figures)


def _pairs(
    hit: Bool[ndarray, " query"], p: Float[ndarray, " query"], blocks: Blocks, n: int
) -> tuple[Float[ndarray, "block block"], Float[ndarray, " block"], Float[ndarray, " block"]]:
    """Pairs won by the class in one block over the rest in another, and how many each holds."""
    wins = np.zeros((n, n))
    for block in range(n):
        rest = np.sort(p[~hit & (blocks == block)])
        below = (np.searchsorted(rest, p[hit]) + np.searchsorted(rest, p[hit], "right")) / 2
        wins[:, block] = np.bincount(blocks[hit], below, minlength=n)
    numbers = [np.bincount(blocks[of], minlength=n).astype(float) for of in (hit, ~hit)]
    return wins, numbers[0], numbers[1]


def _counted(truth: Truth, prediction: Probabilities) -> Float[ndarray, "query 3 class"]:
    """Whether each class is the true one, the answer, and both."""
    classes = np.arange(prediction.shape[1])
    of_class, answered = truth == classes, prediction.argmax(axis=1, keepdims=True) == classes
    return np.stack([of_class, answered, of_class & answered], axis=1).astype(float)


def _accuracy(sums: Sums) -> One:
    return ratio(sums[..., 2, :].sum(-1, keepdims=True), sums[..., 0, :].sum(-1, keepdims=True))


def _balanced(sums: Sums) -> One:
    return _mean_of_known(ratio(sums[..., 2, :], sums[..., 0, :]))


def _f1(sums: Sums) -> One:
    return _mean_of_known(ratio(2 * sums[..., 2, :], sums[..., 0, :] + sums[..., 1, :]))


def _kappa(sums: Sums) -> One:
    n = sums[..., 0, :].sum(-1, keepdims=True)
    chance = ratio((sums[..., 0, :] * sums[..., 1, :]).sum(-1, keepdims=True), n**2)
    return ratio(_accuracy(sums) - chance, 1 - chance)


def _mean_of_known(figures: Float[ndarray, "*draw class"]) -> One:
    known = np.isfinite(figures)
    total = np.where(known, figures, 0.0).sum(-1, keepdims=True)
    return ratio(total, known.sum(-1, keepdims=True).astype(float))
