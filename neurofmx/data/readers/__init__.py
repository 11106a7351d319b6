"""Recordings from files: a reader for each kind of file, by its suffix."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from neurofmx.data.readers.alf import is_alf, open_alf
from neurofmx.data.readers.base import Contents
from neurofmx.data.readers.eeg import open_eeg
from neurofmx.data.readers.eyelink import open_eyelink
from neurofmx.data.readers.nwb import open_nwb
from neurofmx.data.sources.base import Location
from neurofmx.data.sources.local import refuse_zarr
from neurofmx.errors import UserError

READERS: dict[str, Callable[[Location], Contents]] = {
    ".nwb": open_nwb,
    ".edf": open_eeg,
    ".bdf": open_eeg,
    ".vhdr": open_eeg,
    ".fif": open_eeg,
    ".set": open_eeg,
    ".asc": open_eyelink,
}


def opened(places: Sequence[Location]) -> Iterator[tuple[str, Contents]]:
    """The files of a recording by name, each opened as it is asked for.

    ALF spreads a session over many files: they are open as one, under the name of the session.

    Raises:
        UserError, DataError: As `open_contents`.
    """
    alf = [place for place in places if isinstance(place, Path) and is_alf(place)]
    if alf:
        session = open_alf(alf)
        yield session.name, session
    for place in places:
        if place not in alf:
            yield place.name, open_contents(place)


def open_contents(place: Location) -> Contents:
    """An open file; `close` it.

    Raises:
        UserError: There is no such file, or no reader for its kind.
        DataError: It is damaged, or an NWB-Zarr folder.
    """
    if isinstance(place, Path):
        refuse_zarr(place)
    suffix = Path(place.name).suffix.lower()
    if suffix not in READERS:
        known = ", ".join(sorted(READERS))
        raise UserError(f"{place.name}: no reader for {suffix!r} files; there are {known}")
    return READERS[suffix](place)
