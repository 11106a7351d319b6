"""FALCON (dandisets 000941 M1, 000953 M2, 000954 H1, 000950 H2, 001046 B1).

Stamps mark the ends of bins in M1 and H1 and their starts in M2, which the cards say. H1 uses the
fields of a series otherwise than NWB means them: `rate` is the period and `offset` the time of
the first stamp. `eval_mask` says which samples of behaviour count.

Source: falcon-challenge, `dataloaders.py`.
"""

from dataclasses import replace

import numpy as np
from pynwb import TimeSeries

from neurofmx.data.arrays import Scaled, scaled
from neurofmx.data.readers.base import Contents
from neurofmx.data.readers.nwb import NWB
from neurofmx.types import Intervals, Samples, Signal

SLOWEST = 1.0  # Hz; a lower `rate` is a period, since bins are 20 ms
EVALUATED = "acquisition/eval_mask"
SCORED = ("behavior", "emg")


def mend(signal: Signal, contents: Contents, files: list[Contents]) -> Signal:
    """H1 at its true times; behaviour masked where it does not count."""
    if not isinstance(contents, NWB):
        return signal
    series = contents.streams.get(signal.source)
    if isinstance(series, TimeSeries) and series.rate is not None and series.rate < SLOWEST:
        signal = _swapped(signal, series)
    mask = contents.streams.get(EVALUATED)
    if isinstance(signal, Samples) and signal.modality in SCORED and mask is not None:
        return _scored(signal, mask)
    return signal


def _swapped(signal: Signal, series: TimeSeries) -> Signal:
    """The signal with the period and the start that the series' fields stand for."""
    period, start = float(series.rate), float(series.offset)
    if isinstance(signal, Samples):
        values = signal.values
        if isinstance(values, Scaled):
            values = scaled(values.stored, values.scale)
        return replace(signal, values=values, rate=1.0 / period, t0=start)
    if isinstance(signal, Intervals):
        # Sample k was read as being at first + k / period; its stamp is the end of its bin.
        first = float(series.starting_time)
        edges = [start + (t - first) * period**2 - period for t in (signal.start, signal.stop)]
        return replace(signal, start=edges[0], stop=edges[1])
    return signal


def _scored(samples: Samples, mask: TimeSeries) -> Samples:
    counts = np.asarray(mask.data[:]).astype(bool)
    if len(counts) != len(samples) or counts.all():
        return samples
    return replace(samples, mask=counts)
