"""Windows are written one after the other into shards, with an index and their layouts."""

import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from google_crc32c import value as crc32c

from neurofmx.data.samples import Sample, layout_of, pack
from neurofmx.data.shard_index import SCHEMA, write_index

LAYOUTS = "layouts.json"
SHARD_BYTES = 64 * 2**20
SHARED = 8  # windows; a layout that fewer share costs more than it saves
END = bytes(2 * tarfile.BLOCKSIZE)  # two empty blocks end a tar


class ShardWriter:
    """Append windows to `<split>-%06d.tar`; a shard is closed when it reaches `shard_bytes`.

    `Shards` reads what `close` leaves; each sample counts as one token.
    """

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES):
        self.folder, self.shard_bytes = folder, shard_bytes
        self._rows: list[dict[str, Any]] = []
        self._layouts: dict[str, int] = {}
        self._files: dict[str, BinaryIO] = {}
        self._counts: Counter[str] = Counter()

    def write(self, sample: Sample, units: dict[str, int] | None = None) -> None:
        """Append one window to the shard of its split.

        Args:
            units: Number of units of each signal that is given per event.

        Raises:
            DataError: A name is too long for a tar.
        """
        content, sizes = pack(sample), _sizes(sample, units or {})
        layout = json.dumps(layout_of(content).plain())
        file = self._file(sample.info["split"], len(content))
        row = {k: sample.info[k] for k in ("recording", "split", "start", "stop")}
        row |= {"key": sample.key, "crc32c": crc32c(content)}
        row |= {"signals": ",".join(sizes), "sizes": list(sizes.values())}
        row |= {"tokens": sum(sizes.values())}
        row |= {"layout": self._layouts.setdefault(layout, len(self._layouts))}
        row |= {"shard": Path(file.name).name, "offset": file.tell(), "length": len(content)}
        self._rows.append(row)
        file.write(content)

    def close(self) -> None:
        """End every shard, then write the layouts and the index."""
        for split in list(self._files):
            self._end(split)
        users = Counter(row["layout"] for row in self._rows)
        shared = [text for text, layout in self._layouts.items() if users[layout] >= SHARED]
        number = {self._layouts[text]: place for place, text in enumerate(shared)}
        rows = [row | {"layout": number.get(row["layout"], -1)} for row in self._rows]
        write_layouts(shared, self.folder)
        write_index(pa.Table.from_pylist(rows, SCHEMA), self.folder)

    def _file(self, split: str, length: int) -> BinaryIO:
        file = self._files.get(split)
        if file is None or file.tell() + length > self.shard_bytes:
            self._end(split)
            path = self.folder / shard_name(split, self._counts[split])
            file = self._files[split] = path.open("wb")
            self._counts[split] += 1
        return file

    def _end(self, split: str) -> None:
        file = self._files.pop(split, None)
        if file is not None:
            file.write(END)
            file.close()


def _sizes(sample: Sample, units: dict[str, int]) -> dict[str, int]:
    """What tokens are made of, by signal in order of name: samples, or events and the two ends of
    each unit.
    """
    sizes = {}
    for name, array in sorted(sample.arrays.items()):
        signal, _, role = name.rpartition(".")
        if role == "values":
            sizes[signal] = len(array)
        elif role == "events":
            sizes[signal] = len(array) + 2 * units[signal]
    return sizes


def shard_name(split: str, number: int) -> str:
    """As `webdataset` users write it: `train-{000000..000007}.tar`."""
    return f"{split}-{number:06d}.tar"


def write_layouts(layouts: list[str], folder: Path) -> None:
    """A line each."""
    (folder / LAYOUTS).write_text("[\n" + ",\n".join(layouts) + "\n]\n")
