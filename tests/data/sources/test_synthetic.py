from neurofmx.data.sources.synthetic import SyntheticSource, keep_only

SOURCE = SyntheticSource(subjects=1, recordings=2, units=2, duration=10.0)


def fetched(source, folder):
    return [source.fetch(asset, folder) for asset in source.resolve().assets]


def test_files_are_written_once_with_the_truth_beside_them(tmp_path):
    first = fetched(SOURCE, tmp_path)
    times = [path.stat().st_mtime_ns for path in first]

    assert fetched(SOURCE, tmp_path) == first
    assert [path.stat().st_mtime_ns for path in first] == times
    assert sorted(path.name for path in (tmp_path / "truth").iterdir()) == [
        "synthetic-1-1.npz",
        "synthetic-1-2.npz",
    ]


def test_a_lost_truth_is_written_again_with_equal_bytes(tmp_path):
    source = SOURCE.model_copy(update={"recordings": 1})
    (path,) = fetched(source, tmp_path)
    bytes_before = path.read_bytes()
    (tmp_path / "truth" / "synthetic-1-1.npz").unlink()
    fetched(source, tmp_path)

    assert path.read_bytes() == bytes_before
    assert (tmp_path / "truth" / "synthetic-1-1.npz").exists()


def test_other_settings_are_another_identity():
    asset = SOURCE.resolve().assets[0]
    others = [SOURCE.model_copy(update=change) for change in ({"seed": 1}, {"units": 3})]

    assert len({source.identity(asset) for source in (SOURCE, *others)}) == 3


def test_recordings_that_are_no_longer_asked_for_go(tmp_path):
    fetched(SOURCE, tmp_path)
    keep_only(tmp_path, {"synthetic-1-2"})

    assert [path.name for path in (tmp_path / "source").iterdir()] == ["synthetic-1-2.nwb"]
    assert [path.name for path in (tmp_path / "truth").iterdir()] == ["synthetic-1-2.npz"]
