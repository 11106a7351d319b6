"""How much of a score's spread is the seed's, how much the data's.

Each seed trains a model that is scored in every recording:

    value[seed, recording] = mean + seed + recording + rest

The mean squares of a two-way analysis of variance without repeats give the three variances: MS of
the rest; (MS_seed − MS_rest) / recordings; (MS_recording − MS_rest) / seeds. One that comes out
negative is 0. Source: Searle, Casella & McCulloch 1992, Variance Components, section 4.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray


@dataclass(frozen=True)
class Variances:
    """Of a score, in the square of its unit.

    Attributes:
        seed: Over seeds, in any recording alike.
        recording: Over recordings, for any seed alike.
        rest: What a seed does in one recording only, and noise.
    """

    seed: float
    recording: float
    rest: float


def seed_variance(values: Float[ndarray, "seed recording"]) -> Variances:
    """Variances of a score over seeds and recordings, each apart from the other.

    Raises:
        ValueError: Fewer than 2 seeds or 2 recordings, or an undefined value.
    """
    seeds, recordings = values.shape
    if min(values.shape) < 2 or not np.isfinite(values).all():
        raise ValueError(
            f"variances over seeds and recordings need 2 of each and all values; there are {seeds} "
            f"seeds, {recordings} recordings and {int((~np.isfinite(values)).sum())} undefined"
        )
    by_seed, by_recording = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    left = values - by_seed - by_recording + values.mean()
    rest = float((left**2).sum()) / ((seeds - 1) * (recordings - 1))
    return Variances(
        max(0.0, float(by_seed.var(ddof=1)) - rest / recordings),
        max(0.0, float(by_recording.var(ddof=1)) - rest / seeds),
        rest,
    )
