import hashlib

import pytest

from neurofmx.data.cards import LocalSource, PinnedFile, SyntheticSource
from neurofmx.data.sources import SOURCES
from neurofmx.errors import DataError, UserError

BYTES = b"not read here"
SHA = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def folder(tmp_path):
    for name in ("b.nwb", "sub/a.nwb", "note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(BYTES)
    return tmp_path


def found(source, folder):
    return SOURCES[source.kind](source, 0, folder)


def test_a_folder_gives_what_the_pattern_finds_with_checksums(folder):
    assets = found(LocalSource(path=folder), folder)

    assert [asset.path.name for asset in assets] == ["b.nwb", "a.nwb"]
    assert {(asset.sha256, asset.size) for asset in assets} == {(SHA, len(BYTES))}


def test_a_single_file_is_a_source_with_or_without_a_pin(folder):
    path = folder / "b.nwb"
    pin = PinnedFile(path="b.nwb", size=len(BYTES), sha256=SHA)

    assert [asset.path for asset in found(LocalSource(path=path), folder)] == [path]
    assert [asset.path for asset in found(LocalSource(path=path, files=[pin]), folder)] == [path]


def test_only_pinned_files_are_taken(folder):
    pin = PinnedFile(path="sub/a.nwb", size=len(BYTES), sha256=SHA)
    assets = found(LocalSource(path=folder, files=[pin]), folder)

    assert [asset.path.name for asset in assets] == ["a.nwb"]


def test_a_pinned_file_that_is_gone_is_named(folder):
    pin = PinnedFile(path="c.nwb", size=1, sha256="0")
    with pytest.raises(UserError, match=r"c\.nwb does not exist, but the card pins it"):
        found(LocalSource(path=folder, files=[pin]), folder)


def test_a_pinned_file_that_has_changed_is_named(folder):
    pin = PinnedFile(path="b.nwb", size=1, sha256="0" * 64)
    with pytest.raises(UserError, match=r"b\.nwb has changed .* again with `neurofmx card`"):
        found(LocalSource(path=folder, files=[pin]), folder)


def test_an_absent_path_and_an_empty_folder(folder):
    with pytest.raises(UserError, match="nowhere does not exist"):
        found(LocalSource(path=folder / "nowhere"), folder)
    with pytest.raises(UserError, match=r"holds no file that matches '\*\.abc'"):
        found(LocalSource(path=folder, pattern="*.abc"), folder)


def test_an_nwb_zarr_folder_is_refused(folder):
    (folder / ".zgroup").write_text("{}")
    with pytest.raises(DataError, match="NWB in Zarr is not read"):
        found(LocalSource(path=folder), folder)


def test_synthetic_files_are_written_once_and_others_go(tmp_path):
    source = SyntheticSource(subjects=1, recordings=2, units=2, duration=10.0)
    first = found(source, tmp_path)
    times = [asset.path.stat().st_mtime_ns for asset in first]
    stale = tmp_path / "truth" / "synthetic-9-9.npz"
    stale.write_bytes(b"")
    second = found(source, tmp_path)

    assert second == first
    assert [asset.path.stat().st_mtime_ns for asset in second] == times
    assert not stale.exists()
    assert {path.name for path in (tmp_path / "truth").iterdir()} == {
        "synthetic-1-1.npz",
        "synthetic-1-2.npz",
    }


def test_other_settings_or_a_lost_truth_write_the_files_again(tmp_path):
    source = SyntheticSource(subjects=1, recordings=1, units=2, duration=10.0)
    first = found(source, tmp_path)
    (tmp_path / "truth" / "synthetic-1-1.npz").unlink()

    assert found(source, tmp_path) == first  # equal bytes
    assert (tmp_path / "truth" / "synthetic-1-1.npz").exists()
    assert SOURCES["synthetic"](source, 1, tmp_path)[0].sha256 != first[0].sha256
    assert found(source.model_copy(update={"units": 3}), tmp_path)[0].sha256 != first[0].sha256
