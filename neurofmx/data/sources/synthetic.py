"""Synthetic recordings as a source: written where they are missing, then files like any other."""

import hashlib
import inspect
from pathlib import Path

import h5py

from neurofmx.data import nwb_write, synthetic
from neurofmx.data.cards import SyntheticSource
from neurofmx.data.sources.local import Asset, asset


def assets(source: SyntheticSource, seed: int, folder: Path) -> list[Asset]:
    """The recordings in `folder/source/*.nwb`, their truth in `folder/truth/*.npz`.

    What these settings and this seed have already made is left alone; other files there go.
    """
    found = []
    for recording in synthetic.recordings(source):
        path, truth = folder / "source" / f"{recording}.nwb", folder / "truth" / f"{recording}.npz"
        identifier = _identifier(source, recording, seed)
        if not (truth.exists() and _written_as(path) == identifier):
            synthetic.write_recording(source, recording, seed, identifier, path, truth)
        found.append(asset(path))
    keep_only(folder, set(synthetic.recordings(source)))
    return found


def keep_only(folder: Path, recordings: set[str]) -> None:
    """Remove synthetic files and truth of all but these recordings."""
    for path in [*folder.glob("source/*"), *folder.glob("truth/*")]:
        if path.stem not in recordings:
            path.unlink()


def _identifier(source: SyntheticSource, recording: str, seed: int) -> str:
    """Tells apart what settings, seed and code would write."""
    settings = f"{source.model_dump_json()} {seed} {recording}"
    code = "".join(inspect.getsource(module) for module in (synthetic, nwb_write))
    return f"synthetic-{hashlib.sha256((settings + code).encode()).hexdigest()[:32]}"


def _written_as(path: Path) -> str | None:
    if not path.exists():
        return None
    with h5py.File(path) as file:
        return file["identifier"].asstr()[()]
