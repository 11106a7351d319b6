"""NWB files on this machine: one file, or what a pattern finds in a folder."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from neurofmx.data.cards import LocalSource, PinnedFile
from neurofmx.data.nwb import refuse_zarr
from neurofmx.errors import UserError


@dataclass(frozen=True)
class Asset:
    """One file of a source: bytes with a checksum."""

    path: Path
    sha256: str
    size: int  # bytes


def assets(source: LocalSource, seed: int = 0, folder: Path | None = None) -> list[Asset]:
    """The files of a local source, as they were pinned where the card pins them.

    Raises:
        UserError: The path is absent, the pattern finds nothing, or a pinned file is absent or
            has changed; the message names it.
    """
    if not source.files:
        return [asset(path) for path in find(source.path, source.pattern)]
    root = root_of(source.path)
    return [_pinned(root / file.path, file) for file in source.files]


def root_of(path: Path) -> Path:
    """Folder that the paths of pinned files are relative to."""
    return path.parent if path.is_file() else path


def find(path: Path, pattern: str = "**/*.nwb") -> list[Path]:
    """The NWB files at a path, sorted: the file itself, or what the pattern finds in the folder.

    Raises:
        UserError: There is no such path, or nothing in it matches.
        DataError: The path is an NWB-Zarr folder.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; source.path is a folder of NWB files, or one file")
    refuse_zarr(path)
    found = [path] if path.is_file() else sorted(p for p in path.glob(pattern) if p.is_file())
    if not found:
        raise UserError(f"{path} holds no file that matches {pattern!r}; NWB files are needed")
    return found


def asset(path: Path) -> Asset:
    """A file with the checksum of what it holds now."""
    with path.open("rb") as file:
        return Asset(path, hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def _pinned(path: Path, pin: PinnedFile) -> Asset:
    if not path.exists():
        raise UserError(f"{path} does not exist, but the card pins it; bring it back or unpin it")
    found = asset(path)
    if found.sha256 != pin.sha256:
        raise UserError(
            f"{path} has changed since it was pinned: {found.size} bytes with sha256 "
            f"{found.sha256[:12]}…, the card has {pin.size} bytes with {pin.sha256[:12]}…. "
            "If the change is meant, write the card again with `neurofmx card`"
        )
    return found
