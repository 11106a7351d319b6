"""Shards are stock WebDataset tars; the index finds every window; damage is named."""

import pickle
import tarfile

import numpy as np
import pandas as pd
import pytest
import webdataset
from windows import card, recording, shards

from neurofmx.data import windows
from neurofmx.data.shards import Sample, Shards, ShardWriter
from neurofmx.errors import DataError, UserError

EVENTS = {
    "spikes": {"path": "units", "modality": "spikes", "tokenizer": "spikes"},
    "lfp": {"path": "lfp", "modality": "lfp"},
    "hand": {"path": "hand", "modality": "behavior"},
    "trials": {"path": "trials", "modality": "trials"},
}


def one(number: int, size: int = 1000, split: str = "train") -> Sample:
    """A window with one array."""
    info = {"recording": "r", "split": split, "start": 0.1, "stop": 1.1, "dt": {"x": 1 / 3}}
    return Sample(f"r-{number}", info, {"x.values": np.full((size, 1), number, np.float32)})


def written(folder, samples) -> Shards:
    writer = ShardWriter(folder)
    for sample in samples:
        writer.write(sample)
    writer.close()
    return Shards(folder)


def same(a: Sample, b: Sample) -> bool:
    assert (a.key, a.info, a.arrays.keys()) == (b.key, b.info, b.arrays.keys())
    for name, array in a.arrays.items():
        assert array.dtype == b.arrays[name].dtype
        np.testing.assert_array_equal(array, b.arrays[name], strict=True)
    return True


@pytest.mark.parametrize("signals", [{}, {"signals": EVENTS}], ids=["counts", "events"])
def test_webdataset_reads_what_we_read(tmp_path, signals):
    made = shards(tmp_path, spec=card(**signals))
    ours = {made[p].key: made[p] for p in made.positions("valid")}
    tar = str(tmp_path / "valid-000000.tar")
    theirs = {s["__key__"]: s for s in webdataset.WebDataset(tar, shardshuffle=False).decode()}

    assert theirs.keys() == ours.keys()
    for key, sample in ours.items():
        assert theirs[key]["json"] == sample.info
        for name, array in sample.arrays.items():
            np.testing.assert_array_equal(theirs[key][f"{name}.npy"], array)


@pytest.mark.parametrize("copies", [1, 8], ids=["walked", "by layout"])
def test_what_is_read_is_what_was_written(tmp_path, copies):
    info = {"recording": "a.b c", "split": "test", "start": 0.1 + 0.2, "stop": 1e4 / 3}
    info["dt"] = {"x": 1 / 3, "long" * 100: 0.1}  # more than one block of JSON
    arrays = {
        "x.values": np.arange(12, dtype=np.uint16).reshape(3, 4).T,  # not contiguous
        "x.mask": np.array([True, False, True, True]),
        "e.values": np.arange(70.0),
        "none.values": np.zeros((0, 3), np.float32),
    }
    samples = [Sample(f"k-{n}", info | {"start": n / 3}, arrays) for n in range(copies)]
    made = written(tmp_path, samples)
    assert made.index["layout"].tolist() == [-1 if copies == 1 else 0] * copies
    for position, sample in enumerate(samples):
        assert same(made[position], sample)


@pytest.mark.parametrize("copies", [1, 8], ids=["walked", "by layout"])
def test_arrays_are_views_that_nobody_can_change_and_aligned(tmp_path, copies):
    made = written(tmp_path, [one(n) for n in range(copies)])
    array = made[0].arrays["x.values"]
    assert array.ctypes.data % 64 == 0
    assert not array.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        array[:] = 0


def test_windows_of_a_shape_share_a_layout_and_events_have_none(tmp_path):
    counted = shards(tmp_path / "counted")
    layouts = counted.index["layout"]
    assert (layouts >= 0).mean() > 0.5  # trials that begin between two samples differ
    for _, rows in counted.index[layouts >= 0].groupby("layout"):
        shapes = {tuple(a.shape for a in counted[p].arrays.values()) for p in rows.index}
        assert len(shapes) == 1
    assert set(shards(tmp_path / "events", spec=card(signals=EVENTS)).index["layout"]) == {-1}


def test_events_are_those_of_the_recording(tmp_path):
    made, aligned = shards(tmp_path, spec=card(signals=EVENTS)), recording()
    sample, spikes = made[made.positions("test")[0]], aligned.signals["spikes"]
    start, stop = sample.info["start"], sample.info["stop"]
    inside = (spikes.times >= start) & (spikes.times < stop)
    np.testing.assert_allclose(
        sample.arrays["spikes.events"], spikes.times[inside] - start, atol=1e-6
    )
    np.testing.assert_array_equal(sample.arrays["spikes.units"], spikes.index[inside])
    assert sample.arrays["spikes.units"].dtype == np.uint16
    assert set(sample.info["dt"]) == {"lfp"}
    assert "lfp.mask" not in sample.arrays  # all is valid


def test_the_same_windows_give_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        shards(tmp_path / folder)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_shard_ends_at_its_size_and_nothing_is_lost(tmp_path):
    writer = ShardWriter(tmp_path, shard_bytes=20_000)
    for number in range(10):
        writer.write(one(number))
    writer.close()
    made = Shards(tmp_path)

    assert made.index["shard"].nunique() > 1
    assert [sample.key for sample in made] == [f"r-{n}" for n in range(10)]
    assert all(path.stat().st_size <= 20_000 + 1024 for path in tmp_path.glob("*.tar"))
    for path in tmp_path.glob("*.tar"):
        with tarfile.open(path) as tar:  # ends where a tar ends
            assert len(tar.getnames()) == 2 * (made.index["shard"] == path.name).sum()


