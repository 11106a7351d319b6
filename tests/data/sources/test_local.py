import hashlib

import pytest

from neurofmx.data.sources.base import Asset
from neurofmx.data.sources.local import LocalSource
from neurofmx.errors import DataError, UserError

BYTES = b"not read here"
SHA = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def folder(tmp_path):
    for name in ("b.nwb", "sub/a.nwb", "note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(BYTES)
    return tmp_path


def test_a_folder_gives_what_the_pattern_finds_with_checksums(folder):
    assert LocalSource(path=folder).resolve().assets == [
        Asset(path="b.nwb", size=len(BYTES), sha256=SHA),
        Asset(path="sub/a.nwb", size=len(BYTES), sha256=SHA),
    ]


def test_several_patterns_find_each_file_once(folder):
    found = LocalSource(path=folder, pattern=["*.nwb", "**/*.nwb", "*.txt"]).resolve().assets

    assert [asset.path for asset in found] == ["b.nwb", "note.txt", "sub/a.nwb"]


def test_a_single_file_is_a_source(folder):
    source = LocalSource(path=folder / "b.nwb")
    (asset,) = source.resolve().assets

    assert asset.path == "b.nwb"
    assert source.fetch(asset, folder / "unused") == folder / "b.nwb"


def test_a_file_that_is_gone_is_named(folder):
    source = LocalSource(path=folder)
    asset = source.resolve().assets[0]
    (folder / "b.nwb").unlink()
    with pytest.raises(UserError, match=r"b\.nwb does not exist, but the manifest pins it"):
        source.fetch(asset, folder)


def test_a_file_that_has_changed_is_named(folder):
    source = LocalSource(path=folder)
    asset = source.resolve().assets[0]
    (folder / "b.nwb").write_bytes(BYTES[::-1])
    with pytest.raises(UserError, match=r"b\.nwb has changed .* over with `neurofmx resolve`"):
        source.fetch(asset, folder)


def test_an_absent_path_and_an_empty_folder(folder):
    with pytest.raises(UserError, match="nowhere does not exist"):
        LocalSource(path=folder / "nowhere").resolve()
    with pytest.raises(UserError, match=r"holds no file that matches '\*\.abc'"):
        LocalSource(path=folder, pattern="*.abc").resolve()


def test_an_nwb_zarr_folder_is_refused(folder):
    (folder / ".zgroup").write_text("{}")
    with pytest.raises(DataError, match="NWB in Zarr is not read"):
        LocalSource(path=folder).resolve()
