"""`index.parquet`: a row per window, read a column at a time into as few bytes as hold it.

A training run of ten million windows needs their places and sizes and never their names, so strings
become numbers, numbers the smallest type that holds them, and whoever wants it all asks for it.
"""

import hashlib
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Int, Integer, UInt
from numpy import ndarray

from neurofmx.data.digests import file_digest
from neurofmx.errors import UserError

FILE = "index.parquet"
GROUP = 2**17  # rows of a row group: names of a few windows are found without reading all
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("recording", pa.string()),
        ("split", pa.string()),
        ("start", pa.float64()),
        ("stop", pa.float64()),
        ("signals", pa.string()),
        ("tokens", pa.int32()),
        ("layout", pa.int32()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("crc32c", pa.uint32()),
        ("sizes", pa.list_(pa.int32())),
    ]
)
LABELS = ["recording", "split", "signals", "shard"]  # strings of which few differ
DICTIONARY = [*LABELS, "tokens", "layout", "length"]


class Codes(NamedTuple):
    """A column of strings as numbers: the string of a row is `labels[codes[row]]`."""

    codes: UInt[ndarray, " window"]
    labels: list[str]

    def rows(self, labels: Collection[str]) -> Bool[ndarray, " window"]:
        """Which rows have one of these strings."""
        return np.isin(self.labels, list(labels))[self.codes]


def write_index(table: pa.Table, folder: Path) -> None:
    """Write the table of windows."""
    pq.write_table(
        table, folder / FILE, compression="zstd", row_group_size=GROUP, use_dictionary=DICTIONARY
    )


class Index:
    """Columns of an index.

    Args:
        source: The file, or its bytes.
        where: What to call it.

    Raises:
        UserError: Another version of the stage wrote it.
    """

    def __init__(self, source: Path | bytes, where: str):
        self.source = source
        self._file = pq.ParquetFile(self._open(), read_dictionary=LABELS)
        missing = set(SCHEMA.names) - set(self._file.schema_arrow.names)
        if missing:
            raise UserError(
                f"{where} has no column {', '.join(sorted(missing))}: another version of "
                "`neurofmx tokenize` wrote it; run it again"
            )

    def __len__(self) -> int:
        return self._file.metadata.num_rows

    def digest(self) -> str:
        """sha256 of the file."""
        if isinstance(self.source, bytes):
            return hashlib.sha256(self.source).hexdigest()
        return file_digest(self.source)

    def table(self, columns: Sequence[str] = ()) -> pa.Table:
        """Some columns of all windows, or all of them."""
        return pq.ParquetFile(self._open()).read(list(columns) or None)

    def numbers(self, column: str) -> Integer[ndarray, " window"]:
        """A column of integers, in the smallest type that holds them."""
        groups = [self._file.metadata.row_group(g) for g in range(self._file.num_row_groups)]
        place = self._file.schema_arrow.get_field_index(column)
        ranges = [group.column(place).statistics for group in groups]
        low, high = min((r.min for r in ranges), default=0), max((r.max for r in ranges), default=0)
        values, at = np.empty(len(self), smallest(low, high)), 0
        for part in self._parts(column):
            values[at : at + len(part)] = part.to_numpy()
            at += len(part)
        return values

    def codes(self, column: str) -> Codes:
        """A column of `LABELS`."""
        known: dict[str, int] = {}
        codes, at = np.empty(len(self), np.uint8), 0
        for part in self._parts(column):
            rows = [known.setdefault(label, len(known)) for label in part.dictionary.to_pylist()]
            codes = codes.astype(smallest(0, len(known)), copy=False)
            codes[at : at + len(part)] = np.array(rows, codes.dtype)[part.indices.to_numpy()]
            at += len(part)
        return Codes(codes, list(known))

    def strings(self, column: str, rows: Int[ndarray, " row"]) -> list[str]:
        """Of some rows, in their order; reads only the row groups that hold them."""
        sizes = [
            self._file.metadata.row_group(g).num_rows for g in range(self._file.num_row_groups)
        ]
        stops = np.cumsum(sizes)
        group = np.searchsorted(stops, rows, side="right")
        found = np.empty(len(rows), object)
        for g in np.unique(group):
            values = self._file.read_row_group(g, columns=[column]).column(column)
            inside = rows[group == g] - (stops[g] - sizes[g])
            found[group == g] = values.take(pa.array(inside)).to_pylist()
        return found.tolist()

    def _parts(self, column: str) -> Iterator[pa.Array]:
        for batch in self._file.iter_batches(GROUP, columns=[column]):
            yield batch.column(0)
        pa.default_memory_pool().release_unused()

    def _open(self) -> Path | io.BytesIO:
        return io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source


def smallest(low: int, high: int) -> np.dtype:
    """The smallest integer type that holds both."""
    kinds = ("u1", "i1", "u2", "i2", "u4", "i4", "i8")
    return next(np.dtype(k) for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max)


def tokens_of(
    table: pa.Table, patches: Mapping[str, int]
) -> Iterator[tuple[Int[ndarray, " row"], list[str], Int[ndarray, "row signal"]]]:
    """Rows of the windows that hold the same signals, the signals, and the tokens of each.

    Args:
        table: With `signals` and `sizes`.
        patches: Samples of a token, by signal; one that is not full is one too.
    """
    codes, labels = coded(table["signals"])
    for code, label in enumerate(labels):
        rows, names = np.flatnonzero(codes == code), [name for name in label.split(",") if name]
        sizes = table["sizes"].take(pa.array(rows)).combine_chunks().flatten().to_numpy()
        patch = np.array([patches[name] for name in names], int)
        yield rows, names, -(-sizes.reshape(len(rows), len(names)) // patch)


def coded(column: pa.ChunkedArray) -> tuple[Int[ndarray, " row"], list[str]]:
    """Strings as numbers, in the order in which each is first met, and the strings."""
    found = column.combine_chunks().dictionary_encode()
    return found.indices.to_numpy(), found.dictionary.to_pylist()
