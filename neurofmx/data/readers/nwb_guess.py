"""The modality of a stream in an NWB file, guessed from its neurodata type, names and unit.

A guess is shown by `neurofmx inspect` and written into a card, where a person checks it.
"""

import re

import numpy as np
from pynwb import TimeSeries
from pynwb.behavior import EyeTracking, PupilTracking, SpatialSeries
from pynwb.ecephys import ElectricalSeries, SpikeEventSeries
from pynwb.epoch import TimeIntervals
from pynwb.icephys import PatchClampSeries
from pynwb.image import ImageSeries, IndexSeries
from pynwb.misc import Units
from pynwb.ophys import OnePhotonSeries, RoiResponseSeries, TwoPhotonSeries

from neurofmx.data.readers.nwb_group import members
from neurofmx.data.readers.nwb_signals import Stream, events, is_numeric
from neurofmx.data.readers.nwb_times import bin_width
from neurofmx.data.readers.units import SI
from neurofmx.modalities import MODALITIES

# Raw movies of a microscope are read as the traces of their cells.
NOT_READ = (IndexSeries, SpikeEventSeries, TwoPhotonSeries, OnePhotonSeries)
# In order: the first that is found in the path decides.
WORDS = {
    "eeg": "eeg",
    "ecog": "ecog",
    "emg": "emg",
    "lfp": "lfp",
    "fmri|bold": "fmri",
    "(^|[^a-z])eye|pupil|gaze|blink": "eye",
    "pose|keypoint|dlc|sleap": "pose",
    "audio|sound|microphone|vocal": "audio",
}


def guess_modality(path: str, stream: Stream) -> str | None:
    """A row of `MODALITIES`, or None for what the pipeline does not read by itself."""
    if isinstance(stream, Units):
        return "spikes" if stream.spike_times_index is not None else None
    if isinstance(stream, TimeIntervals):
        return "trials"
    if events(stream):
        return "pulses"
    if not isinstance(stream, TimeSeries):
        return "pose" if _is_pose(path, stream) else None
    if isinstance(stream, NOT_READ) or _is_pose(path.rpartition("/")[0], stream.parent):
        return None
    if isinstance(stream, ImageSeries):
        return "video"
    if not is_numeric(stream.data) or len(stream.data) == 0:
        return None
    return _of_series(path, stream)


def _of_series(path: str, series: TimeSeries) -> str | None:
    if isinstance(series, PatchClampSeries):
        return "intracellular"
    if _is_pulses(series):
        return "pulses"
    if _is_counts(series):
        return "binned_counts"
    if isinstance(series, RoiResponseSeries):
        return "calcium"
    if type(series).__name__ == "AcousticWaveformSeries":
        return "audio"
    named = next((m for word, m in WORDS.items() if re.search(word, path.lower())), None)
    if isinstance(series, ElectricalSeries):
        return _electrical(series, named)
    if isinstance(series.parent, EyeTracking | PupilTracking):
        return "eye"
    slow = named == "audio" and (series.rate or 0.0) < MODALITIES["audio"].rates[0]
    return "behavior" if named is None or slow else named


def _is_pose(path: str, container: Stream) -> bool:
    """A container with a place per keypoint."""
    places = members(container).values()
    if type(container).__name__ == "PoseEstimation":
        return bool(places)
    named = re.search("pose|keypoint|dlc|sleap", path.lower())
    return bool(named and places) and all(isinstance(s, SpatialSeries) for s in places)


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
