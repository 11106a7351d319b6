"""Windows over a network: the same as here, in few requests and within the bound of the cache."""

import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
from ranges import serve
from windows import recording, shards

from neurofmx.data import network
from neurofmx.data.shard_files import GAP, RemoteFiles
from neurofmx.data.shards import Sample, Shards, ShardWriter
from neurofmx.errors import DataError, TransientError, UserError

WINDOW = 2048  # bytes: a block each of JSON and of values, with their headers


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(network, "BACKOFF", 0.0)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Windows of two recordings on this machine."""
    return shards(tmp_path_factory.mktemp("here"), [recording("a"), recording("b", seed=1)])


@pytest.fixture
def many(tmp_path):
    """64 windows of `WINDOW` bytes in one shard, served over HTTP."""
    writer = ShardWriter(tmp_path)
    info = {"recording": "r", "split": "train", "start": 0.0, "stop": 1.0, "dt": {"x": 0.1}}
    for number in range(64):
        writer.write(Sample(f"r-{number:02d}", info, {"x.values": np.full((10, 1), number, "u1")}))
    writer.close()
    with serve(tmp_path) as served:
        yield served


def of_shards(served):
    """Ranges of shards that were asked for since the last time."""
    found = [(a, b) for name, a, b in served.log if name.endswith(".tar")]
    served.log.clear()
    return found


def in_memory(folder: Path) -> str:
    url = f"memory://{folder.name}"
    files = fsspec.filesystem("memory")
    for path in folder.iterdir():
        files.pipe_file(f"{url}/{path.name}", path.read_bytes())
    return url


def check(there: Shards, here: Shards) -> None:
    assert len(there) == len(here)
    assert (there.tasks, there.signals) == (here.tasks, here.signals)
    assert there.channels.equals(here.channels)
    assert there.index.equals(here.index)
    assert there.index_hash == here.index_hash
    for position in np.random.default_rng(0).permutation(len(here)):
        ours, theirs = here[position], there[position]
        assert (ours.key, ours.info) == (theirs.key, theirs.info)
        for name, array in ours.arrays.items():
            np.testing.assert_array_equal(theirs.arrays[name], array, strict=True)
            assert not theirs.arrays[name].flags.writeable


def test_windows_in_a_file_system_of_fsspec_are_those_here(here):
    check(Shards(in_memory(here.folder)), here)


def test_windows_over_http_are_those_here(here):
    with serve(here.folder) as served:
        check(Shards(served.url), here)
        assert all(stop is not None for name, _, stop in served.log if name.endswith(".tar"))


def test_a_file_url_is_a_folder_here(here):
    check(Shards(f"file://{here.folder}"), here)


def test_a_window_that_is_kept_is_not_fetched_again(many):
    there = Shards(many.url)
    for _ in range(2):
        assert there[40].arrays["x.values"][0, 0] == 40
    assert of_shards(many) == [(40 * WINDOW, 41 * WINDOW)]


def test_the_cache_stays_within_its_bound_and_keeps_what_was_used_last(many):
    there = Shards(many.url, cache_mb=3 * WINDOW / 2**20)
    for position in (10, 20, 30, 10, 40):  # 20 has been idle for longest
        there[position]
    of_shards(many)
    for position in (30, 10, 40):
        there[position]
    assert of_shards(many) == []
    there[20]
    assert of_shards(many) == [(20 * WINDOW, 21 * WINDOW)]


def test_windows_in_their_order_come_together(many):
    there = Shards(many.url, cache_mb=WINDOW / 2**20)
    assert [sample.arrays["x.values"][0, 0] for sample in there] == list(range(64))
    assert len(of_shards(many)) == 2


def test_windows_that_will_be_read_are_fetched_in_few_requests(many):
    there = Shards(many.url)
    apart = GAP // WINDOW + 2
    there.fetch([5, 4, 7, 7 + apart])
    assert sorted(of_shards(many)) == [
        (4 * WINDOW, 8 * WINDOW),
        ((7 + apart) * WINDOW, (8 + apart) * WINDOW),
    ]
    assert [there[p].key for p in (5, 4, 7, 7 + apart)] == ["r-05", "r-04", "r-07", "r-41"]
    assert of_shards(many) == []


def test_what_cannot_be_fetched_is_told_when_it_is_read(many):
    there = Shards(many.url)
    (many.folder / "train-000000.tar").unlink()
    there.fetch([1, 2])
    with pytest.raises(DataError, match=r"train-000000.tar at offset 2048: .*'r-01'.* is missing"):
        there[1]


@pytest.mark.parametrize(("kept", "found"), [(3 * WINDOW + 100, 100), (WINDOW, 0)])
def test_a_shard_that_is_cut_off_is_named(many, kept, found):
    there = Shards(many.url)
    tar = many.folder / "train-000000.tar"
    tar.write_bytes(tar.read_bytes()[:kept])
    with pytest.raises(DataError, match=rf"'r-03' .* shard ends after {found} of them"):
        there[3]


def test_a_changed_byte_is_noticed(many):
    there = Shards(many.url)
    tar = many.folder / "train-000000.tar"
    tar.write_bytes(tar.read_bytes().replace(b"\x09" * 10, b"\x08" * 10))
    there[8]
    for _ in range(2):
        with pytest.raises(DataError, match=r"'r-09' .* its checksum is"):
            there[9]


def test_what_comes_over_the_network_again_is_checked_again(many):
    there = Shards(many.url, cache_mb=0.0)
    there[9]
    tar = many.folder / "train-000000.tar"
    tar.write_bytes(tar.read_bytes().replace(b"\x09" * 10, b"\x08" * 10))
    with pytest.raises(DataError, match=r"'r-09' .* its checksum is"):
        there[9]


def test_a_busy_server_is_asked_again_and_in_the_end_named(many):
    there = Shards(many.url)
    many.statuses += [503, 500]
    assert there[3].key == "r-03"
    many.statuses += [503] * network.ATTEMPTS
    with pytest.raises(TransientError, match=r"train-000000.tar cannot be read: 503"):
        there[30]


def test_a_server_that_is_gone_is_transient(many):
    files = RemoteFiles("http://127.0.0.1:9", 1)
    with pytest.raises(TransientError, match=r"127.0.0.1:9/index.parquet cannot be read"):
        files.whole("index.parquet")


def test_a_server_that_refuses_or_knows_no_ranges_is_the_user_s_to_mend(many):
    there = Shards(many.url)
    many.statuses.append(403)
    with pytest.raises(UserError, match="the server answers 403"):
        there[3]
    many.ranges = False
    with pytest.raises(UserError, match="this server knows no ranges; copy the folder here"):
        there[4]


def test_a_url_without_an_index_says_which_stage_makes_one(many):
    with pytest.raises(UserError, match=r"nowhere/index.parquet does not exist: run"):
        Shards(f"{many.url}/nowhere")


def test_views_outlive_the_map_of_their_shard(tmp_path, monkeypatch):
    made = shards(tmp_path, world_size=16)
    whole = [{n: a.copy() for n, a in sample.arrays.items()} for sample in made]
    monkeypatch.setattr("neurofmx.data.shard_files.MAPPED", 2)
    few = Shards(tmp_path)
    assert few.index["shard"].nunique() > 30
    kept = list(few)
    shutil.rmtree(tmp_path)
    for arrays, sample in zip(whole, kept, strict=True):
        for name, array in arrays.items():
            np.testing.assert_array_equal(sample.arrays[name], array)
