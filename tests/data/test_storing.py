import dask
import numpy as np
import pytest
import zarr

from neurofmx.data import storing
from neurofmx.data.stored import StoredGroup
from neurofmx.errors import DataError


@pytest.fixture
def root(tmp_path) -> zarr.Group:
    return zarr.create_group(tmp_path / "a.zarr")


def traces(n: int, kind: type) -> np.ndarray:
    """Noise with a silent stretch that is longer than a shard of 4 kB chunks."""
    values = np.random.default_rng(0).normal(0, 100, (n, 2)).astype(kind)
    values[n // 3 : 2 * n // 3] = 0
    return values


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.float32, np.float64, np.bool_])
@pytest.mark.parametrize("n", [0, 1, 1024, 200_001])
def test_zarr_and_we_read_what_was_written(root, kind, n):
    values = traces(n, kind)
    storing.copy(root, "x", values, 100.0, ("time", "channel"))

    np.testing.assert_array_equal(root["x"][:], values)
    np.testing.assert_array_equal(StoredGroup(root.store.root)["x"][:], values)


def test_a_chunk_holds_a_second_and_a_shard_a_minute(root):
    storing.copy(root, "x", traces(100_000, np.int16), 1500.0, ("time", "channel"))

    assert (root["x"].chunks, root["x"].shards) == ((1500, 2), (90_000, 2))
    files = [p for p in (root.store.root / "x").rglob("*") if p.is_file()]
    assert len(files) == 3  # metadata, 60 s, and the rest


def test_silence_is_not_stored(root):
    storing.copy(root, "x", np.zeros((5000, 3), np.int16), 100.0, ("time", "channel"))

    assert [p.name for p in (root.store.root / "x").rglob("*")] == ["zarr.json"]
    assert not root["x"][:].any()


def test_workers_do_not_change_the_bytes(root):
    for name, scheduler in (("one", "synchronous"), ("many", "threads")):
        with dask.config.set(scheduler=scheduler, num_workers=4):
            storing.copy(root, name, traces(300_000, np.float32), 250.0, ("time", "channel"))
    one, many = (
        {p.relative_to(root.store.root / name): p.read_bytes() for p in files if p.is_file()}
        for name, files in ((n, (root.store.root / n).rglob("*")) for n in ("one", "many"))
    )

    assert one == many


def test_times_without_end_are_refused(root):
    with pytest.raises(DataError, match=r"/spikes: times from 0 to 1e\+12 s span more than"):
        storing.put_times(root.create_group("spikes"), "times", np.array([0.0, 1e12]), "event")
