"""From one rate to another in a ratio of whole numbers, behind a filter against aliasing.

Between the input x at samples j and the output y at samples m stands a low-pass h at the rate
of their common multiple, up · rate = down · new rate, that passes what both rates can carry:

    y[m] = Σ_j h[m · down − j · up] x[j]

h is a windowed sinc (Kaiser, β = 5, as `scipy.signal.resample_poly` takes it), symmetric about 0:
a feature stays where it was in time, and half of h lies in the future. In causal mode h is the
minimum-phase filter with the same magnitude (Oppenheim & Schafer 2010, ch. 13), zero before 0. A
causal symmetric filter would delay everything by 10 samples of the slower rate; minimum phase is
the least delay that this magnitude allows, about 2 samples, at the price of a slight dispersion.

No value crosses a gap. Before and after a stretch the symmetric filter sees it turned about its
edge sample (odd reflection), and its weights are set so that constants and ramps come out
unchanged; the causal one sees the first sample held before, so only constants do.

The weights repeat every `up` outputs, so tiles of outputs are one matrix times shifted stretches
of the input. Tiles lie at fixed samples, which keeps rows the same however they are sliced.
"""

from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from numpy.lib.stride_tricks import as_strided
from scipy.signal import firwin, minimum_phase

from neurofmx.signal.rows import LazyRows, floating, stretches

MAX_TERM = 1000  # largest numerator or denominator of a ratio of rates
HALF_LENGTH = 10  # samples of the slower rate
BETA = 5.0  # of the Kaiser window
TILE = 24  # outputs, about: as many inputs as the filter spans, so half the matrix is not 0


def ratio_of(new_rate: float, rate: float, n: int) -> Fraction | None:
    """`new_rate` / `rate` in small whole numbers, or None where no such ratio holds over n samples.

    Over the whole series the grids may part by a hundredth of a sample.
    """
    ratio = new_rate / rate
    close = Fraction(ratio).limit_denominator(MAX_TERM)
    if close.numerator == 0 or close.numerator > MAX_TERM:
        return None
    return close if abs(float(close) / ratio - 1) * n < 0.01 else None


