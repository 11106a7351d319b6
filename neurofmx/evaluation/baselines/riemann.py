"""Covariances as points of a curved space: nearest mean, tangent space and common patterns.

    δ²(A, B) = Σᵢ log² λᵢ(A⁻¹ B)                            distance, the same under any mixing
    s = upper(log(M^−½ Σ M^−½))                              a covariance seen from the mean M
    log wᵀ Σ w,  C_a w = λ (C_a + C_b) w                     power along common spatial patterns

In each band of a filter bank by itself: of a flicker the bands are those of the classes' own
frequencies. Where other recordings are tested than were trained on, covariances may be recentred:
each recording's are seen from their own mean, which takes no labels, but all of its windows.

Source: mean and tangent space, Barachant, Bonnet, Congedo & Jutten 2012,
doi:10.1109/TBME.2011.2172210; bands of a flicker, Kalunga, Chevallier & Barthélemy 2016,
arXiv:1501.03227; recentring, Zanini et al. 2018, doi:10.1109/TBME.2017.2742541; common patterns,
Blankertz et al. 2008, doi:10.1109/MSP.2008.4408441, in banks Ang et al. 2008,
doi:10.1109/IJCNN.2008.4634130.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.special import softmax
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.pipeline import make_pipeline

from neurofmx.evaluation.baselines.base import BaselineParams, Prediction, Problem
from neurofmx.evaluation.baselines.choosing import Candidate, choose, recordings, tested_elsewhere
from neurofmx.evaluation.baselines.discriminant import ShrunkLDA
from neurofmx.evaluation.baselines.traces import covariances, usable

PATTERNS = (2, 4, 6)


def csp(problem: Problem, params: BaselineParams) -> Prediction:
    """Shrinkage LDA on log power along common spatial patterns; bands and patterns are chosen."""
    from pyriemann.spatialfilters import CSP

    def candidates() -> Iterator[Candidate]:
        for name, bank in usable(problem, params.banks).items():
            known, asked = covariances(problem, bank)
            for n in (n for n in PATTERNS if n <= known.shape[-1]):
                classifier = make_pipeline(EachBand(CSP(n)), ShrunkLDA())
                yield Candidate({"bands": name, "patterns": n}, known, asked, classifier)

    return choose(problem, candidates())


def tangent(problem: Problem, params: BaselineParams) -> Prediction:
    """Shrinkage LDA in the tangent space; bands and recentring are chosen."""
    from pyriemann.tangentspace import TangentSpace

    return _choose(problem, params, make_pipeline(EachBand(TangentSpace()), ShrunkLDA()))


def mdm(problem: Problem, params: BaselineParams) -> Prediction:
    """Minimum distance to the classes' means; bands and recentring are chosen."""
    from pyriemann.classification import MDM

    return _choose(problem, params, make_pipeline(EachBand(MDM()), Nearest()))


class EachBand(TransformerMixin, BaseEstimator):
    """A transformer for each band, what they give side by side.

    Args:
        kind: Unfitted.
    """

    def __init__(self, kind: BaseEstimator):
        self.kind = kind

    def fit(self, x: Float[ndarray, "row band c c"], y: Int[ndarray, " row"]) -> "EachBand":
        """Fit each to covariances and classes."""
        self.each_ = [clone(self.kind).fit(x[:, band], y) for band in range(x.shape[1])]
        return self

    def transform(self, x: Float[ndarray, "row band c c"]) -> Float[ndarray, "row feature"]:
        """Bands side by side."""
        return np.hstack([each.transform(x[:, band]) for band, each in enumerate(self.each_)])


class Nearest(BaseEstimator):
    """From distances to the mean of each class, band by band: p ∝ exp(−Σ_band δ²)."""

    def fit(self, x: Float[ndarray, "row distance"], y: Int[ndarray, " row"]) -> "Nearest":
        """Learn the classes."""
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, x: Float[ndarray, "row distance"]) -> Float[ndarray, "row class"]:
        """Probability of each class that was seen."""
        return softmax(-(x.reshape(len(x), -1, len(self.classes_)) ** 2).sum(axis=1), axis=1)


def recentred(
    x: Float[ndarray, "row band c c"], recording: Int[ndarray, " row"]
) -> Float[ndarray, "row band c c"]:
    """Each recording's covariances seen from their own mean, which becomes the identity."""
    from pyriemann.geometry.base import invsqrtm
    from pyriemann.geometry.mean import mean_riemann

    seen = np.empty_like(x)
    for number in np.unique(recording):
        rows = recording == number
        for band in range(x.shape[1]):
            from_mean = invsqrtm(mean_riemann(x[rows, band]))
            seen[rows, band] = from_mean @ x[rows, band] @ from_mean
    return seen


def _choose(problem: Problem, params: BaselineParams, classifier: BaseEstimator) -> Prediction:
    def candidates() -> Iterator[Candidate]:
        for name, bank in usable(problem, params.banks).items():
            known, asked = covariances(problem, bank)
            yield Candidate({"bands": name, "recentred": False}, known, asked, classifier)
            if tested_elsewhere(problem):
                known = recentred(known, recordings(problem, "train", "valid"))
                asked = recentred(asked, recordings(problem, "test"))
                yield Candidate({"bands": name, "recentred": True}, known, asked, classifier)

    return choose(problem, candidates())
