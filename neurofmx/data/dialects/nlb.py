"""Neural Latents Benchmark '21 (dandisets 000127 to 000130 and 000138 to 000140).

Recordings were cut to trials: between them no unit was observed, and behaviour at 1 kHz has gaps,
which align masks. `units.heldout` marks units that a model must not see and `trials.split` the
parts of the benchmark; a card keeps rows by them. Files of the test part have neither behaviour
nor held-out units. `units/obs_intervals` can be read as intervals, for windows to lie within.

Source: nlb_tools, `nwb_interface.py`, which blanks spikes outside what was observed.
"""

from dataclasses import replace

import numpy as np

from neurofmx.data.readers.base import Contents
from neurofmx.data.signal_cards import SignalCard
from neurofmx.types import Events, Intervals, Signal

OBSERVED = "units/obs_intervals"


def mend(signal: Signal, contents: Contents, files: list[Contents]) -> Signal:
    """Spikes inside the stretches that were observed."""
    if not (isinstance(signal, Events) and signal.source == "units" and OBSERVED in contents.kinds):
        return signal
    spans = contents.read(OBSERVED, SignalCard(path=OBSERVED, modality="trials"))
    assert isinstance(spans, Intervals)
    if len(spans) == 0:
        return signal
    # Stretches do not overlap: a time lies in the last that starts before it, or in none.
    last = np.searchsorted(spans.start, signal.times, side="right") - 1
    inside = (last >= 0) & (signal.times < spans.stop[last])
    return replace(signal, times=signal.times[inside], index=signal.index[inside])
