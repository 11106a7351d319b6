"""What every source does: say which files a data set has, and bring each of them here.

`resolve` alone decides *what* the data is, and alone may ask a network for it; its answer is
committed as a manifest. `fetch` brings the bytes of one file of a manifest and refuses any other.
"""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neurofmx.config import Params
from neurofmx.data.remote import Remote

Access = Literal["download", "remfile", "fsspec"]
Location = Path | Remote


class Asset(Params):
    """One file of a source, as it was when it was resolved.

    Attributes:
        path: Of the file inside its source.
        size: Bytes.
        sha256: Of its bytes; empty for synthetic files, which ingest makes.
        asset_id: Its id in an archive.
    """

    path: str
    size: int = 0
    sha256: str = ""
    asset_id: str = ""


@dataclass(frozen=True)
class Resolved:
    """The files of a source, sorted by path, and the version of the data set that they make up."""

    assets: list[Asset]
    version: str = ""


class Source(Params):
    """Where recordings come from: `kind` is its row of `SOURCES`, its fields decide the files."""

    @abstractmethod
    def resolve(self) -> Resolved:
        """Find the files and their checksums.

        Raises:
            UserError: There is no such source, or nothing in it.
            TransientError: The network failed, again and again.
        """

    @abstractmethod
    def fetch(self, asset: Asset, folder: Path, access: Access = "download") -> Location:
        """Bring one file here, or say where it can be streamed from.

        Args:
            folder: Downloads are kept in it, under the paths of their assets.
            access: Whole-file download, or reading over the network with a cache in `folder`.

        Raises:
            UserError: The file is gone, or its bytes are not those of the manifest.
            TransientError: The network failed, again and again.
        """

    def place(self, asset: Asset, folder: Path) -> Path:
        """Where `fetch` leaves a whole file."""
        return folder / asset.path

    def identity(self, asset: Asset) -> str:
        """What tells a file's content apart: its checksum."""
        return asset.sha256
