"""Figures of one stored signal: its times, its gaps and its values.

Values are read block by block under Dask's configuration in effect; each block becomes a few
numbers per channel, which add up to those of the whole. Integers are not converted to their unit:
no figure depends on it.
"""

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import dask
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray

from neurofmx.data.arrays import Scaled
from neurofmx.data.signal_cards import SignalCard
from neurofmx.modalities import MODALITIES
from neurofmx.signal.clocks import nominal_rate
from neurofmx.signal.frames import recover_frames
from neurofmx.signal.quality import Quality, quality, segment_length
from neurofmx.types import Events, Intervals, Samples, Signal

BLOCK_BYTES = 16 * 2**20  # of values as stored, for each worker
NAMED = 10  # channels that a message names
# Extracellular potentials; what a patch clamp holds is meant to stay where it is.
POTENTIALS = {name for name, row in MODALITIES.items() if row.unit == "V"} - {"intracellular"}


@dataclass(frozen=True)
class Block:
    """What is counted in a block of values.

    Attributes:
        size: Values that are not masked.
        nan: Of these, NaN or infinite.
        active: Channels with a value other than 0.
        quality: Of potentials only; None of a block without samples.
    """

    size: int
    nan: int
    active: Bool[ndarray, " channel"]
    quality: Quality | None

    def __add__(self, later: "Block") -> "Block":
        both = [part for part in (self.quality, later.quality) if part]
        return Block(
            self.size + later.size,
            self.nan + later.nan,
            self.active | later.active,
            reduce(add, both) if both else None,
        )


def stream_row(signal: Signal, card: SignalCard) -> dict[str, Any]:
    """The row of a signal in the table `streams`; NaN where a figure makes no sense.

    Raises:
        DataError: Its values cannot be read.
    """
    start, stop = signal.span
    row = {"modality": signal.modality, "n": len(signal), "start": start, "stop": stop}
    if isinstance(signal, Samples):
        times = np.zeros(0) if signal.times is None else signal.times
        return row | _samples_row(signal, card) | _times_row(times, samples=True)
    if isinstance(signal, Events):
        row |= {"kind": "events", "n_sources": len(signal.units)}
        if signal.modality == "spikes":  # an animal may never lick, a clock has its own checks
            row |= {"n_active": len(np.unique(signal.index))}
        return row | _times_row(signal.times)
    return row | {"kind": "intervals", "n_sources": 1} | _times_row(signal.start, sorted_=False)


def trials_row(intervals: Intervals) -> dict[str, int]:
    """The row of an interval signal in the table `trials`."""
    finite = np.isfinite(intervals.start) & np.isfinite(intervals.stop)
    return {
        "n": len(intervals),
        "n_nan": int((~finite).sum()),
        "n_reversed": int((intervals.stop[finite] <= intervals.start[finite]).sum()),
    }


def _times_row(
    times: Float[ndarray, " time"], samples: bool = False, sorted_: bool = True
) -> dict[str, int]:
    """Faults of times: events may coincide, and intervals come in any order."""
    steps = np.diff(times)
    return {
        "n_nan_times": int((~np.isfinite(times)).sum()),
        "n_backwards": int((steps < 0).sum()) if sorted_ else 0,
        "n_repeated": int((steps == 0).sum()) if samples else 0,
    }


def _samples_row(samples: Samples, card: SignalCard) -> dict[str, Any]:
    rate, dropped = _rate(samples, card)
    row = {
        "kind": "samples",
        "unit": samples.unit,
        "n_sources": samples.values.shape[1],
        "rate": rate,
        "rate_error": abs(rate / card.nominal - 1) if card.nominal else np.nan,
        "dropped": dropped,
    }
    return row | _values_row(samples, rate)


def _rate(samples: Samples, card: SignalCard) -> tuple[float, float]:
    """Rate inside the stretches without gaps (Hz), and share of frames that were dropped."""
    if samples.rate is not None:
        return samples.rate, np.nan
    times = np.unique(samples.clock[np.isfinite(samples.clock)])
    if len(times) < 2:
        return np.nan, np.nan
    rate = nominal_rate(times)
    if not card.frames:
        return rate, np.nan
    gap = {} if card.max_gap is None else {"max_gap": card.max_gap}
    try:
        frames = recover_frames(times, **gap)
    except ValueError:  # too few or too slow for a loop; the rate has its own check
        return rate, np.nan
    return frames.rate, frames.dropped / (len(times) + frames.dropped)


def _values_row(samples: Samples, rate: float) -> dict[str, Any]:
    values = samples.values
    if isinstance(values, Scaled) and values.packed:
        values = values.stored
    volts = samples.modality in POTENTIALS and np.isfinite(rate)
    counts = samples.modality == "binned_counts"
    if len(values) == 0 or not (volts or counts or values.dtype.kind == "f"):
        return {"nan_fraction": 0.0}
    whole = _summed(values, samples.mask, rate if volts else None)
    row: dict[str, Any] = {"nan_fraction": whole.nan / max(1, whole.size)}
    row |= {"n_active": int(whole.active.sum())} if counts else {}
    return row | (_quality_row(whole.quality, samples.channels) if whole.quality else {})


def _summed(values: Any, mask: Bool[ndarray, " time"] | None, rate: float | None) -> Block:
    n, channels = values.shape
    length = segment_length(rate or 0.0)
    rows = length * max(1, BLOCK_BYTES // max(1, length * channels * values.dtype.itemsize))
    firsts = range(0, max(1, n - length // 2), rows)  # a short rest goes with the block before it
    parts = [slice(first, stop) for first, stop in zip(firsts, [*firsts[1:], n], strict=True)]
    block = dask.delayed(_block, pure=False)
    masks = [None if mask is None else mask[part] for part in parts]
    done = dask.compute(*[block(values, *of, rate) for of in zip(parts, masks, strict=True)])
    return reduce(add, done)


def _block(
    values: Any, rows: slice, mask: Bool[ndarray, " time"] | None, rate: float | None
) -> Block:
    block = values[rows] if mask is None else values[rows][mask]
    nan = int((~np.isfinite(block)).sum()) if block.dtype.kind == "f" else 0
    waves = quality(block, rate) if rate is not None and len(block) else None
    return Block(block.size, nan, (block != 0).any(axis=0), waves)


def _quality_row(figures: Quality, channels: pd.DataFrame) -> dict[str, Any]:
    decibels, hertz = figures.line_noise
    return {
        "saturation": figures.saturation,
        "n_flat": int(figures.flat.sum()),
        "n_dead": int(figures.dead.sum()),
        "flat_channels": _named(figures.flat, channels),
        "dead_channels": _named(figures.dead, channels),
        "line_noise": decibels,
        "line": hertz,
    }


def _named(which: Bool[ndarray, " channel"], channels: pd.DataFrame) -> str:
    ids = channels["id"] if "id" in channels else pd.Series(range(len(which)))
    names = [str(name) for name in ids[which]]
    more = [f"and {len(names) - NAMED} more"] if len(names) > NAMED else []
    return ", ".join(names[:NAMED] + more)