def test_a_name_that_no_tar_can_hold_is_refused(tmp_path):
    sample = one(0)
    long = Sample("r" * 95, sample.info, sample.arrays)
    with pytest.raises(DataError, match=r"rrr.x.values.npy' is too long .* shorten the name"):
        ShardWriter(tmp_path).write(long)


def test_positions_keys_and_sizes(tmp_path):
    made = shards(tmp_path, [recording("a"), recording("b", seed=1, units=4)])
    found = made.positions("test", ["b"])
    assert found.dtype == np.int64
    assert [made[p].key for p in found] == made.keys(found)
    assert {made[p].info["recording"] for p in found} == {"b"}
    assert {made[p].info["split"] for p in found} == {"test"}
    both = np.concatenate([made.positions("test", [name]) for name in "ab"])
    np.testing.assert_array_equal(made.positions("test"), np.sort(both))
    assert len(made.positions("test", ["c"])) == 0
    assert made.keys(reversed(range(len(made)))) == made.index["key"].tolist()[::-1]
    np.testing.assert_array_equal(made.tokens, made.index["tokens"])
    assert made.tokens.dtype == np.int32
    assert len(list(made)) == len(made)


@pytest.mark.parametrize("read_before", [False, True])
def test_a_shard_that_is_cut_off_is_named_with_offset_and_window(tmp_path, read_before):
    made = shards(tmp_path)
    last = made.positions("test")[-1]
    key, offset = made.keys([last])[0], made.index["offset"][last]
    if read_before:
        made[last]  # the shard is mapped now
    tar = tmp_path / "test-000000.tar"
    tar.write_bytes(tar.read_bytes()[: offset + 700])
    message = rf"test-000000.tar at offset {offset}: window '{key}' .* shard ends after 700 of them"
    with pytest.raises(DataError, match=message):
        made[last]
    tar.write_bytes(b"")
    with pytest.raises(DataError, match="ends after 0 of them"):
        Shards(tmp_path)[last]


def test_a_changed_byte_is_noticed_and_changes_the_index_hash(tmp_path):
    made, other = shards(tmp_path / "a"), shards(tmp_path / "b", [recording(seed=7)])
    assert made.index_hash != other.index_hash
    tar = tmp_path / "a" / "test-000000.tar"
    content = bytearray(tar.read_bytes())
    content[2000] ^= 1
    tar.write_bytes(content)
    with pytest.raises(DataError, match=r"offset 0: window 'made-1-\d+' .* its checksum is \w{8}"):
        made[made.positions("test")[0]]


def test_a_window_is_held_to_its_checksum_when_it_is_read_first(tmp_path):
    made = shards(tmp_path)
    position = made.positions("test")[0]
    made[position]
    tar = tmp_path / "test-000000.tar"
    content = bytearray(tar.read_bytes())
    content[2000] ^= 1
    tar.write_bytes(content)
    made[position]
    made.read([position])
    with pytest.raises(DataError, match="its checksum is"):
        Shards(tmp_path)[position]


def test_a_missing_shard_is_named(tmp_path):
    made = shards(tmp_path)
    (tmp_path / "train-000000.tar").unlink()
    with pytest.raises(DataError, match=r"train-000000.tar at offset 0: .* shard is missing"):
        made[made.positions("train")[0]]


def test_a_folder_without_an_index_says_which_stage_makes_one(tmp_path):
    with pytest.raises(UserError, match="run `neurofmx tokenize` first"):
        Shards(tmp_path)


def test_an_index_of_an_older_version_is_refused(tmp_path):
    shards(tmp_path)
    old = pd.read_parquet(tmp_path / "index.parquet").drop(columns=["crc32c", "tokens"])
    old.assign(sha256="").to_parquet(tmp_path / "index.parquet")
    with pytest.raises(UserError, match=r"has no column crc32c, tokens: .* run it again"):
        Shards(tmp_path)


def test_a_copy_in_another_process_reads_the_same_windows_or_none(tmp_path):
    made = shards(tmp_path)
    copy = pickle.loads(pickle.dumps(made))
    assert same(copy[3], made[3])
    content = pickle.dumps(made)
    shards(tmp_path, [recording(seed=7)])
    with pytest.raises(UserError, match=r"index.parquet has changed since it was opened"):
        pickle.loads(content)


def test_the_name_is_the_data_set_s(tmp_path):
    made = shards(tmp_path / "folder")
    assert made.name == "folder"
    (tmp_path / "folder" / "manifest.json").write_text('{"dataset": "demo"}')
    assert Shards(tmp_path / "folder").name == "demo"


def test_values_of_a_window_are_those_that_were_cut(tmp_path):
    made, aligned, spec = shards(tmp_path), recording(), card()
    for position, window in enumerate(windows.cut(aligned, spec)):
        sample = made[position]
        assert (sample.info["start"], sample.info["stop"]) == (window.start, window.stop)
        for name, found in windows.inputs(aligned, spec, window).items():
            np.testing.assert_array_equal(sample.arrays[f"{name}.values"], found.values)


def test_bytes_that_are_no_npy_of_ours_are_never_unpickled(tmp_path):
    evil = np.array([{"a": 1}], object)
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        ShardWriter(tmp_path).write(Sample("k-0", one(0).info, {"x.values": evil}))
