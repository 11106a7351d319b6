"""A dandiset from its card to Zarr: resolved by the command, downloaded and streamed."""

import shutil
from pathlib import Path

import pytest
import yaml
from archive import DANDISET, PUBLISHED, serve

from neurofmx.cli import files
from neurofmx.data import store
from neurofmx.errors import UserError
from neurofmx.stages import base, ingest

SIGNALS = {
    "spikes": {"path": "units", "modality": "spikes"},
    "lfp": {"path": "processing/ecephys/LFP/lfp", "modality": "lfp"},
    "trials": {"path": "intervals/trials", "modality": "trials"},
}


@pytest.fixture
def archive(small_synthetic):
    with serve() as archive:
        for path in sorted(small_synthetic.glob("*.nwb")):
            archive.add(f"sub-{path.stem}/{path.name}", path.read_bytes(), PUBLISHED)
        yield archive


@pytest.fixture
def project(archive, tmp_path, monkeypatch):
    """A folder with a card `x` of the dandiset, resolved."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("dataset: x\n")
    Path("datasets").mkdir()
    source = {"kind": "dandi", "dandiset": DANDISET, "url": archive.url}
    card = {"name": "x", "title": "x", "licence": "CC0 1.0", "source": source}
    card |= {"signals": SIGNALS, "tasks": {}}
    Path("datasets/x.yaml").write_text(yaml.safe_dump(card))
    files.resolve("x")
    return tmp_path


def ingested(access: str) -> dict[str, bytes]:
    """What ingest writes with nothing there before, by name; streaming keeps its cache."""
    shutil.rmtree(base.folder("ingest"))
    ingest.run(ingest.Params(dataset="x", workers=1, access=access))
    written = [path for path in base.folder("ingest").rglob("*") if path.is_file()]
    return {p.as_posix(): p.read_bytes() for p in written if p.name not in base.MEASUREMENTS}


def test_downloaded_and_streamed_recordings_are_equal_to_the_byte(project):
    downloaded = ingested("download")

    assert len(list(Path("storage/raw/x").rglob("*.nwb"))) == 2
    assert len(store.read(Path("storage/ingest/synthetic-1-1.zarr")).signals) == 3
    assert ingested("remfile") == downloaded
    assert ingested("fsspec") == downloaded


def test_a_second_ingest_asks_nothing_of_the_archive(project, archive):
    ingested("download")
    archive.log.clear()
    ingest.run(ingest.Params(dataset="x", workers=1))

    assert archive.log == []


@pytest.mark.parametrize("access", ["download", "remfile"])
def test_an_asset_that_vanished_stops_ingest_by_name(project, archive, access):
    archive.remove(archive.versions[PUBLISHED][0])
    with pytest.raises(UserError, match=r"synthetic-1-1\.nwb has vanished from its archive"):
        ingested(access)
