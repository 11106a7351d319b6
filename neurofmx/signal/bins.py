"""Events to counts, and counts to wider bins. All bins are half-open: none overlap, none part."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Num, Real
from numpy import ndarray

from neurofmx.signal.rows import LazyRows


def bin_events(
    times: Float[ndarray, " event"],
    index: Int[ndarray, " event"],
    n_units: int,
    t0: float,
    bin_width: float,
    n_bins: int,
) -> Int[ndarray, "bin unit"]:
    """Events of each unit in the half-open bins [t0 + k · bin_width, t0 + (k + 1) · bin_width).

    Args:
        times: In any order (s).
        index: Unit of each event.
        bin_width: Seconds.
    """
    edges = t0 + np.arange(n_bins + 1) * bin_width
    place = np.searchsorted(edges, times, side="right") - 1
    inside = (place >= 0) & (place < n_bins)
    flat = place[inside] * n_units + index[inside]
    return np.bincount(flat, minlength=n_bins * n_units).reshape(n_bins, n_units)


def stabilised(
    counts: Real[ndarray, "*shape"], out: Float32[ndarray, "*shape"] | None = None
) -> Float[ndarray, "*shape"]:
    """Square roots of counts: what was scattered as its mean, as Poisson counts are, is no more.

    Args:
        out: Where to put them; None makes an array.

    Source: Bartlett 1936, Supplement to the Journal of the Royal Statistical Society 3:68,
    doi:10.2307/2983678; Anscombe 1948, doi:10.1093/biomet/35.3-4.246.
    """
    return np.sqrt(counts, out=out, dtype=np.float32)


class SummedBins(LazyRows):
    """Counts in bins k times as wide: a gap where one of the k is, a last partial bin cut off.

    Args:
        values: Bin × unit, on disk or in memory.
        mask: False where a bin was not recorded; None where all were.
        k: Bins that become one.
    """

    def __init__(self, values: Any, mask: Bool[ndarray, " time"] | None, k: int):
        size = values.shape[0] // k
        self.shape, self.dtype = (size, values.shape[1]), np.zeros(1, values.dtype).sum().dtype
        mask = np.ones(size * k, bool) if mask is None else mask[: size * k]
        self.mask = np.all(mask.reshape(size, k), axis=1)
        self._values, self._k = values, k

    def _rows(self, first: int, stop: int) -> Num[ndarray, "time unit"]:
        counts = np.asarray(self._values[first * self._k : stop * self._k])
        sums = counts.reshape(stop - first, self._k, self.shape[1]).sum(axis=1)
        sums[~self.mask[first:stop]] = 0
        return sums
