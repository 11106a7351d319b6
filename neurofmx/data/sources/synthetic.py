"""Synthetic recordings as a source: written where they are missing, then files like any other."""

import hashlib
import inspect
from pathlib import Path
from typing import Literal

import h5py

from neurofmx.data.sources.base import Access, Asset, Resolved, Source


class SyntheticSource(Source):
    """NWB files that `neurofmx.data.synthetic` writes, with the truth beside them.

    Attributes:
        subjects: How many animals.
        recordings: Of each animal.
        units: Of each recording.
        duration: Length of each recording (s).
        drift: Parts per million by which the camera's clock runs slow.
        seed: Of everything random in them.
    """

    kind: Literal["synthetic"] = "synthetic"
    subjects: int = 2
    recordings: int = 2
    units: int = 40
    duration: float = 300.0
    drift: float = 80.0
    seed: int = 0

    def resolve(self) -> Resolved:
        """The names of the files; their bytes follow from the card and the code, not from a pin."""
        from neurofmx.data import synthetic  # which builds recordings from this class

        return Resolved([Asset(path=f"{name}.nwb") for name in synthetic.recordings(self)])

    def fetch(self, asset: Asset, folder: Path, access: Access = "download") -> Path:
        """Write `folder/source/<recording>.nwb` and `folder/truth/<recording>.npz`.

        What these settings have already made is left alone.
        """
        from neurofmx.data import synthetic

        path, truth = self.place(asset, folder), folder / "truth" / f"{Path(asset.path).stem}.npz"
        identifier = self.identity(asset)
        if not (truth.exists() and _written_as(path) == identifier):
            synthetic.write_recording(self, path.stem, identifier, path, truth)
        return path

    def place(self, asset: Asset, folder: Path) -> Path:
        """Beside the folder of truths."""
        return folder / "source" / asset.path

    def identity(self, asset: Asset) -> str:
        """Tells apart what settings and code would write."""
        from neurofmx.data import nwb_write, synthetic

        code = "".join(inspect.getsource(module) for module in (synthetic, nwb_write))
        whole = f"{self.model_dump_json()} {asset.path} {code}"
        return f"synthetic-{hashlib.sha256(whole.encode()).hexdigest()[:32]}"


def keep_only(folder: Path, recordings: set[str]) -> None:
    """Remove synthetic files and truth of all but these recordings."""
    for path in [*folder.glob("source/*"), *folder.glob("truth/*")]:
        if path.stem not in recordings:
            path.unlink()


def _written_as(path: Path) -> str | None:
    if not path.exists():
        return None
    with h5py.File(path) as file:
        return file["identifier"].asstr()[()]
