"""Files on this machine: one file, or what patterns find in a folder."""

from pathlib import Path
from typing import Literal

from neurofmx.data.digests import file_digest
from neurofmx.data.sources.base import Access, Asset, Resolved, Source
from neurofmx.errors import DataError, UserError


class LocalSource(Source):
    """Recordings in a folder, or one file.

    Attributes:
        pattern: Glob of the files below `path`, or several.
    """

    kind: Literal["local"] = "local"
    path: Path
    pattern: str | list[str] = "**/*.nwb"

    def resolve(self) -> Resolved:
        """The files that are there now, with their checksums.

        Raises:
            UserError: The path is absent, or the patterns find nothing.
        """
        root = self.root
        names = [(path.relative_to(root).as_posix(), path) for path in self.found]
        return Resolved(
            [Asset(path=n, size=p.stat().st_size, sha256=file_digest(p)) for n, p in names]
        )

    def fetch(self, asset: Asset, folder: Path, access: Access = "download") -> Path:
        """The file where it lies, if it is still the one that was resolved.

        Raises:
            UserError: It is gone or has changed; the message names it.
        """
        path = self.place(asset, folder)
        if not path.exists():
            raise UserError(f"{path} does not exist, but the manifest pins it; {REPAIR}")
        if path.stat().st_size != asset.size or file_digest(path) != asset.sha256:
            raise UserError(
                f"{path} has changed since it was resolved: {path.stat().st_size} bytes, the "
                f"manifest has {asset.size} bytes with sha256 {asset.sha256[:12]}…; {REPAIR}"
            )
        return path

    def place(self, asset: Asset, folder: Path) -> Path:
        """Where the file lies; nothing is copied."""
        return self.root / asset.path

    @property
    def root(self) -> Path:
        """Folder that the paths of assets are relative to."""
        return self.path.parent if self.path.is_file() else self.path

    @property
    def found(self) -> list[Path]:
        """The files that are there now, sorted."""
        return find(self.path, *([self.pattern] if isinstance(self.pattern, str) else self.pattern))


REPAIR = "bring it back, or take the change over with `neurofmx resolve`"


def find(path: Path, *patterns: str) -> list[Path]:
    """The files at a path, sorted: the file itself, or what the patterns find in the folder.

    Raises:
        UserError: There is no such path, or nothing in it matches.
        DataError: The path is an NWB-Zarr folder.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; source.path is a folder of recordings, or a file")
    refuse_zarr(path)
    matches = {p for pattern in patterns for p in path.glob(pattern)}
    found = [path] if path.is_file() else sorted(p for p in matches if p.is_file())
    if not found:
        raise UserError(f"{path} holds no file that matches {' or '.join(map(repr, patterns))}")
    return found


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
