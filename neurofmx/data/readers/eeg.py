"""Recordings of potentials on head and muscle through MNE: EDF, BDF, BrainVision, FIF, EEGLAB.

Channels of one type and rate are a signal: `eeg`, `ecog`, `emg`, `eog`, … (`eeg_256Hz` where a type
has several rates, which MNE would else resample to the highest). Time 0 is the first sample of the
file. `annotations` are what the file says of stretches and instants, `events` what BIDS says.
A channel whose file states no voltage is in `misc`, whatever its type.
"""

import configparser
import struct
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Bool, Shaped
from numpy import ndarray

from neurofmx.data.arrays import Rows
from neurofmx.data.readers.base import About
from neurofmx.data.readers.bids import Sidecars, sidecars
from neurofmx.data.readers.edf_header import EdfHeader, read_edf_header
from neurofmx.data.readers.eeg_channels import VOLTAGES, Channels, Raw, by_path, grouped
from neurofmx.data.readers.marks import guess_marks, read_marks
from neurofmx.data.signal_cards import SignalCard
from neurofmx.data.sources.base import Location
from neurofmx.errors import DataError, UserError
from neurofmx.types import Samples, Signal

NOT_READ = ("mag", "grad", "ref_meg")
SKIP = "BAD_ACQ_SKIP"  # MNE fills with zeros what was not recorded
BAD_HEADER = (AssertionError, ArithmeticError, struct.error, configparser.Error)
BAD_FILE = (OSError, RuntimeError, LookupError, TypeError, ValueError, *BAD_HEADER)

Marks: TypeAlias = tuple[ndarray, ndarray, pd.DataFrame, str]  # as `read_marks` takes them


class Segments(Rows):
    """Rows of some channels of a recording that MNE has open, in their unit.

    Only stretches are read, never scattered rows.
    """

    def __init__(self, channels: Channels):
        super().__init__(channels.raw)
        self.rows, self.factor = channels.table["row"].to_numpy(), channels.factor
        self.shape = (int(channels.raw.n_times), len(self.rows))
        self.dtype = np.dtype(np.float32)  # as exact as the 24 bits of the finest amplifiers

    def __getitem__(self, rows: slice) -> Shaped[ndarray, "time channel"]:
        first, stop, step = rows.indices(len(self))
        if step != 1:
            raise IndexError(f"rows {rows} are no stretch of samples")
        if stop <= first:
            return np.zeros((0, self.shape[1]), self.dtype)
        try:
            block = self.stored.get_data(self.rows, first, stop, verbose="error")
        except BAD_FILE as error:
            raise DataError(f"samples {first} to {stop} cannot be read: {error}") from error
        return np.ascontiguousarray(block.T * self.factor, self.dtype)


class EEG:
    """An open file of potentials, as `Contents`.

    Args:
        raws: Of one file, a rate each.
        edf: Header of an EDF or BDF file.
        beside: Its BIDS sidecars.
    """

    def __init__(self, raws: list[Raw], edf: EdfHeader | None, beside: Sidecars):
        self._raws = raws
        self._groups = by_path([c for raw in raws for c in grouped(raw, edf, beside)])
        self._marks = _annotations(raws[0]) | _events(beside)
        self.kinds = {path: group.type for path, group in self._groups.items()}
        self.kinds |= {path: f"{len(marks[0])} marks" for path, marks in self._marks.items()}
        self.about = _about(raws[0], beside)

    def guess(self, path: str) -> str | None:
        """From the type of the channels; events are trials where one of them lasts."""
        if path in self._marks:
            return guess_marks(*self._marks[path][:2])
        kind = self._groups[path].type
        return None if kind in NOT_READ else VOLTAGES.get(kind, "behavior")

    def read(self, path: str, card: SignalCard) -> Signal:
        """One signal, in SI units.

        Raises:
            DataError: It is not of the card's modality, or a time in it is missing.
        """
        if path in self._marks:
            return read_marks(*self._marks[path], card.modality, path)
        if card.modality in ("spikes", "trials", "pulses"):
            raise DataError(f"holds samples, which are no {card.modality}; mend the card")
        group = self._groups[path]
        units = group.table["unit"].unique()
        return Samples(
            Segments(group),
            units[0] if len(units) == 1 else "mixed",
            rate=float(group.raw.info["sfreq"]),
            mask=_recorded(group.raw),
            channels=group.table.drop(columns="row"),
            modality=card.modality,
            source=path,
        )

    def close(self) -> None:
        """Close the file."""
        for raw in self._raws:
            raw.close()


