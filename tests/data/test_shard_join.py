"""Parts become shards of even size, the same whatever the parts' own shards were."""

import tarfile

import numpy as np
import pytest

from neurofmx.data.samples import Sample
from neurofmx.data.shard_join import join_shards, plan
from neurofmx.data.shards import Shards, ShardWriter


@pytest.mark.parametrize(
    ("lengths", "at_least", "numbers"),
    [
        ([40, 40, 40], 1, [0, 0, 1]),  # 100 bytes hold two
        ([40, 40, 40], 3, [0, 1, 2]),
        ([10, 10, 10, 10], 2, [0, 0, 1, 1]),
        ([10, 10], 8, [0, 1]),  # there are no more windows than that
        ([30] * 7, 1, [0, 0, 1, 1, 1, 2, 2]),  # three of even size, not two full ones and a rest
        ([200, 10, 10], 1, [0, 1, 2]),  # larger than a shard
        ([93, 1, 1, 1], 4, [0, 1, 2, 3]),  # by size alone the last three would share one
        ([1, 1, 1, 93], 2, [0, 0, 0, 1]),
    ],
)
def test_shards_are_filled_in_order(lengths, at_least, numbers):
    assert plan(np.array(lengths), 100, at_least).tolist() == numbers


@pytest.mark.parametrize("seed", range(20))
def test_no_process_goes_without_a_shard_and_none_is_too_large(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 50, rng.integers(1, 60))
    at_least = int(rng.integers(1, 20))
    numbers = plan(lengths, 100, at_least)
    sizes = np.bincount(numbers, lengths)
    assert set(np.diff(numbers)) <= {0, 1}
    assert len(sizes) >= min(at_least, len(lengths))
    assert sizes.max() <= 100


def test_shards_are_even():
    lengths = np.random.default_rng(0).integers(1, 10, 1000)
    sizes = np.bincount(plan(lengths, 10**6, 8), lengths)
    assert len(sizes) == 8
    assert np.ptp(sizes) <= 10  # a window


def part(folder, name, splits, shard_bytes=10**9):
    """Windows of 25 samples of `x`, and the later half with 5 events of 2 units too."""
    folder.mkdir(parents=True)
    writer = ShardWriter(folder, shard_bytes)
    for number, split in enumerate(splits):
        info = {"recording": name, "split": split, "start": number, "stop": number + 1}
        arrays = {"x.values": np.full((25, 1), number, np.uint8)}
        if number >= len(splits) / 2:
            arrays |= {"e.events": np.linspace(0, 0.9, 5, dtype="f4"), "e.units": np.arange(5) % 2}
        writer.write(Sample(f"{name}-{number}", info | {"dt": {"x": 0.04}}, arrays), {"e": 2})
    writer.close()
    return folder


SPLITS = ["train"] * 12 + ["valid"] * 3 + ["train"] * 5


@pytest.fixture
def parts(tmp_path):
    return [part(tmp_path / "parts" / name, name, SPLITS) for name in "ab"]


def joined(folder, parts, **more) -> Shards:
    folder.mkdir()
    join_shards(parts, folder, {"x": 10, "e": 1}, **more)
    return Shards(folder)


def test_windows_are_those_of_the_parts_in_their_order(tmp_path, parts):
    made = joined(tmp_path / "made", parts, shard_bytes=20_000)
    before = [sample for folder in parts for sample in Shards(folder)]
    assert len(made) == len(before) == 40
    for ours, theirs in zip(made, before, strict=True):
        assert (ours.key, ours.info) == (theirs.key, theirs.info)
        for name, array in ours.arrays.items():
            np.testing.assert_array_equal(array, theirs.arrays[name], strict=True)


def test_each_shard_is_a_whole_tar_of_its_windows(tmp_path, parts):
    made = joined(tmp_path / "made", parts, shard_bytes=20_000)
    for name, rows in made.index.groupby("shard"):
        with tarfile.open(tmp_path / "made" / name) as tar:
            keys = [n.partition(".")[0] for n in tar.getnames() if n.endswith("json")]
        assert keys == rows["key"].tolist()
        assert {name.partition("-")[0]} == set(rows["split"])
        np.testing.assert_array_equal(rows["offset"], np.cumsum(rows["length"]) - rows["length"])


def test_bytes_do_not_depend_on_the_shards_of_the_parts(tmp_path, parts):
    small = [part(tmp_path / "small" / n, n, SPLITS, shard_bytes=5_000) for n in "ab"]
    assert len(list(small[0].glob("*.tar"))) > 5
    made = [joined(tmp_path / "a", parts), joined(tmp_path / "b", small)]
    assert made[0].index_hash == made[1].index_hash
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_every_split_has_a_shard_for_each_process(tmp_path, parts):
    shards = joined(tmp_path / "made", parts, world_size=8).index.groupby("split")["shard"]
    assert shards.nunique().to_dict() == {"train": 8, "valid": 6}  # of which there are 6 windows


def test_tokens_are_patches_and_events_with_the_ends_of_their_units(tmp_path, parts):
    made = joined(tmp_path / "made", parts)
    # 25 samples are 2.5 patches of 10; 5 events and the two ends of 2 units are 9 tokens.
    assert made.tokens.tolist() == ([3] * 10 + [12] * 10) * 2
    assert made.index["signals"].tolist() == (["x"] * 10 + ["e,x"] * 10) * 2


def test_parts_of_one_shape_share_a_layout(tmp_path, parts):
    made = joined(tmp_path / "made", parts)
    assert len(made._layouts) == 2  # without events and with them
    assert made.index["layout"].tolist() == ([0] * 10 + [1] * 10) * 2
