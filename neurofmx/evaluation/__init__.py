"""How well a model decodes: scores, their intervals, and what simple methods reach."""

from neurofmx.evaluation.baselines import BASELINES, BaselineParams, Prediction, Problem
from neurofmx.evaluation.metrics import METRICS
from neurofmx.evaluation.statistics import block_bootstrap, contiguous_blocks

__all__ = [
    "BASELINES",
    "METRICS",
    "BaselineParams",
    "Prediction",
    "Problem",
    "block_bootstrap",
    "contiguous_blocks",
]
