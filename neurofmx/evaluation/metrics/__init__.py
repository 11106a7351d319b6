"""Scores of tasks by name, each as a function of how often every block of queries is drawn."""

from neurofmx.evaluation.metrics import classes, numbers
from neurofmx.evaluation.metrics.base import BlockScore, Metric
from neurofmx.types import TaskKind

__all__ = ["MAIN", "METRICS", "BlockScore", "Metric"]

# The score that a task is told by where there is room for one.
MAIN: dict[TaskKind, str] = {
    "regression": "r2",
    "classification": "balanced_accuracy",
    "ordinal": "balanced_accuracy",
    "circular": "circular_error",
}
METRICS: dict[str, Metric] = {
    "r2": Metric(
        ("regression",),
        "R² = 1 − SS_residual / SS_total about the test mean, each dimension by itself (the mean "
        "over dimensions is unweighted), not clipped",
        numbers.r2,
    ),
    "r2_weighted": Metric(
        ("regression",),
        "R² = 1 − SS_residual / SS_total, both summed over the dimensions: each weighs as its "
        "variance does (variance_weighted of scikit-learn and FALCON), not clipped",
        numbers.r2_weighted,
    ),
    "pearson": Metric(
        ("regression",),
        "Pearson's r of answer and truth, each dimension by itself: blind to offset and scale",
        numbers.pearson,
    ),
    "mse": Metric(
        ("regression",),
        "mean squared error in the square of the target's unit, each dimension by itself: less is "
        "better",
        numbers.mse,
        perfect=0.0,
    ),
    "accuracy": Metric(
        ("classification", "ordinal"),
        "share of test queries whose most probable class is the true one",
        classes.accuracy,
    ),
    "balanced_accuracy": Metric(
        ("classification", "ordinal"),
        "accuracy within each class, averaged over the classes that occur",
        classes.balanced_accuracy,
    ),
    "auc": Metric(
        ("classification", "ordinal"),
        "area under the ROC curve, ties count half: of two classes that of the second, of more "
        "each against the rest, averaged without weights over the classes that occur; 0.5 is "
        "chance",
        classes.auc,
    ),
    "f1": Metric(
        ("classification", "ordinal"),
        "harmonic mean of precision and recall of each class, averaged without weights over the "
        "classes that occur or are answered",
        classes.f1,
    ),
    "kappa": Metric(
        ("classification", "ordinal"),
        "Cohen's κ, unweighted: the part of the agreement beyond that of the same answers given "
        "at random; 0 is chance",
        classes.kappa,
    ),
    "circular_error": Metric(
        ("circular",),
        "mean distance of the decoded from the true angle, the shorter way round, in degrees, each "
        "angle by itself: 0 is perfect, 90 is chance, less is better",
        numbers.circular_error,
        perfect=0.0,
    ),
    "circular_median": Metric(
        ("circular",),
        "median distance of the decoded from the true angle, the shorter way round, in degrees, "
        "each angle by itself: 0 is perfect, 90 is chance, less is better",
        numbers.circular_median,
        perfect=0.0,
    ),
}
