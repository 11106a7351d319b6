"""Shards are stock WebDataset tars; the index finds every window; damage is named."""

import numpy as np
import pytest
import webdataset
from windows import recording, shards

from neurofmx.data.shards import Sample, Shards, ShardWriter, packed
from neurofmx.errors import DataError, UserError


def test_webdataset_reads_what_we_read(tmp_path):
    made = shards(tmp_path)
    ours = {made[p].key: made[p] for p in made.positions("valid")}
    tar = str(tmp_path / "valid-000000.tar")
    theirs = {s["__key__"]: s for s in webdataset.WebDataset(tar, shardshuffle=False).decode()}

    assert theirs.keys() == ours.keys()
    for key, sample in ours.items():
        assert theirs[key]["json"] == sample.info
        for name, array in sample.arrays.items():
            np.testing.assert_array_equal(theirs[key][f"{name}.npy"], array)


def test_the_same_windows_give_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        shards(tmp_path / folder)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_shard_ends_at_its_size_and_nothing_is_lost(tmp_path):
    writer = ShardWriter(tmp_path, shard_bytes=20_000)
    for number in range(10):
        info = {"recording": "r", "split": "train", "start": 0.0, "stop": 1.0, "dt": {}}
        writer.write(Sample(f"r-{number}", info, {"x.values": np.full(1000, number, np.float32)}))
    index = writer.close()

    assert index["shard"].nunique() > 1
    assert index["key"].tolist() == [f"r-{n}" for n in range(10)]
    assert all(p.stat().st_size <= 20_000 + 1024 for p in tmp_path.glob("*.tar"))
    payloads = {row["key"]: len(payload) for row, payload in packed(tmp_path)}
    assert payloads == dict(zip(index["key"], index["length"], strict=True))


def test_a_shard_that_is_cut_off_is_named_with_the_offset(tmp_path):
    made = shards(tmp_path)
    tar = tmp_path / "test-000000.tar"
    tar.write_bytes(tar.read_bytes()[:5000])

    with pytest.raises(DataError, match=r"test-000000.tar ends before offset \d+"):
        [made[p] for p in made.positions("test")]


def test_a_changed_byte_is_noticed_and_changes_the_index_hash(tmp_path):
    made, other = shards(tmp_path / "a"), shards(tmp_path / "b", [recording(seed=7)])
    assert made.index_hash != other.index_hash
    tar = tmp_path / "a" / "test-000000.tar"
    content = bytearray(tar.read_bytes())
    content[2000] ^= 1
    tar.write_bytes(content)
    with pytest.raises(DataError, match=r"'made-1-\d+' in .*test-000000.tar at offset 0 is not"):
        made[made.positions("test")[0]]


def test_a_missing_shard_is_named(tmp_path):
    made = shards(tmp_path)
    (tmp_path / "train-000000.tar").unlink()
    with pytest.raises(DataError, match=r"train-000000.tar is missing"):
        made[made.positions("train")[0]]


def test_a_folder_without_an_index_says_which_stage_makes_one(tmp_path):
    with pytest.raises(UserError, match="run `neurofmx tokenize` first"):
        Shards(tmp_path)


def test_windows_of_one_recording_are_found(tmp_path):
    made = shards(tmp_path, [recording("a"), recording("b", seed=1, units=4)])
    keys = [made[p].key for p in made.positions("test", ["b"])]
    assert keys
    assert all(key.startswith("b-") for key in keys)
