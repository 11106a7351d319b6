"""Data that tests share: real recordings where they lie, and a small synthetic data set."""

import os
from pathlib import Path

import pytest

from neurofmx.data import synthetic
from neurofmx.data.sources.synthetic import SyntheticSource

pytest_plugins = ["devices"]
ROOT = Path(__file__).parents[1]
SMALL = SyntheticSource(subjects=2, recordings=1, units=6, duration=30.0, drift=80.0)


SLOW = ("test_pipeline.py", "test_recordings.py", "test_recordings_all.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first, so that no process is left with one at the end."""
    items.sort(key=lambda item: item.path.name not in SLOW)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real recordings: $NEUROFMX_DATA, or ../shared/data beside the project."""
    folder = Path(os.environ.get("NEUROFMX_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"real recordings are not at {folder}; set NEUROFMX_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def small_synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a few synthetic recordings, `<recording>.nwb` and `truth/<recording>.npz`."""
    folder = tmp_path_factory.mktemp("synthetic")
    for recording in synthetic.recordings(SMALL):
        path, truth = folder / f"{recording}.nwb", folder / "truth" / f"{recording}.npz"
        synthetic.write_recording(SMALL, recording, f"test-{recording}", path, truth)
    return folder
