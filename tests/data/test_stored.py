from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec

from neurofmx.data.stored import StoredGroup
from neurofmx.errors import DataError

CODEC = BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle")
VALUES = {
    "shards": (np.arange(150, dtype=np.int16).reshape(50, 3), (4, 3), (12, 3)),
    "gap": (np.repeat([7.5, 0.0, 0.0, 2.5], 10), (5,), (10,)),  # two shards hold only zeros
    "mask": (np.arange(30) % 4 > 0, (8,), (16,)),
    "alone": (np.linspace(0, 1, 11), (4,), None),
    "nothing": (np.zeros((0, 2), np.float32), (4, 2), (8, 2)),
}


def store(folder: Path) -> zarr.Group:
    root = zarr.create_group(folder, attributes={"id": "a"})
    for name, (values, chunks, shards) in VALUES.items():
        array = root.create_array(
            name, shape=values.shape, dtype=values.dtype, chunks=chunks, shards=shards,
            compressors=CODEC, attributes={"start": 3.0},
        )  # fmt: skip
        array[:] = values
    return root


@pytest.mark.parametrize("name", VALUES)
def test_every_slice_is_what_zarr_reads(tmp_path, name):
    array, expected = store(tmp_path / "a.zarr")[name], VALUES[name][0]
    rows = StoredGroup(tmp_path / "a.zarr")[name]

    assert (rows.shape, rows.dtype, rows.attrs) == (array.shape, array.dtype, {"start": 3.0})
    np.testing.assert_array_equal(rows[:], array[:])
    for first in range(len(expected) + 1):
        for stop in range(len(expected) + 2):
            np.testing.assert_array_equal(rows[first:stop], expected[first:stop])


def test_text_and_groups_are_read(tmp_path):
    root = store(tmp_path / "a.zarr")
    array = root.create_array("z/region", shape=(3,), dtype=str, compressors=None)
    array[:] = np.array(["CA1", "", "µ"], np.dtypes.StringDType())
    group = StoredGroup(tmp_path / "a.zarr").groups()["z"]

    assert group["region"][:].tolist() == ["CA1", "", "µ"]
    assert "region" in group
    assert "other" not in group


def test_rows_are_read_in_order(tmp_path):
    store(tmp_path / "a.zarr")
    with pytest.raises(ValueError, match="not in steps of 2"):
        StoredGroup(tmp_path / "a.zarr")["shards"][::2]


@pytest.mark.parametrize("byte", [5, -10], ids=["chunk", "index"])
def test_a_damaged_shard_is_named(tmp_path, byte):
    store(tmp_path / "a.zarr")
    shard = tmp_path / "a.zarr" / "shards" / "c" / "1" / "0"
    content = bytearray(shard.read_bytes())
    content[byte] ^= 0xFF
    shard.write_bytes(content)
    rows = StoredGroup(tmp_path / "a.zarr")["shards"]

    assert rows[:12].tolist() == VALUES["shards"][0][:12].tolist()
    with pytest.raises(DataError, match=r"shards: chunk 3 is damaged"):
        rows[12:24]
