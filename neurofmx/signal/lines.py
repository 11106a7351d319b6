"""Straight lines of slope near 1 through pairs of times."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

OUTLIER = 5.0  # robust standard deviations
RESOLUTION = 1e-6  # s; residuals below this count as equal


class Line(NamedTuple):
    """y = to + (1 + drift) · (x - at): epoch-sized times keep their microseconds."""

    drift: float
    at: float
    to: float

    def __call__(self, x: Float[ndarray, " pair"]) -> Float[ndarray, " pair"]:
        """Height of the line at each x (s)."""
        return self.to + (1.0 + self.drift) * (x - self.at)

    def residual(
        self, x: Float[ndarray, " pair"], y: Float[ndarray, " pair"]
    ) -> Float[ndarray, " pair"]:
        """How far y lies above the line."""
        return (y - self.to) - (1.0 + self.drift) * (x - self.at)

    @property
    def offset(self) -> float:
        """y at x = 0."""
        return self.to - (1.0 + self.drift) * self.at


def fit_line(x: Float[ndarray, " pair"], y: Float[ndarray, " pair"]) -> Line:
    """By least squares. Differences from the centre are fitted; a lone pair has no drift."""
    at, to = x[0] + (x - x[0]).mean(), y[0] + (y - y[0]).mean()
    across, lead = x - at, (y - to) - (x - at)
    spread = across @ across
    return Line(float(across @ lead / spread) if spread else 0.0, float(at), float(to))


def fit_line_robustly(
    x: Float[ndarray, " pair"], y: Float[ndarray, " pair"]
) -> tuple[Line, Bool[ndarray, " pair"]]:
    """By least squares over the pairs that are no outliers, and which those are."""
    used = np.ones(len(x), bool)
    for _ in range(10):
        line = fit_line(x[used], y[used])
        error = np.abs(line.residual(x, y))
        keep = used & (error <= max(OUTLIER * 1.4826 * float(np.median(error[used])), RESOLUTION))
        if (keep == used).all():
            break
        used = keep
    return line, used
