"""Values between samples: irregular or gapped times to a regular grid, a slice at a time.

Between neighbours x₀ and x₁, with s the share of the way and w the width of the interval (s),

    previous  x₀                          the only one that a causal system can use
    nearest   x₀ or x₁
    linear    (1 − s) x₀ + s x₁
    pchip, cubic   h₀₀ x₀ + h₀₁ x₁ + w (h₁₀ d₀ + h₁₁ d₁)   (Hermite; d are slopes at the samples)

pchip takes slopes that keep monotone data monotone (Fritsch & Butland 1984), cubic those that
make the second derivative continuous. A cubic slope depends on all samples, but on one k samples
away only by 0.268ᵏ, so slopes are solved in blocks of `BLOCK` samples that overlap by `OVERLAP`.

Every method is a sparse matrix of weights times the samples, so one pass writes the result.
Nothing here filters: take a rate no lower than the series' own, and `Resampled` from there.
"""

from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.sparse import csr_array

from neurofmx.signal.rows import LazyRows, floating

Method = Literal["previous", "nearest", "linear", "pchip", "cubic"]
METHODS: tuple[Method, ...] = get_args(Method)
SPLINES = {"pchip": PchipInterpolator, "cubic": CubicSpline}
BLOCK = 1024  # samples
OVERLAP = 40  # samples; 0.268⁴⁰ is 1e-23
Weights = tuple[Int[ndarray, " time"], Float[ndarray, " time"]]  # columns, and the weight of each
EXACT = 1e-6  # places on the grid; a sample this close counts as on the grid


def check_method(method: str, causal: bool) -> None:
    """Refuse a method that is none, or that reads the next sample in causal mode.

    Raises:
        ValueError: With the choices.
    """
    if method not in METHODS:
        raise ValueError(f"there is no interpolation {method!r}; choose one of {METHODS}")
    if causal and method != "previous":
        raise ValueError(
            f"{method!r} interpolation reads the next sample, which a causal system does not "
            "have yet; choose 'previous'"
        )


