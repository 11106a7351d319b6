"""An index of millions of windows, and what the loader takes to start on it, in a fresh process.

    python benchmarks/indexes.py FOLDER STEPS

prints as JSON the seconds and bytes from opening the folder to the first batch, the seconds of the
next epoch's plan, and the median seconds of STEPS batches.
"""

import gc
import json
import shutil
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from measuring import memory

from neurofmx.data.loader import Collator, Loader
from neurofmx.data.mixture import Phase
from neurofmx.data.plan import Plan
from neurofmx.data.shard_index import SCHEMA, write_index
from neurofmx.data.shards import Shards

TOKENS = (20, 60)  # of a window: fewest and one more than most
STEP = 2560  # tokens, those of 64 windows of 40


def write_indexed(source: Path, folder: Path, n: int) -> None:
    """Shards of `n` windows whose bytes are those of the train windows in `source`, again and
    again; their names and numbers of tokens are made up.
    """
    folder.mkdir(parents=True)
    for path in source.iterdir():
        if path.suffix in (".tar", ".json") or path.name == "channels.parquet":
            shutil.copy(path, folder)
    real = pa.table(Shards(source).index.query("split == 'train'"), SCHEMA)
    place = pa.array(np.arange(n) % len(real))
    columns = {name: _label(real[name]).take(place) for name in SCHEMA.names if name != "key"}
    columns["key"] = pc.binary_join_element_wise(
        "made", pc.cast(pa.array(np.arange(n)), "str"), "-"
    )
    tokens = np.random.default_rng(0).integers(*TOKENS, n, np.int32)
    columns["tokens"] = pa.array(tokens)
    write_index(pa.table({name: columns[name] for name in SCHEMA.names}), folder)


def _label(column: pa.ChunkedArray) -> pa.Array:
    column = column.combine_chunks()
    return column.dictionary_encode() if column.type == pa.string() else column


def measure(folder: Path, steps: int) -> dict[str, float]:
    """What the module says."""
    gc.collect()
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    start = time.perf_counter()
    shards = Shards(folder)
    plan = Plan(shards, shards.positions("train"), 0, [Phase(epochs=100)], tokens_per_step=STEP)
    batches = iter(Loader(plan, Collator(shards, _rows)))
    next(batches)
    seconds, peak = time.perf_counter() - start, memory("VmHWM")
    start = time.perf_counter()
    plan.epoch(1)
    epoch = time.perf_counter() - start
    taken = []
    for _ in range(steps):
        start = time.perf_counter()
        next(batches)
        taken.append(time.perf_counter() - start)
    return {
        "opening to first batch": seconds,
        "memory for it": peak - before,
        "next epoch": epoch,
        "step": statistics.median(taken),
    }


def _rows(signal: str, keys: list, regions: list) -> tuple[list, list]:
    return [0] * len(keys), [0] * len(regions)


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
