"""Which channels an open EEG file has: of what type, in which unit, how good, and where.

BIDS knows best, then the file, then what MNE takes it for. Channels of one type and rate make one
signal; a potential whose unit is no voltage is put aside as `misc`.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from neurofmx.data.readers.bids import Sidecars
from neurofmx.data.readers.edf_header import EdfHeader
from neurofmx.data.readers.units import SI
from neurofmx.types import POSITION

# Type of a channel → modality, for potentials; depth electrodes record what an LFP is.
VOLTAGES = {"eeg": "eeg", "ecog": "ecog", "seeg": "lfp", "dbs": "lfp", "emg": "emg"}
ALIASES = {"veog": "eog", "heog": "eog", "trig": "stim"}  # of BIDS
LABELLED = ("eeg", "ecog", "seeg", "emg", "eog", "ecg", "resp", "temp", "sao2")  # EDF+: "EEG Cz"
FIFF_UNITS = {107: "V", 112: "T", 201: "T/m"}  # codes of the FIFF standard

Raw: TypeAlias = Any  # mne.io.BaseRaw, whose import takes long


@dataclass(frozen=True)
class Channels:
    """Channels of one type and rate.

    Attributes:
        raw: Open file that has them.
        table: One row per channel; `row` is its place in `raw`.
        factor: From what MNE reads to the unit.
    """

    raw: Raw
    type: str
    table: pd.DataFrame
    factor: Float[ndarray, " channel"]


def grouped(raw: Raw, edf: EdfHeader | None, beside: Sidecars) -> list[Channels]:
    """The channels of an open file by type."""
    table, factor = _described(raw, edf, beside)
    volts = table["unit"] == "V"
    kinds = table["type"].where(volts | ~table["type"].isin(list(VOLTAGES)), "misc")
    return [
        Channels(raw, kind, table[kinds == kind].reset_index(drop=True), factor[kinds == kind])
        for kind in kinds.unique()
    ]


def by_path(groups: list[Channels]) -> dict[str, Channels]:
    """Channels by their type, with the rate where there are several."""
    types = [group.type for group in groups]
    return {
        x.type if types.count(x.type) == 1 else f"{x.type}_{x.raw.info['sfreq']:g}Hz": x
        for x in groups
    }


def _described(
    raw: Raw, edf: EdfHeader | None, beside: Sidecars
) -> tuple[pd.DataFrame, Float[ndarray, " channel"]]:
    """A row for each channel: label, type, unit, bad, position (m); and factors to the unit."""
    said = pd.DataFrame(index=raw.ch_names) if beside.channels is None else _said(raw, beside)
    written, read = _units(raw, edf)
    if "units" in said:
        written = [own or text for own, text in zip(written, said["units"].fillna(""), strict=True)]
    units = [SI.get(text.lower(), (text or "unknown", 1.0)) for text in written]
    bad = np.isin(raw.ch_names, raw.info["bads"])
    columns = {
        "id": np.arange(len(said)),
        "row": np.arange(len(said)),
        "label": np.array(raw.ch_names, object),
        "type": _types(raw, edf, said),
        "unit": [unit for unit, _ in units],
        "bad": bad | (said["status"] == "bad").to_numpy() if "status" in said else bad,
    }
    places = np.array([info["loc"][:3] for info in raw.info["chs"]], float)
    if (np.isfinite(places) & (places != 0)).any():
        columns |= dict(zip(POSITION, places.T, strict=True))
    return pd.DataFrame(columns), np.array([factor for _, factor in units]) / read


def _types(raw: Raw, edf: EdfHeader | None, said: pd.DataFrame) -> list[str]:
    types = raw.get_channel_types()
    if edf is not None:
        types = [_labelled(label, kind) for label, kind in zip(raw.ch_names, types, strict=True)]
    if "type" in said:
        types = said["type"].str.lower().fillna(pd.Series(types, index=said.index))
    return [ALIASES.get(kind, kind) for kind in types]


def _said(raw: Raw, beside: Sidecars) -> pd.DataFrame:
    """Rows of `channels.tsv` for the channels of a file."""
    assert beside.channels is not None
    if not set(raw.ch_names) & set(beside.channels.index):
        raise ValueError(
            f"channels.tsv names {', '.join(beside.channels.index)}, "
            f"the file has {', '.join(raw.ch_names)}"
        )
    return beside.channels.reindex(raw.ch_names)


def _units(raw: Raw, edf: EdfHeader | None) -> tuple[list[str], Float[ndarray, " channel"]]:
    """Unit of each channel as its file writes it, and the factor that MNE has applied to it."""
    if edf is None:
        codes = [int(info["unit"]) for info in raw.info["chs"]]
        return [FIFF_UNITS.get(code, "1") for code in codes], np.ones(len(codes))
    extras = raw._raw_extras[0]  # MNE takes every unit but V, mV and µV for volts
    written = [edf.units[k] for k in extras["sel"]]
    stim = [kind == "stim" for kind in raw.get_channel_types()]
    return ["1" if s else text for s, text in zip(stim, written, strict=True)], extras["units"]


def _labelled(label: str, kind: str) -> str:
    """Type of an EDF channel: what its label begins with ("EEG Fpz-Cz"), else what MNE says."""
    first = label.split(" ")[0].lower()
    return first if first in LABELLED and " " in label else kind
