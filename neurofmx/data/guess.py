"""The modality of a stream in an NWB file, guessed from its neurodata type, names and unit.

A guess is shown by `neurofmx inspect` and written into a card, where a person checks it.
"""

import numpy as np
from pynwb import TimeSeries
from pynwb.behavior import SpatialSeries
from pynwb.ecephys import ElectricalSeries, SpikeEventSeries
from pynwb.epoch import TimeIntervals
from pynwb.icephys import PatchClampSeries
from pynwb.image import ImageSeries, IndexSeries
from pynwb.misc import Units
from pynwb.ophys import RoiResponseSeries

from neurofmx.data.nwb_signals import SI, Stream, bin_width, is_numeric
from neurofmx.modalities import MODALITIES

NOT_READ = (ImageSeries, IndexSeries, PatchClampSeries, SpikeEventSeries)
# In order: the first word found in the path decides.
WORDS = {
    **dict.fromkeys(("eeg", "ecog", "emg", "lfp"), None),
    **dict.fromkeys(("eye", "pupil", "gaze"), "eye"),
    **dict.fromkeys(("pose", "keypoint", "dlc", "sleap"), "pose"),
}


def guess_modality(path: str, stream: Stream) -> str | None:
    """A row of `MODALITIES`, or None for what the pipeline does not read (images, patch clamp)."""
    if isinstance(stream, Units):
        return "spikes" if stream.spike_times_index is not None else None
    if isinstance(stream, TimeIntervals):
        return "trials"
    if isinstance(stream, NOT_READ) or not is_numeric(stream.data) or len(stream.data) == 0:
        return None
    if _is_pulses(stream):
        return "pulses"
    if _is_counts(stream):
        return "binned_counts"
    if isinstance(stream, RoiResponseSeries):
        return "calcium"
    named = next((m or word for word, m in WORDS.items() if word in path.lower()), None)
    if isinstance(stream, ElectricalSeries):
        return _electrical(stream, named)
    if named is None or (named == "eye" and not isinstance(stream, SpatialSeries)):
        return "behavior"
    return named


def _electrical(series: ElectricalSeries, named: str | None) -> str | None:
    """A potential at the rate of an LFP; faster ones are raw and need spike sorting first."""
    modality = named or "lfp"
    fast = series.rate is not None and series.rate > MODALITIES[modality].rates[1]
    return None if fast else modality


def _is_counts(series: TimeSeries) -> bool:
    counted = SI.get(series.unit.strip().lower(), ("", 1.0))[0] == "count"
    return bin_width(series) is not None or (counted and series.data.ndim == 2)


def _is_pulses(series: TimeSeries) -> bool:
    """Stamps whose values say nothing: one channel of integers that are all the same."""
    data = series.data
    if series.timestamps is None or data.ndim != 1 or data.dtype.kind not in "biu":
        return False
    return bool(np.all(data[:] == data[0]))
