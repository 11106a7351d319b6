import gc
import hashlib
import pickle

import h5py
import numpy as np
import pytest
from archive import DANDISET, Fault, serve

from neurofmx.data import network
from neurofmx.data.sources.dandi import DandiSource
from neurofmx.errors import TransientError

VALUES = np.frombuffer(hashlib.shake_256(b"lfp").digest(6_000_000), np.int16).reshape(-1, 4)
BACKENDS = pytest.mark.parametrize("backend", ["remfile", "fsspec"])


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch):
    monkeypatch.setattr(network, "BACKOFF", 0.001)


@pytest.fixture
def archive():
    with serve() as archive:
        yield archive


@pytest.fixture
def stored(archive, tmp_path):
    """An HDF5 file of 6 MB in the archive, as one asset."""
    path = tmp_path / "made.nwb"
    with h5py.File(path, "w") as file:
        file.create_dataset("lfp", data=VALUES, chunks=(25_000, 4))
        file["name"] = "recording"
    archive.add("sub-a/a.nwb", path.read_bytes())
    found = DandiSource(dandiset=DANDISET, version="draft", url=archive.url)
    asset = found.resolve().assets[0]
    archive.log.clear()
    return lambda backend: found.fetch(asset, tmp_path / "raw", backend)


@BACKENDS
def test_a_remote_file_reads_as_the_file_itself(stored, archive, backend):
    with h5py.File(stored(backend).open()) as file:
        assert file["name"].asstr()[()] == "recording"
        np.testing.assert_array_equal(file["lfp"][100_000:125_000], VALUES[100_000:125_000])
        np.testing.assert_array_equal(file["lfp"][:], VALUES)


@BACKENDS
def test_a_slice_does_not_fetch_the_file(stored, archive, backend):
    with h5py.File(stored(backend).open()) as file:
        np.testing.assert_array_equal(file["lfp"][:1000], VALUES[:1000])
    spans = [map(int, span.removeprefix("bytes=").split("-")) for span in archive.ranges()]

    assert sum(stop + 1 - start for start, stop in spans) < 3_000_000


@BACKENDS
def test_what_was_read_is_in_the_cache_of_a_later_process(stored, archive, backend):
    with h5py.File(stored(backend).open()) as file:
        file["lfp"][:]
    archive.log.clear()
    with h5py.File(pickle.loads(pickle.dumps(stored(backend))).open()) as file:
        np.testing.assert_array_equal(file["lfp"][:], VALUES)

    assert archive.ranges() == []


@BACKENDS
@pytest.mark.parametrize("fault", [Fault("status", 503), Fault("drop", 1000), Fault("short", 9)])
def test_a_fault_while_reading_changes_nothing(stored, archive, backend, fault):
    remote = stored(backend)
    file = h5py.File(remote.open())
    archive.faults = [Fault(fault.kind, fault.at, times=2)]

    np.testing.assert_array_equal(file["lfp"][:], VALUES)
    with h5py.File(remote.open()) as again:
        np.testing.assert_array_equal(again["lfp"][:], VALUES)


@BACKENDS
def test_faults_that_last_are_transient_and_leave_nothing_wrong(
    stored, archive, backend, monkeypatch
):
    monkeypatch.setattr("remfile.RemFile._num_request_retries", 1)  # else half a minute
    remote = stored(backend)
    file = remote.open()
    archive.faults = [Fault("drop", 1000, times=1000)]
    with pytest.raises(TransientError, match=r"a\.nwb: bytes 0 to 8 cannot be read"):
        file.read(8)
    archive.faults = []

    assert remote.open().read(8) == b"\x89HDF\r\n\x1a\n"


@BACKENDS
def test_a_lost_connection_is_transient_through_hdf5_too(stored, archive, backend, monkeypatch):
    monkeypatch.setattr("remfile.RemFile._num_request_retries", 1)
    file = h5py.File(stored(backend).open())
    archive.faults = [Fault("drop", 1000, times=1000)]
    with pytest.raises(TransientError, match=r"a\.nwb: bytes"):
        file["lfp"][:]


@BACKENDS
def test_reading_ends_with_the_file(stored, backend):
    file = stored(backend).open()
    size = file.seek(0, 2)
    file.seek(-4, 1)

    assert (file.tell(), len(file.read(100)), file.read(1)) == (size - 4, 4, b"")


def test_collecting_garbage_of_hdf5_does_not_block_reading(stored):
    with h5py.File(stored("fsspec").open()) as file:
        usual = gc.get_threshold()
        gc.set_threshold(50)
        try:
            for start in range(0, len(VALUES), 50_000):
                cycle = [file["lfp"]]
                cycle.append(cycle)
                found = file["lfp"][start : start + 50_000]
                np.testing.assert_array_equal(found, VALUES[start : start + 50_000])
        finally:
            gc.set_threshold(*usual)