class Resampled(LazyRows):
    """Regular samples at `ratio` times their rate, each stretch without a gap by itself.

    Row m lies at input sample m / ratio. It is recorded where its neighbours in the input are;
    in causal mode, where the last one before it is.

    Args:
        values: Time × channel, on disk or in memory; finite where the mask is true.
        mask: False where a sample was not recorded (see `finite_rows`); None where all were.
        ratio: New rate / rate.
        causal: Use nothing after the time of a row.
    """

    def __init__(
        self,
        values: Any,
        mask: Bool[ndarray, " time"] | None,
        ratio: Fraction,
        causal: bool = False,
    ):
        n, up, down = values.shape[0], ratio.numerator, ratio.denominator
        size = (n - 1) * up // down + 1 if n else 0
        self.shape, self.dtype = (size, values.shape[1]), floating(values.dtype)
        self._values, self._ratio, self._causal = values, ratio, causal
        pieces = stretches(np.ones(n, bool) if mask is None else mask)
        start, stop = np.array(pieces, np.int64).reshape(-1, 2).T
        first = -(-start * up // down)
        # A causal row after the last sample of a stretch cannot know yet that a gap has begun.
        last = -(-stop * up // down) if causal else (stop - 1) * up // down + 1
        self._pieces = np.stack([start, stop, first, np.minimum(last, size)], axis=1)
        self.mask = np.zeros(size, bool)
        for _, _, begin, end in self._pieces:
            self.mask[begin:end] = True

    def _rows(self, first: int, stop: int) -> Float[ndarray, "time channel"]:
        begin = np.searchsorted(self._pieces[:, 3], first, "right")
        end = np.searchsorted(self._pieces[:, 2], stop, "left")
        out = np.zeros((stop - first, self.shape[1]), self.dtype)
        for start, finish, low, high in self._pieces[begin:end].tolist():
            low, high = max(low, first), min(high, stop)
            out[low - first : high - first] = self._filtered(low, high, start, finish)
        return out

    def _filtered(
        self, low: int, high: int, start: int, finish: int
    ) -> Float[ndarray, "time channel"]:
        """Rows low to high of the stretch of samples start to finish."""
        tile = _tile(self._ratio, self._causal, self.dtype)
        n_outputs, n_inputs = tile.weights.shape
        begin, end = low // n_outputs, -(-high // n_outputs)
        need = begin * tile.step - tile.before, (end - 1) * tile.step - tile.before + n_inputs
        inside = max(start, need[0]), min(finish, need[1])
        piece = np.ascontiguousarray(self._values[inside[0] : inside[1]], self.dtype)
        piece = self._extended(piece, inside[0] - need[0], need[1] - inside[1])
        shifted = as_strided(
            piece,
            (end - begin, n_inputs, piece.shape[1]),
            (tile.step * piece.strides[0], *piece.strides),
            writeable=False,
        )
        rows = np.matmul(tile.weights, shifted).reshape(-1, piece.shape[1])
        return rows[low - begin * n_outputs : high - begin * n_outputs]

    def _extended(
        self, piece: Float[ndarray, "time channel"], before: int, after: int
    ) -> Float[ndarray, "more channel"]:
        """The piece with what the filter sees beyond the ends of its stretch."""
        if not before and not after:
            return piece
        if self._causal:
            return np.pad(piece, ((before, after), (0, 0)), mode="edge")
        return np.pad(piece, ((before, after), (0, 0)), mode="reflect", reflect_type="odd")


class _Tile(NamedTuple):
    """Weights of a tile of outputs, whose first lies `before` inputs into those it sees.

    The next tile sees inputs `step` later.
    """

    weights: Float[ndarray, "output input"]
    before: int
    step: int


@lru_cache(maxsize=8)
def _tile(ratio: Fraction, causal: bool, dtype: np.dtype) -> _Tile:
    up, down = ratio.numerator, ratio.denominator
    taps, past = _lowpass(max(up, down), causal)
    future = len(taps) - 1 - past
    n_outputs = up * max(1, TILE // up)
    before = past // up
    after = ((n_outputs - 1) * down + future) // up
    # From each output to each input, in samples of the common multiple of both rates.
    ahead = np.arange(-before, after + 1) * up - np.arange(n_outputs)[:, None] * down
    seen = (ahead >= -past) & (ahead <= future)
    weights = np.where(seen, taps[np.where(seen, past + ahead, 0)], 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    if future:
        weights = _without_lead(weights, ahead / max(up, down))
    return _Tile(weights.astype(dtype), before, n_outputs // up * down)


@lru_cache(maxsize=8)
def _lowpass(most: int, causal: bool) -> tuple[Float[ndarray, " tap"], int]:
    """The filter from past to future, and how many of its samples are past."""
    if most == 1:
        return np.ones(1), 0
    taps = firwin(2 * HALF_LENGTH * most + 1, 1 / most, window=("kaiser", BETA))
    if causal:
        return minimum_phase(taps, half=False)[::-1], len(taps) - 1
    return taps, len(taps) // 2


def _without_lead(
    weights: Float[ndarray, "output input"], ahead: Float[ndarray, "output input"]
) -> Float[ndarray, "output input"]:
    """The weights, which sum to 1, tilted a little so that their centre lies at their output."""
    taper = np.maximum(1 - (ahead / HALF_LENGTH) ** 2, 0)  # wide, so only the slowest are touched
    share = taper / taper.sum(axis=1, keepdims=True)
    tilt = share * (ahead - (share * ahead).sum(axis=1, keepdims=True))
    lead = (weights * ahead).sum(axis=1, keepdims=True)
    return weights - tilt * lead / (tilt * ahead).sum(axis=1, keepdims=True)
