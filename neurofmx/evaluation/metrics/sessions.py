"""Decoding over sessions, as FALCON tells it: R² of each, then their mean ± standard deviation.

Source: Karpowicz et al. 2024, FALCON, doi:10.1101/2024.09.15.613126, and falcon_challenge.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from neurofmx.evaluation.metrics import METRICS


@dataclass(frozen=True)
class SessionR2:
    """Variance-weighted R² over sessions.

    Attributes:
        mean: Unweighted, over sessions.
        sd: Over the same sessions, not their population (divided by n).
        by_session: R² of each.
    """

    mean: float
    sd: float
    by_session: dict[str, float]


def falcon_r2(
    sessions: Mapping[str, tuple[Float[ndarray, "_time dim"], Float[ndarray, "_time dim"]]],
) -> SessionR2:
    """R² of each session, `variance_weighted` over dimensions, and how it varies over sessions.

    Args:
        sessions: Truth and answer of each by its name, of the time steps that are scored.

    Raises:
        ValueError: There is no session, or the truth of one never changes.
    """
    if not sessions:
        raise ValueError("R² over sessions needs a session; none was given")
    r2 = {name: float(METRICS["r2_weighted"].score(*pair)[0]) for name, pair in sessions.items()}
    values = np.array(list(r2.values()))
    return SessionR2(float(values.mean()), float(values.std()), r2)
