"""Recordings from NWB files, read by what their neurodata types say.

Three types carry signals: `Units` (spike times), `TimeSeries` and its kin (traces, counts, places,
calcium, frames) and `TimeIntervals` (trials, epochs); a container of several series can be one
signal. A file that cannot be used is refused here, once, with what is wrong with it;
`nwb_signals` does the same for each signal in it.
"""

import warnings
from pathlib import Path
from typing import Any

import h5py
import pandas as pd
from hdmf.build import ConstructError
from hdmf.common import DynamicTable
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.epoch import TimeIntervals
from pynwb.misc import Units

from neurofmx.data.readers.base import About
from neurofmx.data.readers.nwb_group import members
from neurofmx.data.readers.nwb_guess import guess_modality
from neurofmx.data.readers.nwb_signals import Stream, events, read_signal
from neurofmx.data.readers.nwb_tables import table_of
from neurofmx.data.signal_cards import SignalCard
from neurofmx.data.sources.base import Location
from neurofmx.errors import DataError, UserError
from neurofmx.types import Signal

BAD_FILE = (ConstructError, OSError, RuntimeError, KeyError, TypeError, ValueError)


class NWB:
    """An open NWB file, as `Contents`.

    Args:
        nwb: Read from a file that is open.
        folder: Of the file, where it lies here: videos are beside it.

    Attributes:
        streams: What can carry a signal, by path inside the file.
    """

    def __init__(self, nwb: NWBFile, folder: Path | None):
        self._nwb, self._folder, self.streams, subject = nwb, folder, contents(nwb), nwb.subject
        self.kinds = {path: type(stream).__name__ for path, stream in self.streams.items()}
        self.about = About(
            subject=(subject and subject.subject_id) or "unknown",
            species=(subject and subject.species) or "unknown",
            title=nwb.session_description,
            notes=nwb.notes or "",
            provenance={
                "identifier": nwb.identifier,
                "session_start_time": nwb.session_start_time.isoformat(),
                "session_description": nwb.session_description,
            },
        )

    def guess(self, path: str) -> str | None:
        """From neurodata type, names and unit."""
        return guess_modality(path, self.streams[path])

    def read(self, path: str, card: SignalCard) -> Signal:
        """One signal, in SI units.

        Raises:
            DataError: It cannot be trusted.
        """
        return read_signal(self.streams[path], path, card, self._folder)

    def table(self, name: str) -> pd.DataFrame | None:
        """A table of the file by its name, such as `electrodes`, or None where it has none."""
        tables = [x for x in self._nwb.objects.values() if isinstance(x, DynamicTable)]
        return next((table_of(table) for table in tables if table.name == name), None)

    def close(self) -> None:
        """Close the file."""
        self._nwb.read_io.close()


def contents(nwb: NWBFile) -> dict[str, Stream]:
    """Everything in a file that can carry a signal, by path inside the file, sorted."""
    streams = [x for x in nwb.objects.values() if _carries(x)]
    builder = nwb.read_io.manager.get_builder
    paths = [builder(stream).path.removeprefix("root/") for stream in streams]
    found = dict(zip(paths, streams, strict=True))
    if nwb.units is not None and "obs_intervals" in nwb.units.colnames:
        found["units/obs_intervals"] = nwb.units["obs_intervals"]
    return dict(sorted(found.items()))


def _carries(container: Any) -> bool:
    known = isinstance(container, TimeSeries | TimeIntervals | Units)
    return known or events(container) or bool(members(container))


def open_nwb(place: Location) -> NWB:
    """An NWB file, here or on a server, open for reading.

    Raises:
        UserError: There is no such file.
        DataError: It is not NWB in HDF5, or it is damaged.
    """
    if isinstance(place, Path):
        _check_path(place)
    file = place if isinstance(place, Path) else place.open()
    try:
        hdf5 = h5py.File(file, "r")
    except OSError as error:
        raise DataError(f"{place.name}: {_why_unreadable(place, error)}") from error
    folder = place.parent if isinstance(place, Path) else None
    version = hdf5.attrs.get("nwb_version")
    if version is None:
        hdf5.close()
        raise DataError(f"{place.name}: HDF5 but not NWB (no nwb_version); convert it first")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # inspect and validate report on the file's quality
            return NWB(NWBHDF5IO(file=hdf5, mode="r", load_namespaces=True).read(), folder)
    except BAD_FILE as error:
        hdf5.close()
        raise DataError(
            f"{place.name}: cannot be read as NWB {version}: {error}. "
            "`nwbinspector` tells more about the file."
        ) from error


def _check_path(path: Path) -> None:
    if not path.exists():
        raise UserError(f"{path} does not exist; give an NWB file")
    if path.is_dir():
        raise UserError(f"{path} is a folder; an NWB file is needed here")


def _why_unreadable(place: Location, error: OSError) -> str:
    if not isinstance(place, Path):
        return f"cannot be opened at {place.url}: {error}"
    with place.open("rb") as file:
        hdf5 = file.read(8) == b"\x89HDF\r\n\x1a\n"
    if hdf5:
        return (
            f"HDF5, but cut off or damaged ({place.stat().st_size} bytes): {error}. Fetch it again"
        )
    return "not an HDF5 file; NWB in HDF5 is needed"
