import numpy as np
import pandas as pd
import pytest
import xarray

from neurofmx.data import store
from neurofmx.errors import DataError
from neurofmx.types import AlignedRecording, Clock, Events, Intervals, Recording, Samples


def signals() -> dict:
    values = np.arange(700, dtype=np.float32).reshape(350, 2)
    return {
        "lfp": Samples(
            values,
            "V",
            rate=100.0,
            t0=1.5,
            mask=np.arange(350) > 9,
            channels=pd.DataFrame({"id": [4, 7], "location": ["CA1", "CA3"]}),
            modality="lfp",
            source="acquisition/lfp",
        ),
        "pose": Samples(values[:3], "m", times=np.array([0.0, 0.1, 0.3]), modality="pose"),
        "spikes": Events(
            np.array([10.2, 10.9, 12.1]), np.array([0, 2, 0]), pd.DataFrame({"id": [1, 2, 3]})
        ),
        "trials": Intervals(
            np.array([0.0, 2.0]), np.array([1.0, 3.0]), pd.DataFrame({"cue": ["left", None]})
        ),
    }


def recording() -> Recording:
    return Recording("a", "mouse", "Mus musculus", "d", signals(), {"sha256": "0"})


def test_what_is_written_is_read(tmp_path):
    store.write(recording(), tmp_path / "a.zarr", "key")
    read = store.read(tmp_path / "a.zarr")
    lfp, pose, spikes, trials = (read.signals[n] for n in ("lfp", "pose", "spikes", "trials"))

    np.testing.assert_array_equal(lfp.values[:], signals()["lfp"].values)
    np.testing.assert_array_equal(lfp.mask, signals()["lfp"].mask)
    assert (lfp.rate, lfp.t0, lfp.unit, lfp.modality) == (100.0, 1.5, "V", "lfp")
    assert lfp.channels.to_dict("list") == {"id": [4, 7], "location": ["CA1", "CA3"]}
    np.testing.assert_array_equal(pose.times, [0.0, 0.1, 0.3])
    np.testing.assert_array_equal(spikes.index, [0, 2, 0])
    assert trials.columns["cue"].tolist() == ["left", ""]
    assert (read.id, read.subject, read.provenance) == ("a", "mouse", {"sha256": "0"})
    assert store.read_key(tmp_path / "a.zarr") == "key"


def test_the_clocks_of_an_aligned_recording_are_kept(tmp_path):
    clocks = {"camera": Clock(offset=2.0, drift=80.0, residual=1e-5, n_events=9)}
    aligned = AlignedRecording(**vars(recording()), clocks=clocks)
    store.write(aligned, tmp_path / "a.zarr", "key")

    assert store.read(tmp_path / "a.zarr").clocks == clocks


def test_xarray_opens_a_store_without_our_code(tmp_path):
    store.write(recording(), tmp_path / "a.zarr", "key")
    tree = xarray.open_datatree(tmp_path / "a.zarr", engine="zarr", consolidated=False)

    assert tree["lfp"]["values"].dims == ("time", "channel")
    assert float(tree["lfp"]["values"][1, 1]) == 3.0


def test_the_index_of_spikes_gives_the_first_of_each_second(tmp_path):
    store.write(recording(), tmp_path / "a.zarr", "key")
    tree = xarray.open_datatree(tmp_path / "a.zarr", engine="zarr", consolidated=False)

    # Spikes at 10.2, 10.9 and 12.1 s: the first at or after 10, 11 and 12 s.
    assert tree["spikes"]["second_first"].attrs["start"] == 10.0
    assert tree["spikes"]["second_first"].values[:3].tolist() == [0, 2, 2]


def test_equal_recordings_give_equal_files(tmp_path):
    for name in ("a", "b"):
        store.write(recording(), tmp_path / name / "a.zarr", "key")
    files = [
        {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        for root in (tmp_path / "a", tmp_path / "b")
    ]

    assert files[0] == files[1]


def test_a_write_that_fails_leaves_the_old_store(tmp_path):
    class Full:
        shape, dtype = (10, 1), np.dtype(np.float32)

        def __getitem__(self, rows):
            raise OSError(28, "No space left on device")

    store.write(recording(), tmp_path / "a.zarr", "old")
    broken = Recording("a", "m", "s", "d", {"x": Samples(Full(), "V", rate=1.0)})
    with pytest.raises(OSError, match="No space left"):
        store.write(broken, tmp_path / "a.zarr", "new")

    assert store.read_key(tmp_path / "a.zarr") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_no_store_and_a_store_of_another_schema_are_told_apart(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"a\.zarr holds no recording"):
        store.read(tmp_path / "a.zarr")
    store.write(recording(), tmp_path / "a.zarr", "key")
    monkeypatch.setattr(store, "SCHEMA", 99)
    with pytest.raises(DataError, match="this version reads 99; re-run ingest"):
        store.read(tmp_path / "a.zarr")
