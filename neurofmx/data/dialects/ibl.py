"""IBL's Brain-Wide Map (dandiset 000409), of which two layouts are in the archive.

Files of a session share its id, a UUID. A session that has been converted anew has a file of
processed and one of raw data (`desc-processed`, `desc-raw`); what remains of the older layout
beside them is ignored. Trials of both layouts get the names and values of IBL's ALF files:
`choice` 1 for a wheel turned clockwise, -1 counter-clockwise and 0 for none; `feedbackType` 1 for
a reward, else -1; `contrastLeft` and `contrastRight` a fraction, NaN on the side without stimulus.

Source: IBL-to-nwb and ONE's description of `trials`.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from neurofmx.data.dialects.base import session
from neurofmx.data.readers.base import Contents
from neurofmx.data.readers.nwb import NWB
from neurofmx.data.readers.nwb_tables import PROBE, places
from neurofmx.errors import DataError
from neurofmx.types import Events, Intervals, Signal

UUID = re.compile(r"ses-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
# Column of either layout → ALF; what is not here keeps its name.
ALF = {
    "probability_left": "probabilityLeft",
    "stim_on_time": "stimOn_times",
    "gabor_stimulus_onset_time": "stimOn_times",
    "stim_off_time": "stimOff_times",
    "gabor_stimulus_offset_time": "stimOff_times",
    "go_cue_time": "goCue_times",
    "auditory_cue_time": "goCue_times",
    "first_movement_time": "firstMovement_times",
    "wheel_movement_onset_time": "firstMovement_times",
    "response_time": "response_times",
    "choice_registration_time": "response_times",
    "feedback_time": "feedback_times",
    "feedback_type": "feedbackType",
    "contrast_left": "contrastLeft",
    "contrast_right": "contrastRight",
}
TURNS = {
    "counter_clockwise": -1,
    "left": -1,
    "none": 0,
    "no_go": 0,
    "right": 1,
    "clockwise": 1,
}
PLACES = ("beryl_location", "cosmos_location")


def recording(path: str) -> str:
    """Id of the session, which both layouts have in their names."""
    found = UUID.search(Path(path).name)
    return found[1] if found else session(path)


def ignored(paths: list[str]) -> list[str]:
    """Files of the older layout where there is a newer one, and excerpts where there is a whole."""
    old = [path for path in paths if "_desc-" not in path]
    if len(old) < len(paths):
        return old
    parts = [path for path in old if "-processed-only" in path]
    return parts if len(parts) < len(old) else []


def mend(signal: Signal, contents: Contents, files: list[Contents]) -> Signal:
    """Trials in ALF names; units with probe, region and place.

    Raises:
        DataError: A choice or a reference to an electrode means nothing.
    """
    if isinstance(signal, Intervals) and signal.source == "intervals/trials":
        return replace(signal, columns=alf(signal.columns))
    if isinstance(signal, Events) and signal.source == "units" and isinstance(contents, NWB):
        return replace(signal, units=_placed(signal.units, contents))
    return signal


def alf(trials: pd.DataFrame) -> pd.DataFrame:
    """Columns of a trials table under their ALF names, in ALF's units."""
    table = trials.rename(columns=ALF)
    if "mouse_wheel_choice" in table:
        turns = table.pop("mouse_wheel_choice")
        strange = set(turns) - set(TURNS)
        if strange:
            raise DataError(f"mouse_wheel_choice is {sorted(strange)}; known: {', '.join(TURNS)}")
        table["choice"] = turns.map(TURNS)
    if "is_mouse_rewarded" in table:
        table["feedbackType"] = np.where(table.pop("is_mouse_rewarded").astype(bool), 1, -1)
    for column in {"choice", "feedbackType"} & set(table):
        table[column] = table[column].astype(np.int64)
    if "gabor_stimulus_contrast" in table:
        fraction = table.pop("gabor_stimulus_contrast") / 100.0
        side = table["gabor_stimulus_side"]
        table["contrastLeft"] = fraction.where(side == "left")
        table["contrastRight"] = fraction.where(side == "right")
    return table


def _placed(units: pd.DataFrame, contents: NWB) -> pd.DataFrame:
    """Units with place and region of their strongest electrode, also in Beryl and Cosmos."""
    units = units.copy()
    if "probe_name" in units:
        units[PROBE] = units["probe_name"]
    electrodes = contents.table("electrodes")
    if electrodes is None or "max_electrode" not in units:
        return units
    rows = units["max_electrode"].to_numpy().astype(np.int64)
    if len(rows) and (rows.min() < 0 or rows.max() >= len(electrodes)):
        raise DataError(f"max_electrode reaches {rows.max()} of {len(electrodes)} electrodes")
    for name, values in places(electrodes).items():
        units[name] = values[rows]
    atlas = contents.table("ElectrodesIBLBregma")
    if atlas is not None:
        own = atlas.get("localized_entity", atlas["id"]).to_numpy()
        found = atlas.set_index(own).reindex(rows)
        units = units.assign(**{c: found[c].fillna("").to_numpy() for c in PLACES if c in found})
    return units
