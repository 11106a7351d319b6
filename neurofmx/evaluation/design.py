"""What a linear decoder reads: every input at the target's rate, and its past.

Spikes are counted, traces averaged in the target's own bins, over the whole aligned recording, so
that lags reach back before a window. Channels are centred on the train split. The deviation that
scales a channel is shrunk halfway toward that of its signal: one event of a nearly silent cell,
divided by that cell's own deviation, would outweigh all others.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy import sparse
from scipy.ndimage import gaussian_filter1d

from neurofmx.data.cards import Card
from neurofmx.signal.bins import bin_events
from neurofmx.types import AlignedRecording, Events, Intervals, Samples, Signal


class Grid(NamedTuple):
    """The bins [t0 + k / rate, t0 + (k + 1) / rate), k < n, of a target (s, Hz)."""

    t0: float
    rate: float
    n: int

    @classmethod
    def of(cls, target: Signal) -> "Grid":
        """The bins of an aligned signal."""
        assert isinstance(target, Samples)
        assert target.rate is not None  # align made it regular
        return cls(target.t0, target.rate, len(target))


def inputs_at(
    recording: AlignedRecording, card: Card, grid: Grid
) -> list[Float[ndarray, "bin _channel"]]:
    """Each input signal of the recording in the bins of `grid`; NaN where nothing was recorded."""
    signals = []
    for name in card.inputs:
        signal = recording.signals.get(name)
        if isinstance(signal, Events):
            units, width = len(signal.units), 1.0 / grid.rate
            counts = bin_events(signal.times, signal.index, units, grid.t0, width, grid.n)
            signals.append(counts.astype(np.float32))
        elif isinstance(signal, Samples):
            signals.append(bin_means(signal, grid))
    return signals


def bin_means(signal: Samples, grid: Grid) -> Float[ndarray, "bin channel"]:
    """Mean of the samples in each bin of `grid`.

    A bin without a sample repeats the last one while that sample lasts; NaN where it does not.
    """
    (t0, rate, n), own = grid, Grid.of(signal)
    place = np.floor((signal.clock - t0) * rate + 1e-6).astype(int)
    seen = (place >= 0) & (place < n)
    if signal.mask is not None:
        seen &= signal.mask
    values, place = np.asarray(signal.values[:])[seen], place[seen]
    count = np.bincount(place, minlength=n)
    into = sparse.csr_array((np.ones(len(place)), (place, np.arange(len(place)))), (n, len(place)))
    means = np.full((n, values.shape[1]), np.nan, np.float32)
    means[count > 0] = (into @ values)[count > 0] / count[count > 0, None]
    last = np.maximum.accumulate(np.where(count > 0, np.arange(n), -1))
    lasts = (last >= 0) & (np.arange(n) - last < rate / own.rate)
    means[lasts] = means[last[lasts]]
    return means


def smooth(
    signals: list[Float[ndarray, "bin _channel"]], sigma: float
) -> list[Float[ndarray, "bin _channel"]]:
    """Each channel under a centred Gaussian of `sigma` bins; a bin without data stays so."""
    if sigma == 0:
        return signals
    smoothed = []
    for values in signals:
        gap = np.isnan(values)
        weight = gaussian_filter1d((~gap).astype(np.float32), sigma, axis=0)
        total = gaussian_filter1d(np.where(gap, 0, values), sigma, axis=0)
        mean = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
        smoothed.append(np.where(gap, np.nan, mean))
    return smoothed


def standardised(
    signals: list[Float[ndarray, "bin _channel"]], train: Int[ndarray, " row"]
) -> Float[ndarray, "bin channel"]:
    """All channels side by side, centred and scaled by the rows `train`; 0 where not recorded."""
    columns = []
    for values in signals:
        rows = np.where(np.isnan(values[train]), np.float32(0), values[train])
        mean, variance = rows.mean(axis=0), rows.var(axis=0)
        scale = np.sqrt(0.5 * (variance + variance.mean()))
        columns.append(np.nan_to_num((values - mean) / np.where(scale > 0, scale, 1)))
    return np.hstack(columns).astype(np.float32)


def stretch_of(grid: Grid, table: Intervals | None) -> Int[ndarray, " bin"]:
    """Number of the stretch that each bin begins in, -1 outside; without a table all are in one."""
    if table is None:
        return np.zeros(grid.n, int)
    order = np.argsort(table.start)
    at = grid.t0 + np.arange(grid.n) / grid.rate + 1e-6
    number = np.searchsorted(table.start[order], at, side="right") - 1
    inside = (number >= 0) & (at < table.stop[order][number])
    return np.where(inside, number, -1)


def lagged(
    values: Float[ndarray, "bin channel"],
    rows: Int[ndarray, " row"],
    offsets: Sequence[int],
    stretch: Int[ndarray, " bin"],
) -> Float[ndarray, "row column"]:
    """For each row, the bins `offsets` before it side by side, offset by offset.

    Args:
        stretch: A bin of another stretch, or beyond the recording, counts as the mean (0).
    """
    blocks = []
    for offset in offsets:
        at = rows - offset
        known = (at >= 0) & (at < len(values))
        at = at.clip(0, len(values) - 1)
        known &= stretch[rows] == stretch[at]
        blocks.append(np.where(known[:, None], values[at], np.float32(0)))
    return np.hstack(blocks)
