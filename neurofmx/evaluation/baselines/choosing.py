"""Settings of classifiers, chosen by folds of whole trials within train and valid.

A recording of 32 trials leaves 3 of them to valid, which cannot tell settings apart. So train and
valid are taken together and cut into folds: of whole recordings where the one that is tested was
not trained on, since that is what will be asked; else of whole trials, which windows must not
leave; else of neighbours in time. The best accuracy within classes wins, a tie goes to the higher
mean log probability.

Source: cross-validation within, Varma & Simon 2006, doi:10.1186/1471-2105-7-91; in groups, Roberts
et al. 2017, doi:10.1111/ecog.02881.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline

from neurofmx.evaluation.baselines.base import Prediction, Problem
from neurofmx.types import Intervals

FOLDS = 5
FLOOR = 1e-3  # of a probability: one mistake that is sure must not decide alone
FITTED = ("components_", "coef_", "intercept_", "filters_", "reference_", "covmeans_")
TREE = 61  # numbers of a tree at most: values of 31 leaves and 30 thresholds
Folds = list[tuple[Int[ndarray, " _row"], Int[ndarray, " _row"]]]


@dataclass(frozen=True)
class Candidate:
    """A way to classify.

    Attributes:
        settings: What tells it from the others.
        known: What is read of each query of train, then of valid.
        asked: The same of test.
        classifier: With the interface of scikit-learn; unfitted.
    """

    settings: dict[str, Any]
    known: Any
    asked: Any
    classifier: BaseEstimator


def needs_two_classes(problem: Problem) -> str | None:
    """Why there is nothing to tell apart."""
    found = np.unique(truth(problem))
    return None if len(found) > 1 else "train and valid show one class only"


def truth(problem: Problem) -> Int[ndarray, " row"]:
    """Class of each query of train, then of valid."""
    parts = [problem.queries[split].truth[:, 0] for split in ("train", "valid")]
    return np.concatenate(parts).astype(int)


def recordings(problem: Problem, *splits: str) -> Int[ndarray, " row"]:
    """Number of the recording of each query."""
    codes = np.asarray(problem.shards.recordings.codes)
    parts = [codes[problem.positions[s]][problem.queries[s].window] for s in splits]
    return np.concatenate(parts).astype(int)


def tested_elsewhere(problem: Problem) -> bool:
    """Whether other recordings are tested than were trained on."""
    known = recordings(problem, "train", "valid")
    return not np.isin(recordings(problem, "test"), known).any()


def choose(
    problem: Problem, candidates: Iterable[Candidate], most_rows: int | None = None
) -> Prediction:
    """Answers to test of the candidate that does best in the folds, fitted to train and valid.

    Args:
        most_rows: That candidates are fitted to in a fold, evenly spread; None takes all.
    """
    y, cut = truth(problem), folds(problem)
    if most_rows:
        cut = [(fitted[:: -(-len(fitted) // most_rows)], left) for fitted, left in cut]
    scored = [(score(c, y, cut, problem.n_classes), c) for c in candidates]
    (accuracy, _), best = max(scored, key=lambda pair: pair[0])
    classifier = clone(best.classifier).fit(best.known, y)
    values = probabilities(classifier, best.asked, problem.n_classes)
    chosen = best.settings | {"folds_balanced_accuracy": accuracy}
    return Prediction(values, size(classifier), chosen)


def score(
    candidate: Candidate, y: Int[ndarray, " row"], cut: Folds, n_classes: int
) -> tuple[float, float]:
    """Accuracy within classes and mean log probability of the rows that folds leave out."""
    if not cut:
        return 0.0, 0.0
    told, p = [], []
    for fitted, left in cut:
        classifier = clone(candidate.classifier).fit(candidate.known[fitted], y[fitted])
        told.append(left)
        p.append(probabilities(classifier, candidate.known[left], n_classes))
    rows, values = np.concatenate(told), np.concatenate(p)
    right = values[np.arange(len(rows)), y[rows]].clip(FLOOR)
    answered = values.argmax(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an answer may be a class that rows lack
        accuracy = balanced_accuracy_score(y[rows], answered)
    return float(accuracy), float(np.log(right).mean())


def folds(problem: Problem) -> Folds:
    """Rows to fit to and rows to look at, every class spread over the folds; none where there is
    one trial of each, so that nothing can be chosen and the first candidate answers.
    """
    y, groups = truth(problem), _groups(problem)
    n = min(FOLDS, len(np.unique(groups)), int(np.bincount(y).max()))
    if n < 2:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class may have fewer trials than folds
        cut = list(StratifiedGroupKFold(n).split(np.zeros((len(y), 1)), y, groups))
    return [(fitted, left) for fitted, left in cut if len(np.unique(y[fitted])) > 1]


def fewest_rows(problem: Problem) -> int:
    """Rows that a candidate is fitted to in the smallest fold."""
    return min((len(fitted) for fitted, _ in folds(problem)), default=len(truth(problem)))


def probabilities(classifier: Any, x: Any, n_classes: int) -> Float[ndarray, "row class"]:
    """Of every class; 0 of one that was not seen."""
    p = np.zeros((len(x), n_classes))
    p[:, classifier.classes_] = classifier.predict_proba(x)
    return p


def size(fitted: Any) -> int:
    """Numbers in a fitted classifier and in all that it is made of."""
    parts = fitted.steps if isinstance(fitted, Pipeline) else []
    inner = sum(size(step) for _, step in parts) + sum(map(size, getattr(fitted, "each_", ())))
    trees = getattr(fitted, "n_iter_", 0) * getattr(fitted, "n_trees_per_iteration_", 0)
    return inner + TREE * trees + sum(int(np.size(getattr(fitted, name, ()))) for name in FITTED)


def _groups(problem: Problem) -> Int[ndarray, " row"]:
    """What folds must not divide: recordings, trials, or neighbours in time."""
    recording = recordings(problem, "train", "valid")
    if tested_elsewhere(problem) and len(np.unique(recording)) > 1:
        return recording
    time = np.concatenate([problem.queries[split].time for split in ("train", "valid")])
    within = problem.card.windows.within
    if within:
        table = problem.recording.signals[within]
        assert isinstance(table, Intervals)
        # A query lies at the end of its trial, where the next one may begin.
        trial = np.searchsorted(np.sort(table.start), time - 1e-6)
        if len(np.unique(trial)) >= 2 * FOLDS:
            return trial
    return np.argsort(np.argsort(time)) * 2 * FOLDS // len(time)
