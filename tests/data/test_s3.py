"""Windows in a bucket: the real client against a server of its own that speaks S3."""

import fsspec
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from windows import recording, shards

from neurofmx.data import network
from neurofmx.data.shards import Shards
from neurofmx.errors import DataError, UserError

URL = "s3://lab/tokenize"


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return shards(tmp_path_factory.mktemp("here"), [recording("a"), recording("b", seed=1)])


@pytest.fixture
def bucket(here, monkeypatch):
    """A file system whose bucket `lab` holds what is here."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    monkeypatch.setattr(network, "BACKOFF", 0.0)
    for key in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{key}", "made")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
    fsspec.filesystem("s3").clear_instance_cache()
    files = fsspec.filesystem("s3")
    files.makedirs("lab", exist_ok=True)
    for path in here.folder.iterdir():
        files.pipe_file(f"{URL}/{path.name}", path.read_bytes())
    yield files
    files.clear_instance_cache()
    server.stop()


def test_windows_of_a_bucket_are_those_of_the_folder(bucket, here):
    there = Shards(URL)
    assert there.index_hash == here.index_hash
    there.fetch(range(0, len(here), 2))
    for position in np.random.default_rng(0).permutation(len(here)).tolist():
        one, other = there[position], here[position]
        assert one.info == other.info
        for name, array in one.arrays.items():
            np.testing.assert_array_equal(array, other.arrays[name])


def test_what_is_cut_off_missing_or_not_there_is_named(bucket, here):
    name, last = "train-000000.tar", here.positions("train")[-1]
    content = (here.folder / name).read_bytes()
    bucket.pipe_file(f"{URL}/{name}", content[: len(content) // 2])
    with pytest.raises(DataError, match=rf"{name} at offset \d+: .* shard ends after 0 of them"):
        Shards(URL)[last]
    bucket.rm(f"{URL}/{name}")
    with pytest.raises(DataError, match=rf"{name} at offset \d+: .* the shard is missing"):
        Shards(URL)[last]
    with pytest.raises(UserError, match=r"s3://lab/none/index.parquet does not exist"):
        Shards("s3://lab/none")
