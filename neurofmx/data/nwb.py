"""Recordings from NWB files, read by what their neurodata types say.

Three types carry signals: `Units` (spike times), `TimeSeries` and its kin (traces, counts, places,
calcium) and `TimeIntervals` (trials, epochs). A file that cannot be used is refused here, once,
with what is wrong with it; `nwb_signals` does the same for each signal in it.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import h5py
from hdmf.build import ConstructError
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.epoch import TimeIntervals
from pynwb.misc import Units

from neurofmx.data.cards import SignalCard
from neurofmx.data.nwb_signals import Stream, read_signal
from neurofmx.errors import DataError, UserError
from neurofmx.types import Recording, Signal

BAD_FILE = (ConstructError, OSError, RuntimeError, KeyError, TypeError, ValueError)


def recording_id(path: Path) -> str:
    """Id of the recording in a file: its name, with what is unsafe in a key made `_`."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", path.stem)


@contextmanager
def read_nwb(path: Path, signals: dict[str, SignalCard], dataset: str = "") -> Iterator[Recording]:
    """The recording in an NWB file, with the signals that a card names.

    The file is open inside the `with` block only, and sample values are read as they are sliced.

    Args:
        path: An NWB 2 file in HDF5.
        signals: By the name they get.
        dataset: Name of the card.

    Raises:
        UserError: There is no such file.
        DataError: The file, or a signal in it, cannot be used; the message says what and where.
    """
    with closing((nwb := open_nwb(path)).read_io):
        subject = nwb.subject
        yield Recording(
            id=recording_id(path),
            subject=(subject and subject.subject_id) or "unknown",
            species=(subject and subject.species) or "unknown",
            dataset=dataset,
            signals=_read_signals(path, nwb, signals),
            provenance=_provenance(path, nwb),
        )


def _read_signals(path: Path, nwb: NWBFile, cards: dict[str, SignalCard]) -> dict[str, Signal]:
    streams, read = contents(nwb), {}
    for name, card in cards.items():
        if card.path not in streams:
            there = ", ".join(streams) or "nothing usable"
            raise DataError(f"{path.name}: no {card.path!r} (signal {name!r}). There is: {there}")
        try:
            read[name] = read_signal(streams[card.path], card.path, card.modality)
        except DataError as error:
            raise DataError(f"{path.name}: {card.path}: {error}") from error
    return read


def contents(nwb: NWBFile) -> dict[str, Stream]:
    """Everything in a file that can carry a signal, by path inside the file, sorted."""
    streams = [x for x in nwb.objects.values() if isinstance(x, TimeSeries | TimeIntervals | Units)]
    builder = nwb.read_io.manager.get_builder
    paths = [builder(stream).path.removeprefix("root/") for stream in streams]
    return dict(sorted(zip(paths, streams, strict=True)))


def open_nwb(path: Path) -> NWBFile:
    """An NWB file, open for reading; `closing(nwb.read_io)` closes it.

    Raises:
        UserError: There is no such file.
        DataError: It is not NWB in HDF5, or it is damaged.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; give an NWB file")
    refuse_zarr(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; an NWB file is needed here")
    try:
        with h5py.File(path) as file:
            version = file.attrs.get("nwb_version")
    except OSError as error:
        raise DataError(f"{path.name}: {_why_unreadable(path, error)}") from error
    if version is None:
        raise DataError(f"{path.name}: HDF5 but not NWB (it has no nwb_version); convert it first")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # inspect and validate report on the file's quality
            return NWBHDF5IO(path, "r", load_namespaces=True).read()
    except BAD_FILE as error:
        raise DataError(
            f"{path.name}: cannot be read as NWB {version}: {error}. "
            "`nwbinspector` tells more about the file."
        ) from error


def _why_unreadable(path: Path, error: OSError) -> str:
    with path.open("rb") as file:
        hdf5 = file.read(8) == b"\x89HDF\r\n\x1a\n"
    if hdf5:
        return (
            f"HDF5, but cut off or damaged ({path.stat().st_size} bytes): {error}. Fetch it again"
        )
    return "not an HDF5 file; NWB in HDF5 is needed"


def refuse_zarr(path: Path) -> None:
    """Say how to convert NWB-Zarr, which this environment's Zarr cannot read.

    Raises:
        DataError: `path` is a Zarr folder.
    """
    if any((path / name).exists() for name in (".zgroup", ".zmetadata", ".zattrs", "zarr.json")):
        raise DataError(
            f"{path.name}: NWB in Zarr is not read; convert it to HDF5 where hdmf-zarr is "
            "installed: with NWBZarrIO(PATH, 'r') as source, NWBHDF5IO('out.nwb', 'w') as out: "
            "out.export(src_io=source)"
        )


def _provenance(path: Path, nwb: NWBFile) -> dict[str, Any]:
    return {
        "file": path.name,
        "identifier": nwb.identifier,
        "session_start_time": nwb.session_start_time.isoformat(),
        "session_description": nwb.session_description,
        "notes": nwb.notes or "",
    }
