"""Canonical correlation with the sinusoids that a flicker would evoke, and what goes with it.

    ρ_f = max over a, b of corr(X a, Y_f b),  Y_f = [sin 2πhft, cos 2πhft], h = 1 … H
    r_f = Σₙ (n^−1.25 + 0.25) ρ_f,n²          n: bands from n · lowest frequency up

It applies where classes are named by their frequency, such as 13Hz. A class without one (rest) has
no sinusoid, so r is not the answer itself: a shrinkage LDA on the r_f of all frequencies is. The
second method adds the distances of the covariances to the mean of each class; those of the rows
that it is fitted to come from folds that leave them out.

Source: Lin, Zhang, Wu & Gao 2006, doi:10.1109/TBME.2006.889197; the filter bank, Chen, Wang, Gao,
Jung & Gao 2015, doi:10.1088/1741-2560/12/4/046008, equations 4 to 7; Kalunga, Chevallier &
Barthélemy 2016, arXiv:1501.03227.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import product

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import StratifiedKFold

from neurofmx.evaluation.baselines import choosing, traces
from neurofmx.evaluation.baselines.base import BaselineParams, Prediction, Problem
from neurofmx.evaluation.baselines.choosing import Candidate
from neurofmx.evaluation.baselines.discriminant import ShrunkLDA
from neurofmx.evaluation.baselines.riemann import EachBand, recentred

BELOW = 2.0  # Hz; bands begin this far below the lowest multiple, Chen et al. begin at 8 of 8 … 16
HIGHEST = 90.0  # Hz
FOLDS = 5


def needs_flicker(problem: Problem) -> str | None:
    """Why there is no sinusoid to look for."""
    if len(traces.frequencies(problem)) < 2:
        return "classes are not named by frequencies such as 13Hz"
    return traces.needs_traces(problem)


def cca(problem: Problem, params: BaselineParams) -> Prediction:
    """Shrinkage LDA on filter-bank correlations; harmonics and bands are chosen."""
    return _cca(problem, params, _rho(problem, params))


def fbcca_riemann(problem: Problem, params: BaselineParams) -> Prediction:
    """Correlations chosen as in `cca`, with distances of covariances beside them."""
    rho = _rho(problem, params)
    settings = _cca(problem, params, rho).settings
    first = {name: settings[name] for name in ("harmonics", "subbands")}
    told = [_weighed(each, **first) for each in rho]

    def candidates() -> Iterator[Candidate]:
        for bands, bank in traces.usable(problem, {}).items():
            plain = traces.covariances(problem, bank)
            for again in [False, True] if choosing.tested_elsewhere(problem) else [False]:
                seen = _recentred(problem, *plain) if again else plain
                classifier = BesideDistances(told[0].shape[1], seen[0].shape[1:])
                known, asked = (_side_by_side(*pair) for pair in zip(told, seen, strict=True))
                chosen = first | {"bands": bands, "recentred": again}
                yield Candidate(chosen, known, asked, classifier)

    return choosing.choose(problem, candidates())


def canonical_correlations(
    x: Float[ndarray, "time channel"], rate: float, frequency: float, harmonics: int
) -> Float[ndarray, " harmonics"]:
    """Largest correlation of traces with sinusoids of a frequency (Hz) and 0, 1, … multiples."""
    between = _basis(x).T @ _waves(len(x), rate, frequency, harmonics)
    if not len(between):
        return np.zeros(harmonics)
    return np.array([np.linalg.norm(between[:, : 2 * h + 2], 2) for h in range(harmonics)])


class BesideDistances(BaseEstimator):
    """Shrinkage LDA on features and on distances of covariances to the mean of each class.

    Args:
        width: Features in the first columns.
        shape: Band, channel and channel of the covariances that the other columns hold.
    """

    def __init__(self, width: int, shape: tuple[int, int, int]):
        self.width, self.shape = width, shape

    def fit(self, x: Float[ndarray, "row column"], y: Int[ndarray, " row"]) -> "BesideDistances":
        """Fit to rows and their classes; distances of these rows come from folds without them."""
        from pyriemann.classification import MDM

        covariances, distance = self._covariances(x), EachBand(MDM())
        self.each_ = [distance.fit(covariances, y)]
        away = distance.transform(covariances)
        fewest = int(np.unique(y, return_counts=True)[1].min())
        if fewest > 1:  # of one trial of a class there is no fold that knows the class
            for fitted, left in StratifiedKFold(min(FOLDS, fewest)).split(x, y):
                own = clone(distance).fit(covariances[fitted], y[fitted])
                away[left] = own.transform(covariances[left])
        self.lda_ = ShrunkLDA().fit(np.hstack([x[:, : self.width], away]), y)
        self.each_.append(self.lda_)
        self.classes_ = self.lda_.classes_
        return self

    def predict_proba(self, x: Float[ndarray, "row column"]) -> Float[ndarray, "row class"]:
        """Probability of each class that was seen."""
        away = self.each_[0].transform(self._covariances(x))
        return self.lda_.predict_proba(np.hstack([x[:, : self.width], away]))

    def _covariances(self, x: ndarray) -> Float[ndarray, "row band c c"]:
        return x[:, self.width :].reshape(len(x), *self.shape)


def _cca(problem: Problem, params: BaselineParams, rho: tuple[ndarray, ndarray]) -> Prediction:
    def candidates() -> Iterator[Candidate]:
        for harmonics, subbands in product(params.harmonics, params.subbands):
            known, asked = (_weighed(each, harmonics, subbands) for each in rho)
            chosen = {"harmonics": harmonics, "subbands": subbands}
            yield Candidate(chosen, known, asked, ShrunkLDA())

    return choosing.choose(problem, candidates())


def _rho(problem: Problem, params: BaselineParams) -> tuple[ndarray, ndarray]:
    """ρ by query, frequency, harmonics and band, of train and valid and of test."""
    rate, found = traces.rate_of(problem), list(traces.frequencies(problem).values())
    bank, most = _bank(rate, min(found), max(params.subbands)), max(params.harmonics)

    def told(x: Float[ndarray, "time channel"]) -> Float[ndarray, "frequency harmonics band"]:
        bands = traces.in_bands(x, rate, bank)
        rho = [[canonical_correlations(band, rate, f, most) for band in bands] for f in found]
        return np.swapaxes(np.array(rho), 1, 2)

    parts = {s: [told(x) for x in traces.windows(problem, s)] for s in problem.positions}
    return np.stack(parts["train"] + parts["valid"]), np.stack(parts["test"])


def _weighed(
    rho: Float[ndarray, "query frequency harmonics band"], harmonics: int, subbands: int
) -> Float[ndarray, "query frequency"]:
    """r of each frequency."""
    seen = rho[:, :, harmonics - 1, :subbands]
    return seen**2 @ ((1.0 + np.arange(seen.shape[2])) ** -1.25 + 0.25)


def _bank(rate: float, lowest: float, n: int) -> traces.Bank:
    """Bands that begin below each multiple of the lowest frequency (Hz)."""
    highest = min(HIGHEST, 0.9 * rate / 2)
    begins = [max(0.5, k * lowest - BELOW) for k in range(1, n + 1)]
    return tuple((low, highest) for low in begins if low + 2 * BELOW < highest)


def _recentred(problem: Problem, known: ndarray, asked: ndarray) -> tuple[ndarray, ndarray]:
    own = choosing.recordings(problem, "train", "valid"), choosing.recordings(problem, "test")
    return recentred(known, own[0]), recentred(asked, own[1])


def _side_by_side(told: ndarray, covariances: ndarray) -> Float[ndarray, "row column"]:
    return np.hstack([told, covariances.reshape(len(told), -1)])


def _basis(values: Float[ndarray, "time channel"]) -> Float[ndarray, "time direction"]:
    """Orthonormal directions that the centred channels span; silent ones add none."""
    values = values - values.mean(axis=0)
    left, size, _ = np.linalg.svd(values, full_matrices=False)
    return left[:, size > 1e-9 * max(size[0], np.finfo(float).tiny)]


@lru_cache
def _waves(n: int, rate: float, frequency: float, harmonics: int) -> Float[ndarray, "time column"]:
    """Orthonormal; the first 2h columns span h harmonics."""
    phase = 2 * np.pi * frequency * np.arange(n)[:, None] / rate * (1 + np.arange(harmonics))
    waves = np.stack([np.sin(phase), np.cos(phase)], axis=2).reshape(n, -1)
    return np.linalg.qr(waves - waves.mean(axis=0))[0]
