"""What other methods reach on the same queries, their settings tuned on the same valid split.

Each baseline is fitted on the train queries of one recording, chooses its settings on valid, is
fitted again on both, and answers the test queries. Each is a file's function and a row here.
"""

from collections.abc import Sequence

from neurofmx.evaluation.baselines.attention import transformer
from neurofmx.evaluation.baselines.base import (
    CLASSES,
    NUMBERS,
    Baseline,
    BaselineParams,
    Prediction,
    Problem,
)
from neurofmx.evaluation.baselines.boosted import boosted, few_dimensions
from neurofmx.evaluation.baselines.cca import cca, fbcca_riemann, needs_flicker
from neurofmx.evaluation.baselines.choosing import needs_two_classes
from neurofmx.evaluation.baselines.discriminant import lda
from neurofmx.evaluation.baselines.embedding import cebra
from neurofmx.evaluation.baselines.events import poyo
from neurofmx.evaluation.baselines.kalman import kalman
from neurofmx.evaluation.baselines.lfads import lfads
from neurofmx.evaluation.baselines.ndt import ndt
from neurofmx.evaluation.baselines.psth import needs_trials, psth
from neurofmx.evaluation.baselines.readouts import logistic, mean
from neurofmx.evaluation.baselines.recurrent import gru
from neurofmx.evaluation.baselines.ridges import ridge, ridge_centred, wiener_cascade
from neurofmx.evaluation.baselines.riemann import csp, mdm, tangent
from neurofmx.evaluation.baselines.sequences import no_counts
from neurofmx.evaluation.baselines.traces import needs_traces

__all__ = [
    "BASELINES",
    "NETWORKS",
    "SLOW",
    "Baseline",
    "BaselineParams",
    "Prediction",
    "Problem",
    "chosen",
]

NETWORKS = ("gru", "transformer", "ndt", "lfads", "cebra", "poyo")
SLOW = ("boosted", *NETWORKS)  # a minute or more for each recording and task; others take seconds
ANY = (*NUMBERS, *CLASSES)

BASELINES: dict[str, Baseline] = {
    "ridge": Baseline(NUMBERS, "ridge on the present and past bins of every input", ridge),
    "ridge_centred": Baseline(NUMBERS, "ridge on bins before and after the instant", ridge_centred),
    "wiener_cascade": Baseline(NUMBERS, "ridge and a cubic of what it says", wiener_cascade),
    "kalman": Baseline(NUMBERS, "Kalman filter whose state is the target", kalman),
    "psth": Baseline(NUMBERS, "train mean at the same time in a trial", psth, needs_trials),
    "logistic": Baseline(
        CLASSES, "logistic regression on log band power and mean counts", logistic
    ),
    "boosted": Baseline(ANY, "boosted trees on lags or on a window", boosted, few_dimensions),
    "lda": Baseline(
        CLASSES, "shrinkage LDA on components of a window's features", lda, needs_two_classes
    ),
    "csp": Baseline(CLASSES, "common spatial patterns and shrinkage LDA", csp, needs_traces),
    "tangent": Baseline(
        CLASSES, "Riemannian tangent space and shrinkage LDA", tangent, needs_traces
    ),
    "mdm": Baseline(CLASSES, "Riemannian minimum distance to mean", mdm, needs_traces),
    "cca": Baseline(CLASSES, "filter-bank canonical correlation", cca, needs_flicker),
    "fbcca_riemann": Baseline(
        CLASSES, "filter-bank correlation beside Riemannian distances", fbcca_riemann, needs_flicker
    ),
    "mean": Baseline(ANY, "train mean or direction, or the commonest class: chance", mean),
    "gru": Baseline(
        ANY, "a recurrent network, causal or both ways as valid prefers (Cho 2014)", gru
    ),
    "transformer": Baseline(ANY, "a causal Transformer (Vaswani 2017)", transformer),
    "ndt": Baseline(
        ANY,
        "Neural Data Transformer (Ye & Pandarinath 2021), its rates read linearly",
        ndt,
        no_counts,
    ),
    "lfads": Baseline(ANY, "LFADS (Pandarinath 2018), its factors read linearly", lfads, no_counts),
    "cebra": Baseline(ANY, "CEBRA (Schneider 2023), read by nearest neighbours", cebra),
    "poyo": Baseline(ANY, "POYO (Azabou 2023) on single spikes", poyo, no_counts),
}


def chosen(methods: Sequence[str]) -> list[str]:
    """Rows of `BASELINES` by name; `simple` stands for all but `SLOW`, `all` for every one.

    Raises:
        ValueError: A name is unknown; says which there are.
    """
    groups = {"all": set(BASELINES), "simple": set(BASELINES) - set(SLOW)}
    unknown = sorted(set(methods) - set(BASELINES) - set(groups))
    if unknown:
        raise ValueError(
            f"no method {', '.join(map(repr, unknown))}; choose from {', '.join(BASELINES)}, or "
            "simple (those that take seconds) or all"
        )
    named = set().union(*(groups.get(name, {name}) for name in methods))
    return [name for name in BASELINES if name in named]
