"""What other methods reach on the same queries, their settings tuned on the same valid split.

Each baseline is fitted on the train queries of one recording, chooses its settings on valid, is
fitted again on both, and answers the test queries. Each is a file's function and a row here.
"""

from neurofmx.evaluation.baselines.base import (
    CLASSES,
    NUMBERS,
    Baseline,
    BaselineParams,
    Prediction,
    Problem,
)
from neurofmx.evaluation.baselines.readouts import logistic, mean, ridge, ridge_centred

__all__ = ["BASELINES", "Baseline", "BaselineParams", "Prediction", "Problem"]

BASELINES: dict[str, Baseline] = {
    "ridge": Baseline(NUMBERS, "ridge on the present and past bins of every input", ridge),
    "ridge_centred": Baseline(NUMBERS, "ridge on bins before and after the instant", ridge_centred),
    "logistic": Baseline(
        CLASSES, "logistic regression on log band power and mean counts", logistic
    ),
    "mean": Baseline(
        (*NUMBERS, *CLASSES), "train mean or direction, or the commonest class: chance", mean
    ),
}
