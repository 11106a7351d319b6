"""Measure how windows come to a model, beside the limit and what others use, in one run.

    python benchmarks/loader.py [m1 hpc ca1 ssvep demo write start] [--quick]

A section of a data set delivers the same train windows of its recordings, each contender in turn
for some seconds (`loaders.py`), after it has seen that all deliver the same samples. `write` times
the tokenize stage, `start` the beginning of an epoch on an index of up to ten million windows
(`indexes.py`). `demo` is synthetic. Figures go to benchmarks/loader/results.csv, the machine and
the sizes to machine.json beside it. Files are read from the page cache by everyone alike.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import indexes
import loaders
import torch
from delivered import Windows, same_batches, same_windows, size
from measuring import Gate, Section, in_slices, in_turn, run_sections
from runs import Run, remove, shipped, staged

from neurofmx.data.cards import Card
from neurofmx.stages import base, tokenize

RESULTS = Path(__file__).with_suffix("")
MARKS = ("<!-- loader -->", "<!-- /loader -->")  # in README.md
SMALL = {"kind": "synthetic", "subjects": 1, "units": 6, "duration": 60.0}
# What differs from datasets/: the sampler of torch_brain draws windows of one length.
CHANGES: dict[str, dict[str, Any]] = {
    "m1": {"windows": {"duration": 1.5, "step": 0.75, "within": "segments"}},
    "demo": {"windows": {"duration": 2.0, "step": 1.0}},
}
INDEXED = (10**3, 10**4, 10**5, 10**6, 10**7)
PEERS = ("torch_brain", "webdataset")
LIMIT = "numpy mmap"


@contextmanager
def tokenized(run: Run, dataset: str) -> Iterator[Card]:
    """A data set run up to tokenize."""
    changes = CHANGES.get(dataset, {}) | ({"source": SMALL, "adapt": []} if run.quick else {})
    with shipped(run.folder, dataset, **changes) as card:
        staged(tokenize, dataset)()
        yield card


def measure_dataset(dataset: str, section: Section, run: Run) -> None:
    """Windows and tokens per second, ours beside the limit and both peers."""
    torch.set_num_threads(1)
    with tokenized(run, dataset) as card:
        windows = Windows.of(card)
        first = windows.raw(int(windows.positions[0]))
        section.inputs = {
            "synthetic": card.synthetic,
            "windows": len(windows),
            "window_s": windows.length,
            "arrays": {name: list(array.shape) for name, array in first.items()},
            "batch": loaders.BATCH,
        }
        folders = [run.folder / name for name in ("bare", "torch_brain")]
        writers = (loaders.write_bare, loaders.write_torch_brain)
        for folder, write in zip(folders, writers, strict=True):
            folder.mkdir()
            write(windows, folder)
        bare = partial(loaders.bare, windows, folders[0])
        made = {
            "neurofmx": partial(loaders.neurofmx, windows),
            "torch_brain": partial(loaders.torch_brain, windows, folders[1]),
            "webdataset": partial(loaders.webdataset, windows),
        }
        same_batches(windows, made["neurofmx"](0))
        for stream in (bare(True), *(made[peer](0) for peer in PEERS)):
            same_windows(windows, stream)
        limits = {LIMIT: bare(True), f"{LIMIT}, no targets": bare(False)}
        _compare(section, run, windows, {m: one(0) for m, one in made.items()} | limits, 0)
        _compare(section, run, windows, {m: one(2) for m, one in made.items()}, 2)


def _compare(
    section: Section, run: Run, windows: Windows, streams: dict[str, Any], workers: int
) -> None:
    of, ahead = f"{workers} workers", 2 * workers + 1
    taken = in_slices(streams, size, run.size(7, 1), run.size(1.0, 0.05), ahead)
    streams.clear()  # ends their workers
    tokens = float(windows.shards.tokens[windows.positions].mean())
    for method, seconds in taken.items():
        section.figure(f"windows, {of}", method, [1 / s for s in seconds], "windows/s")
        section.figure(f"tokens, {of}", method, [tokens / s for s in seconds], "tokens/s")
    for peer in PEERS:
        section.ratio(of, taken, "neurofmx", peer, 1.0)
    if LIMIT in taken:
        section.ratio(of, taken, "neurofmx", LIMIT, 0.5)


def measure_write(section: Section, run: Run) -> None:
    """Seconds of the tokenize stage and bytes on disk; bytes are the same with any workers."""
    dataset, repeats = run.size("ca1", "demo"), run.size(3, 1)
    written: dict[int, dict[str, str]] = {}

    def write(workers: int) -> None:
        staged(tokenize, dataset, workers=workers)()
        written[workers] = base.read_manifest("tokenize")["files"]

    with tokenized(run, dataset) as card:
        tasks = {"neurofmx, 1 worker": partial(write, 1), "neurofmx, 2 workers": partial(write, 2)}
        taken = in_turn(tasks, repeats, lambda method: remove(base.STORAGE / "tokenize"))
        windows = Windows.of(card)
        sizes = {"neurofmx, all splits": base.size(base.STORAGE / "tokenize")}
        writers = {"numpy mmap": loaders.write_bare, "torch_brain": loaders.write_torch_brain}
        for method, writer in writers.items():
            (folder := run.folder / method).mkdir()
            writer(windows, folder)
            sizes[f"{method}, train"] = base.size(folder)
        section.inputs = {"dataset": dataset, "windows": len(windows.shards)}
    section.seconds("tokenize", taken)
    for method, n in sizes.items():
        section.figure("written", method, [n / 1e6], "MB")
    names = written[1].keys() | written[2].keys()
    differ = sum(written[1].get(name) != written[2].get(name) for name in names)
    gate = Gate("= 0", lambda value: value == 0)
    section.figure("files that differ by workers", "neurofmx", [differ], "files", gate)


def measure_start(section: Section, run: Run) -> None:
    """Seconds and memory from opening a large index to the first batch, and what a step costs."""
    sizes, repeats = run.size(INDEXED, INDEXED[:2]), run.size(5, 1)
    with tokenized(run, run.size("hpc", "demo")) as card:
        section.inputs = {"windows": f"those of {card.name} again and again", "sizes": list(sizes)}
        for n in sizes:
            indexes.write_indexed(base.STORAGE / "tokenize", run.folder / f"{n}", n)
        rounds = [
            {n: _started(run.folder / f"{n}", run.quick) for n in sizes} for _ in range(repeats)
        ]
    for n in sizes:
        for name, (scale, unit, gate) in STARTED.items():
            values = [found[n][name] * scale for found in rounds]
            asked = gate if n == sizes[-1] else None
            section.figure(f"{name}, {n:.0e} windows", "neurofmx", values, unit, asked)
    ratios = [found[sizes[-1]]["step"] / found[sizes[0]]["step"] for found in rounds]
    gate = Gate("≤ 1.25 ×", lambda value: value <= 1.25)
    section.figure("step, most / fewest windows", "neurofmx", ratios, "×", gate)


def _started(folder: Path, quick: bool) -> dict[str, float]:
    """What `indexes.py` says, in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("indexes.py")), str(folder)]
    said = subprocess.run([*command, "5" if quick else "300"], check=True, stdout=subprocess.PIPE)
    return json.loads(said.stdout)


STARTED = {
    "opening to first batch": (1.0, "s", Gate("< 2 s", lambda value: value < 2)),
    "memory for it": (1e-6, "MB", Gate("< 500 MB", lambda value: value < 500)),
    "next epoch": (1.0, "s", Gate("< 2 s", lambda value: value < 2)),
    "step": (1e3, "ms", None),
}
DATASETS = ("m1", "hpc", "ca1", "ssvep", "demo")
SECTIONS = {name: partial(measure_dataset, name) for name in DATASETS}
SECTIONS |= {"write": measure_write, "start": measure_start}


def comes_with() -> str:
    """What a batch of each contender comes with, as Markdown."""
    lines = [f"| a batch comes with | {' | '.join(loaders.COLUMNS)} |", "|---" * 6 + "|"]
    for method, has in loaders.COMES_WITH.items():
        lines.append(f"| {method} | {' | '.join('yes' if one else 'no' for one in has)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_sections(__doc__, SECTIONS, RESULTS, MARKS, comes_with())
