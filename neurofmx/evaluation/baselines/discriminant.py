"""The linear discriminant with a shrunk covariance, on principal components of a window.

    log p(k | x) = wₖ · x − wₖ · μₖ / 2 + const,  wₖ = Σ⁻¹ μₖ

Σ is the covariance within classes, shrunk by the formula of Ledoit & Wolf; all classes are equally
likely beforehand, so that a frequent one is not favoured.

Source: Ledoit & Wolf 2004, doi:10.1016/S0047-259X(03)00096-4; for brain signals Blankertz et al.
2011, doi:10.1016/j.neuroimage.2010.06.048; log amplitude of EMG, Phinyomark et al. 2012,
doi:10.1016/j.eswa.2012.01.102.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.special import softmax
from sklearn.base import BaseEstimator
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from neurofmx.evaluation.baselines.base import BaselineParams, Prediction, Problem
from neurofmx.evaluation.baselines.choosing import Candidate, choose, fewest_rows
from neurofmx.evaluation.baselines.readouts import log_power, window_features

Features = Callable[[ndarray, float], ndarray]


class ShrunkLDA(BaseEstimator):
    """The discriminant, with the interface of scikit-learn; of features scaled within classes.

    scikit-learn's own shrinks each class's covariance by itself, which takes more trials.
    """

    def fit(self, x: Float[ndarray, "row feature"], y: Int[ndarray, " row"]) -> "ShrunkLDA":
        """Fit to rows and their classes; of one row each, the nearest mean."""
        self.classes_, number = np.unique(y, return_inverse=True)
        means = np.stack([x[number == k].mean(axis=0) for k in range(len(self.classes_))])
        rest, free = x - means[number], len(x) - len(self.classes_)
        scale = np.sqrt((rest**2).sum(axis=0) / max(free, 1))
        scale = np.where(scale > 0, scale, 1.0)
        shrunk = np.eye(x.shape[1])
        if free > 0 and rest.any():
            shrunk = ledoit_wolf(rest / scale, assume_centered=True)[0] * len(x) / free
        self.coef_ = np.linalg.solve(shrunk, (means / scale).T).T / scale
        self.intercept_ = -0.5 * (self.coef_ * means).sum(axis=1)
        return self

    def predict_proba(self, x: Float[ndarray, "row feature"]) -> Float[ndarray, "row class"]:
        """Probability of each class that was seen."""
        return softmax(x @ self.coef_.T + self.intercept_, axis=1)


def lda(problem: Problem, params: BaselineParams) -> Prediction:
    """Shrinkage LDA on components of log band power or log amplitude, and of mean counts."""
    return choose(problem, _candidates(problem, params.components))


def log_amplitude(
    values: Float[ndarray, "time channel"], rate: float
) -> Float[ndarray, " feature"]:
    """Log root mean square of each channel about its mean."""
    return np.log(values.std(axis=0) + np.finfo(float).tiny)


def described(problem: Problem, of_traces: Features) -> tuple[ndarray, ndarray]:
    """Features of the queries of train and valid, and of test."""
    known = [window_features(problem, split, of_traces) for split in ("train", "valid")]
    return np.concatenate(known), window_features(problem, "test", of_traces)


def features_of(problem: Problem) -> dict[str, Features]:
    """What may be made of traces; of other inputs it is the same."""
    tokenizers = {about["tokenizer"] for about in problem.shards.signals.values()}
    if "continuous" not in tokenizers:
        return {"counts": log_power}
    return {"log_power": log_power, "log_amplitude": log_amplitude}


def _candidates(problem: Problem, components: Sequence[int]) -> Iterator[Candidate]:
    fewest = fewest_rows(problem)
    for name, of_traces in features_of(problem).items():
        known, asked = described(problem, of_traces)
        most = min(fewest - 1, known.shape[1])
        for n in [*(n for n in components if n < most), most]:
            yield Candidate({"features": name, "components": n}, known, asked, _reduced(n))


def _reduced(components: int) -> Pipeline:
    return make_pipeline(StandardScaler(), PCA(components, svd_solver="full"), ShrunkLDA())
