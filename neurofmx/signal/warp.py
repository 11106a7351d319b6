"""A smooth warp of time.

A stretch of duration D is read at

    w(t) = t + s · D/π · Σ_k c_k/k · sin(πkt/D),    Σ|c_k| = 1,

which starts at 0, ends at D and runs at most s too fast or slow. The sample at t becomes that at
w(t); what happened at t moves to w⁻¹(t).

Source: Um et al. 2017, arXiv:1706.00527.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from numpy import ndarray

WAVES = 3


@dataclass(frozen=True)
class Warp:
    """w of the equation above.

    Attributes:
        slopes: s · c_k.
        duration: D (s).
    """

    slopes: Float[ndarray, " wave"]
    duration: float

    @classmethod
    def drawn(cls, share: float, duration: float, rng: np.random.Generator) -> "Warp":
        """One with random c."""
        drawn = rng.uniform(-1.0, 1.0, WAVES)
        return cls(share * drawn / np.abs(drawn).sum(), duration)

    def __call__(self, times: Float[ndarray, " time"]) -> Float[ndarray, " time"]:
        """w(t)."""
        wave = np.arange(1, WAVES + 1) * np.pi / self.duration
        return times + np.sin(np.multiply.outer(times, wave)) @ (self.slopes / wave)

    @cached_property
    def _table(self) -> tuple[Float[ndarray, " time"], Float[ndarray, " time"]]:
        times = np.linspace(0.0, self.duration, 4097)
        return self(times), times

    def inverse(self, times: Float[ndarray, " time"]) -> Float[ndarray, " time"]:
        """w⁻¹(t), from a table: in order, and within 3e-7 · D for any s up to a half."""
        return np.interp(times, *self._table)


def between(values: ndarray, mask: ndarray, places: ndarray) -> tuple[ndarray, ndarray]:
    """Linear between neighbours, both of which have to be there."""
    left = np.minimum(places.astype(np.int64), len(mask) - 1)
    right, part = np.minimum(left + 1, len(mask) - 1), places - left
    seen = mask[left] & ((part < 1e-9) | (mask[right] & (right > left)))
    part = part.astype(np.float32)[:, None]
    return (values[left] * (1 - part) + values[right] * part) * seen[:, None], seen


def nearest(values: ndarray, mask: ndarray, places: ndarray) -> tuple[ndarray, ndarray]:
    """The nearest sample: the mean of two counts has less noise than a count."""
    at = np.rint(places).astype(np.int64)
    inside, at = at < len(mask), np.minimum(at, len(mask) - 1)
    seen = mask[at] & inside
    return values[at] * seen[:, None], seen