def open_eeg(place: Location) -> EEG:
    """A file of potentials, open for reading, with what BIDS says beside it.

    Raises:
        UserError: There is no such file, or it is not on this machine.
        DataError: It is damaged, discontinuous, or not of the kind that its suffix says.
    """
    if not isinstance(place, Path):
        raise UserError(f"{place.name}: EEG is not streamed; ingest it with `access: download`")
    if not place.is_file():
        raise UserError(f"{place} is no file; give an EEG recording")
    edf = _edf_header(place) if place.suffix.lower() in (".edf", ".bdf") else None
    beside = sidecars(place)
    kind = beside.about.get("RecordingType", "continuous")
    if kind != "continuous":
        raise DataError(f"{place.name}: BIDS calls it {kind}; a continuous recording is needed")
    try:
        return EEG(_raws(place, edf), edf, beside)
    except BAD_FILE as error:
        raise DataError(f"{place.name}: cannot be read: {error}") from error


def _edf_header(path: Path) -> EdfHeader:
    with path.open("rb") as file:
        if file.read(11) == b"SR_RESEARCH":
            raise DataError(
                f"{path.name}: is an EyeLink recording, not EEG; convert it with SR Research's "
                f"`edf2asc {path.name}` and read the .asc"
            )
    return read_edf_header(path)


def _raws(path: Path, edf: EdfHeader | None) -> list[Raw]:
    """The open file; where channels differ in rate once for each rate, with those that have it."""
    import mne  # takes seconds

    if edf is None or len(edf.by_count) < 2:
        return [mne.io.read_raw(path, preload=False, verbose="error")]
    labels = [label for same in edf.by_count for label in same]
    if len(set(labels)) < len(labels):
        raise ValueError("channels of different rates share a label; rename them")
    return [
        mne.io.read_raw(path, preload=False, include=same, verbose="error")
        for same in edf.by_count[::-1]
    ]


def _recorded(raw: Raw) -> Bool[ndarray, " time"] | None:
    """False where acquisition was paused, or None where it never was."""
    skips = {k for k, text in enumerate(raw.annotations.description) if text.startswith(SKIP)}
    if not skips:
        return None
    mask, (start, stop, *_) = np.ones(raw.n_times, bool), _annotations(raw)["annotations"]
    for k in skips:
        first, last = (round(t[k] * raw.info["sfreq"]) for t in (start, stop))
        mask[max(0, first) : last] = False
    return mask


def _annotations(raw: Raw) -> dict[str, Marks]:
    notes = raw.annotations
    if not len(notes):
        return {}
    first = raw.first_time if notes.orig_time is not None else 0.0
    start = np.asarray(notes.onset, np.float64) - first
    table = pd.DataFrame({"description": np.array(notes.description, object)})
    return {"annotations": (start, start + notes.duration, table, "description")}


def _events(beside: Sidecars) -> dict[str, Marks]:
    table = beside.events
    if table is None or table.empty:
        return {}
    if not {"onset", "duration"} <= set(table):
        raise ValueError(f"events.tsv needs onset and duration; it has {', '.join(table)}")
    start = pd.to_numeric(table["onset"]).to_numpy(np.float64)
    lasts = pd.to_numeric(table["duration"]).fillna(0.0).to_numpy(np.float64)
    columns = table.drop(columns=["onset", "duration"])
    label = next((x for x in ("trial_type", "value", *columns) if x in columns), "id")
    columns = columns if len(columns.columns) else pd.DataFrame({"id": np.arange(len(table))})
    return {"events": (start, start + lasts, columns, label)}


def _about(raw: Raw, beside: Sidecars) -> About:
    """From BIDS, or else from the file; neither tells the species by default."""
    began, patient = raw.info["meas_date"], (raw.info["subject_info"] or {}).get("his_id", "")
    words = (beside.dataset.get("Name"), beside.about.get("TaskName"))
    dataset = {"licence": "License", "citation": "DatasetDOI"}
    notes = [f"{k}: {beside.dataset[key]}" for k, key in dataset.items() if key in beside.dataset]
    facts = beside.about | {k: v for k, v in beside.participant.items() if k != "species"}
    plain = {k: v for k, v in facts.items() if isinstance(v, str | int | float)}
    return About(
        subject=beside.subject or (patient if patient not in ("", "X") else "unknown"),
        species=beside.participant.get("species", "unknown"),
        title=": ".join(word for word in words if word),
        notes="\n".join([*notes, *filter(None, [beside.about.get("TaskDescription")])]),
        provenance=({} if began is None else {"session_start_time": began.isoformat()}) | plain,
    )
