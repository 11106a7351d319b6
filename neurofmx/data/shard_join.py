"""Shards of many recordings are joined so that their bytes do not depend on who wrote them.

Each recording is first a part: a folder with shards of its own. What the shards of the whole hold
is planned from the indexes of the parts alone, and each is copied from ranges of the parts' bytes,
side by side where Dask has threads.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import dask
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int, Int32
from numpy import ndarray

from neurofmx.data.shard_index import FILE, SCHEMA, coded, tokens_of, write_index
from neurofmx.data.shard_writer import END, LAYOUTS, SHARD_BYTES, shard_name, write_layouts

COPIED = 2**24  # bytes at a time


def join_shards(
    parts: Sequence[Path],
    folder: Path,
    patches: dict[str, int],
    shard_bytes: int = SHARD_BYTES,
    world_size: int = 1,
) -> None:
    """Write the windows of parts, in their order, as one set of shards.

    Args:
        parts: Folders that `ShardWriter` wrote.
        folder: To write to.
        patches: Samples of a token, by signal.
        shard_bytes: A shard is closed at this size.
        world_size: Shards that each split has at least, where it has as many windows.
    """
    table, files, layouts = _joined(parts)
    splits, lengths = coded(table["split"]), table["length"].to_numpy()
    shards, offsets = np.empty(len(table), np.int32), np.empty(len(table), np.int64)
    names, copies = list[str](), []
    for code, split in enumerate(splits[1]):
        rows = np.flatnonzero(splits[0] == code)
        numbers = plan(lengths[rows], shard_bytes, world_size)
        for number, chosen in enumerate(np.split(rows, np.flatnonzero(np.diff(numbers)) + 1)):
            shards[chosen] = len(names)
            offsets[chosen] = np.cumsum(lengths[chosen]) - lengths[chosen]
            names.append(shard_name(split, number))
            copies.append((folder / names[-1], _runs(table, files, chosen)))
    dask.compute(*[dask.delayed(_copy, pure=False)(*copy) for copy in copies])
    new = {
        "shard": pa.DictionaryArray.from_arrays(shards, names).cast(pa.string()),
        "offset": pa.array(offsets),
        "tokens": pa.array(_tokens(table, patches)),
    }
    columns = [new[name] if name in new else table[name] for name in SCHEMA.names]
    write_layouts(layouts, folder)
    write_index(pa.table(columns, SCHEMA), folder)


def plan(
    lengths: Int[ndarray, " window"], shard_bytes: int, at_least: int
) -> Int[ndarray, " window"]:
    """Number of the shard of each window of a split.

    There are as many shards as the size asks for, or as the processes do, where there are so many
    windows. They are filled in order, each with its share of the bytes that are left.
    """
    left, bytes_left = len(lengths), int(lengths.sum())
    count = min(left, max(at_least, -(-bytes_left // shard_bytes)))
    numbers, number, filled, share = np.empty(left, np.int64), 0, 0, bytes_left / count
    for i, length in enumerate(lengths.tolist()):
        full = filled + length > shard_bytes or filled + length / 2 > share
        if filled and (full or left < count - number):
            number, filled = number + 1, 0
            share = bytes_left / max(1, count - number)
        numbers[i] = number
        filled, left, bytes_left = filled + length, left - 1, bytes_left - length
    return numbers


def _joined(parts: Sequence[Path]) -> tuple[pa.Table, list[Path], list[str]]:
    """Windows of all parts, with `source`: the file that each is in; the files; the layouts."""
    tables, files, known = [], list[Path](), dict[str, int]()
    for part in parts:
        table = pq.read_table(part / FILE)
        texts = [json.dumps(layout) for layout in json.loads((part / LAYOUTS).read_text())]
        number = np.array([known.setdefault(t, len(known)) for t in texts] + [-1], np.int32)
        codes, shards = coded(table["shard"])
        source = codes + len(files)
        files += [part / shard for shard in shards]
        place = table.schema.get_field_index("layout")
        table = table.set_column(place, "layout", pa.array(number[table["layout"].to_numpy()]))
        tables.append(table.append_column("source", pa.array(source)))
    return pa.concat_tables(tables), files, list(known)


def _runs(table: pa.Table, files: list[Path], rows: ndarray) -> list[tuple[Path, int, int]]:
    """File, first byte and end of what makes up a shard; neighbours in a part are one run."""
    source, start, length = (table[n].to_numpy()[rows] for n in ("source", "offset", "length"))
    stop = start + length
    apart = (source[1:] != source[:-1]) | (start[1:] != stop[:-1])
    runs = np.split(np.arange(len(rows)), np.flatnonzero(apart) + 1)
    return [(files[source[run[0]]], int(start[run[0]]), int(stop[run[-1]])) for run in runs]


def _copy(path: Path, runs: list[tuple[Path, int, int]]) -> None:
    with path.open("wb") as file:
        for source, start, stop in runs:
            with source.open("rb") as part:
                part.seek(start)
                for at in range(start, stop, COPIED):
                    file.write(part.read(min(COPIED, stop - at)))
        file.write(END)


def _tokens(table: pa.Table, patches: dict[str, int]) -> Int32[ndarray, " window"]:
    tokens = np.zeros(len(table), np.int32)
    for rows, _, counts in tokens_of(table, patches):
        tokens[rows] = counts.sum(axis=1)
    return tokens
