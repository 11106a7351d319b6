"""How well a model decodes: scores, their intervals and tests, and what simple methods reach."""

from neurofmx.evaluation.baselines import BASELINES, BaselineParams, Prediction, Problem
from neurofmx.evaluation.levels import LEVELS, Level, Origin, level
from neurofmx.evaluation.metrics import METRICS
from neurofmx.evaluation.statistics import (
    block_bootstrap,
    contiguous_blocks,
    hierarchical_bootstrap,
)

__all__ = [
    "BASELINES",
    "LEVELS",
    "METRICS",
    "BaselineParams",
    "Level",
    "Origin",
    "Prediction",
    "Problem",
    "block_bootstrap",
    "contiguous_blocks",
    "hierarchical_bootstrap",
    "level",
]
