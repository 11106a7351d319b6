"""Allen Institute's Neuropixels sets (dandisets 000021, 000022, 000713).

A session's file holds units and behaviour; each probe's LFP lies in a file of its own, named after
the session. A sample of running speed is the mean over an interval, whose ends are the timestamps
of another series. Invalid times are listed by what they spoil: a probe, all probes, the stimulus.

Source: AllenSDK, `ecephys_nwb_session_api.py` and `ecephys_session.py`.
"""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray
from pynwb import TimeSeries

from neurofmx.data.readers.base import Contents
from neurofmx.data.readers.nwb import NWB
from neurofmx.data.readers.nwb_tables import PROBE, places
from neurofmx.errors import DataError
from neurofmx.types import Events, Intervals, Samples, Signal

RUNNING = "processing/running/running_speed"
ENDS = "processing/running/running_speed_end_times"
INVALID = "intervals/invalid_times"
LONG = 3.0  # median durations of a sample of running speed; a longer one bridges a gap


def mend(signal: Signal, contents: Contents, files: list[Contents]) -> Signal:
    """Units with probe, region and place; running speed, LFP and stimuli without what is invalid.

    Raises:
        DataError: Samples of running speed end before they start.
    """
    if not isinstance(contents, NWB):
        return signal
    if isinstance(signal, Events) and signal.source == "units":
        return replace(signal, units=_placed(signal.units, contents))
    if isinstance(signal, Samples) and signal.source == RUNNING and ENDS in contents.streams:
        return _running(signal, contents.streams[ENDS])
    probe = re.search(r"probe_(\d+)_lfp", signal.source)
    if isinstance(signal, Samples) and probe:
        spoiled = _invalid(files, {"all_probes", *_names(int(probe[1]), files)})
        valid = ~_within(signal.clock, spoiled)
        return signal if valid.all() else replace(signal, mask=valid)
    if isinstance(signal, Intervals) and signal.source.endswith("_presentations"):
        return _shown(signal, _invalid(files, {"stimulus"}))
    return signal


def _placed(units: pd.DataFrame, contents: NWB) -> pd.DataFrame:
    """Units with region, place and probe of their strongest channel."""
    electrodes = contents.table("electrodes")
    if electrodes is None or "peak_channel_id" not in units:
        return units
    own = electrodes.set_index("id").reindex(units["peak_channel_id"])
    columns = {"group_name": PROBE, "probe_vertical_position": "depth"}
    found = {new: own[old].to_numpy() for old, new in columns.items() if old in own}
    return units.assign(**places(own), **found)


def _running(speed: Samples, ends: TimeSeries) -> Samples:
    """Samples stamped with their starts; those that bridge a gap are masked."""
    start, stop = speed.clock, np.asarray(ends.timestamps[:], np.float64)
    if len(stop) != len(start) or not (stop > start).all():
        raise DataError(f"{ENDS} does not end the {len(start)} samples of running speed")
    valid = stop - start <= LONG * np.median(stop - start)
    return speed if valid.all() else replace(speed, mask=valid)


def _shown(stimuli: Intervals, spoiled: Float[ndarray, "interval 2"]) -> Intervals:
    """Presentations that no invalid stretch touches."""
    start, stop = spoiled.T
    touched = (stimuli.start[:, None] < stop) & (stimuli.stop[:, None] > start)
    kept = ~touched.any(axis=1)
    columns = stimuli.columns[kept].reset_index(drop=True)
    return replace(stimuli, start=stimuli.start[kept], stop=stimuli.stop[kept], columns=columns)


def _invalid(files: list[Contents], tags: set[str]) -> Float[ndarray, "interval 2"]:
    """Stretches that one of these tags marks as invalid, in any file of the session."""
    spans = [np.zeros((0, 2))]
    for contents in files:
        if isinstance(contents, NWB) and INVALID in contents.streams:
            table = contents.streams[INVALID]
            marked = [bool(tags & set(row)) for row in table["tags"][:]]
            both = [np.asarray(table[c].data[:], np.float64) for c in ("start_time", "stop_time")]
            spans.append(np.stack(both, axis=1)[np.array(marked, bool)])
    return np.concatenate(spans)


def _names(probe: int, files: list[Contents]) -> set[str]:
    """Names of a probe, such as `probeA`, as the electrodes of the session have them."""
    names: set[str] = set()
    for contents in files:
        table = contents.table("electrodes") if isinstance(contents, NWB) else None
        if table is not None and {"probe_id", "group_name"} <= set(table):
            names |= set(table["group_name"][table["probe_id"] == probe])
    return names


def _within(
    times: Float[ndarray, " time"], spans: Float[ndarray, "interval 2"]
) -> Bool[ndarray, " time"]:
    inside = np.zeros(len(times), bool)
    for start, stop in spans:
        inside |= (times >= start) & (times < stop)
    return inside