class Interpolated(LazyRows):
    """Samples on the grid t0 + k / rate, computed where they are sliced.

    Args:
        values: Time × channel, on disk or in memory.
        times: Of each sample, strictly increasing (s), or (t0, rate) of regular samples.
        t0: First place of the grid (s).
        rate: Of the grid (Hz).
        n: Length of the grid.
        method: A row of `METHODS`.
        max_gap: Neighbours further apart are not joined, and `previous` holds no longer (s).
        mask: False where a sample was not recorded (see `finite_rows`); None where all were.
        causal: Use nothing after the time of a row.

    Raises:
        ValueError: The method is none, or not causal where that is asked for.
    """

    def __init__(
        self,
        values: Any,
        times: Float[ndarray, " time"] | tuple[float, float],
        t0: float,
        rate: float,
        n: int,
        method: Method,
        max_gap: float,
        mask: Bool[ndarray, " time"] | None = None,
        causal: bool = False,
    ):
        check_method(method, causal)
        self.shape, self.dtype = (n, values.shape[1]), floating(values.dtype)
        self._values, self._t0, self._rate, self._method = values, t0, rate, method
        self._max_gap = max_gap * (1 + 1e-9)  # intervals of exactly max_gap are joined
        self._row = None if mask is None or mask.all() else np.flatnonzero(mask)
        self._n_knots = values.shape[0] if self._row is None else len(self._row)
        self._regular = times if isinstance(times, tuple) else None
        self._times = None
        if not isinstance(times, tuple):
            self._times = times if self._row is None else times[self._row]
        self.mask = self._joined()

    def _rows(self, first: int, stop: int) -> Float[ndarray, "time channel"]:
        low, high = self._around(first, stop)
        if low == high:
            return np.zeros((stop - first, self.shape[1]), self.dtype)
        left, share, width = self._shares(first, stop, self._seconds(low, high))
        right = np.minimum(left + 1, high - low - 1)
        if self._method in SPLINES:
            knots, parts = self._slopes(low, high), _hermite(left, right, share, width, high - low)
            return self._mixed(knots, first, parts)
        knots = self._knots(low, high)
        if self._method == "linear":
            return self._mixed(knots, first, [(left, 1 - share), (right, share)])
        nearer = (share > 0.5) & (self._method == "nearest")
        return self._taken(knots, first, np.where(nearer, right, left))

    def _shares(
        self, first: int, stop: int, seconds: Float[ndarray, " knot"]
    ) -> tuple[Int[ndarray, " time"], Float[ndarray, " time"], Float[ndarray, " time"]]:
        """For each row the sample before it, the share of the way to the next and its length (s).

        Share and length are 0 where the next is too far.
        """
        place = (seconds - self._t0) * self._rate
        begins = np.clip(np.ceil(place - EXACT), first, stop).astype(np.int64)
        begins[0] = first
        left = np.repeat(np.arange(len(seconds)), np.diff(begins, append=stop))
        width = np.diff(seconds, append=np.nan)
        step = np.where(width <= self._max_gap, np.diff(place, append=np.nan), np.inf)
        share = np.clip((np.arange(first, stop) - place[left]) / step[left], 0.0, 1.0)
        return left, share, np.where(np.isinf(step), 0.0, width)[left]

    def _taken(
        self, knots: Float[ndarray, "knot channel"], first: int, index: Int[ndarray, " time"]
    ) -> Float[ndarray, "time channel"]:
        """The sample itself, 0 where the mask is false."""
        out = np.take(knots, index, axis=0)
        mask = self.mask[first : first + len(index)]
        if not mask.all():
            out[~mask] = 0
        return out

    def _mixed(
        self, knots: Float[ndarray, "knot channel"], first: int, parts: list[Weights]
    ) -> Float[ndarray, "time channel"]:
        """Sum of samples times weights, 0 where the mask is false."""
        n = len(parts[0][0])
        columns = np.empty((n, len(parts)), np.int32)
        weights = np.empty((n, len(parts)), self.dtype)
        for k, (column, weight) in enumerate(parts):
            columns[:, k], weights[:, k] = column, weight
        weights[~self.mask[first : first + n]] = 0
        ends = np.arange(0, columns.size + 1, len(parts), dtype=np.int32)
        return csr_array((weights.ravel(), columns.ravel(), ends), (n, len(knots))) @ knots

    def _slopes(self, low: int, high: int) -> Float[ndarray, "row channel"]:
        """Recorded samples low to high, and below them the derivative at each (per s).

        Derivatives are solved in blocks that lie at fixed samples.
        """
        starts = range(low // BLOCK * BLOCK, high, BLOCK)
        first, stop = max(0, starts[0] - OVERLAP), min(self._n_knots, starts[-1] + BLOCK + OVERLAP)
        knots, seconds = self._knots(first, stop), self._seconds(first, stop)
        slopes = np.empty_like(knots)
        for block in starts:
            wide = slice(max(0, block - OVERLAP - first), block + BLOCK + OVERLAP - first)
            solved = self._solved(seconds[wide], knots[wide])[block - first - wide.start :][:BLOCK]
            slopes[block - first :][: len(solved)] = solved
        return np.concatenate([x[low - first : high - first] for x in (knots, slopes)])

    def _solved(self, seconds: ndarray, knots: ndarray) -> Float[ndarray, "knot channel"]:
        """Slopes of each stretch without a gap by itself; a lone sample has none."""
        slopes = np.zeros_like(knots)
        cuts = np.flatnonzero(np.diff(seconds) > self._max_gap) + 1
        for start, stop in zip([0, *cuts], [*cuts, len(knots)], strict=True):
            if stop - start > 1:
                spline = SPLINES[self._method](seconds[start:stop], knots[start:stop])
                slopes[start : stop - 1] = spline.c[2]
                slopes[stop - 1] = spline(seconds[stop - 1], 1)
        return slopes

    def _knots(self, low: int, high: int) -> Float[ndarray, "knot channel"]:
        """Recorded samples number low to high, from one contiguous read."""
        if self._row is None:
            return np.asarray(self._values[low:high], self.dtype)
        rows = self._row[low:high]
        span = np.asarray(self._values[int(rows[0]) : int(rows[-1]) + 1], self.dtype)
        return span if len(span) == len(rows) else span[rows - rows[0]]

    def _seconds(self, low: int, high: int) -> Float[ndarray, " knot"]:
        if self._times is not None:
            return self._times[low:high]
        assert self._regular is not None
        t0, rate = self._regular
        return t0 + (np.arange(low, high) if self._row is None else self._row[low:high]) / rate

    def _around(self, first: int, stop: int) -> tuple[int, int]:
        """Recorded samples that rows first to stop lie between, and one more on each side."""
        ends = self._t0 + np.array([first, stop - 1]) / self._rate
        if self._times is not None:
            found = np.searchsorted(self._times, ends)
        else:
            assert self._regular is not None
            t0, rate = self._regular
            rows = np.ceil((ends - t0) * rate).astype(np.int64)
            found = rows if self._row is None else np.searchsorted(self._row, rows)
        low, high = np.clip([found[0] - 2, found[1] + 3], 0, self._n_knots)
        return int(low), int(high)

    def _joined(self) -> Bool[ndarray, " n"]:
        """True between recorded neighbours that are close."""
        n = self.shape[0]
        if self._n_knots == 0:
            return np.zeros(n, bool)
        start, stop = self._stretches()
        if self._method == "previous":
            stop = stop + self._max_gap
        begin = np.ceil((start - self._t0) * self._rate - EXACT)
        end = np.floor((stop - self._t0) * self._rate + EXACT) + 1
        edges = np.clip(np.stack([begin, end], axis=1).ravel(), 0, n).astype(np.int64)
        lengths = np.diff(np.maximum.accumulate(edges), prepend=0, append=n)
        return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)

    def _stretches(self) -> tuple[Float[ndarray, " stretch"], Float[ndarray, " stretch"]]:
        """First and last sample (s) of each stretch without a gap."""
        n = self._n_knots
        if self._row is None and self._regular and 1 / self._regular[1] <= self._max_gap:
            return self._seconds(0, 1), self._seconds(n - 1, n)
        seconds = self._seconds(0, n)
        cuts = np.flatnonzero(np.diff(seconds) > self._max_gap)
        return seconds[np.append(0, cuts + 1)], seconds[np.append(cuts, n - 1)]


def _hermite(left, right, share, width, n_knots) -> list[Weights]:
    """Columns and weights of the two samples, then of their slopes, stacked below them."""
    rest = 1 - share
    return [
        (left, (1 + 2 * share) * rest**2),
        (right, share**2 * (3 - 2 * share)),
        (left + n_knots, share * rest**2 * width),
        (right + n_knots, -(share**2) * rest * width),
    ]
