"""Measure things side by side: repeats taken in turn, medians, ratios round by round, gates.

A section of a benchmark is a `Section`. Its figures go to `results.csv`, a row each, and the
machine that it ran on to `machine.json`; sections that did not run keep theirs.
"""

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from runs import Run

COLUMNS = ["section", "figure", "method", "value", "unit", "low", "high", "repeats", "gate", "met"]
PACKAGES = (
    *("dask", "fsspec", "google-crc32c", "h5py", "hdmf", "numpy", "pyarrow", "pynapple", "pynwb"),
    *("remfile", "scipy", "temporaldata", "torch", "torch-brain", "webdataset", "xarray", "zarr"),
    *("causal-conv1d", "mamba-ssm", "mambapy", "transformers"),
)
Seconds = dict[str, list[float]]


@dataclass(frozen=True)
class Gate:
    """What a figure has to be.

    Attributes:
        needed: In words.
        met: Whether a value is enough.
    """

    needed: str
    met: Callable[[float], bool]


@dataclass
class Section:
    """Figures of one section, as they are measured.

    Attributes:
        name: The subcommand.
        busy: Share of the processors (%) that others took before it began.
        inputs: What was measured on, in words and sizes.
    """

    name: str
    busy: float
    inputs: dict[str, Any] = field(default_factory=dict)
    rows: list[tuple[Any, ...]] = field(default_factory=list)

    def figure(
        self,
        name: str,
        method: str,
        values: list[float],
        unit: str,
        gate: Gate | None = None,
    ) -> None:
        """Keep and say the median of `values` with its extremes; a gate says if it is enough."""
        value, low, high = (float(f"{f(values):.4g}") for f in (np.median, min, max))
        asked = (gate.needed, gate.met(float(np.median(values)))) if gate else ("", "")
        self.rows.append((self.name, name, method, value, unit, low, high, len(values), *asked))
        needed = f"  (asked: {asked[0]}{'' if asked[1] else ', NOT MET'})" if gate else ""
        print(f"{self.name}: {name}, {method}: {value:g} {unit}{needed}", flush=True)

    def seconds(self, name: str, taken: Seconds, unit: str = "s", scale: float = 1.0) -> None:
        """Keep what each method took."""
        for method, values in taken.items():
            self.figure(name, method, [v * scale for v in values], unit)

    def ratio(self, name: str, taken: Seconds, ours: str, theirs: str, least: float) -> None:
        """Keep how many times as fast as theirs ours was, round by round; `least` is the gate."""
        ratios = [t / o for o, t in zip(taken[ours], taken[theirs], strict=True)]
        gate = Gate(f"≥ {least:g} ×", lambda value: value >= least)
        self.figure(f"{name}: {theirs} / {ours}", ours, ratios, "×", gate)

    def write(self, folder: Path) -> None:
        """Put the rows in place of those of an earlier run."""
        folder.mkdir(parents=True, exist_ok=True)
        table, machines = folder / "results.csv", folder / "machine.json"
        mine = pd.DataFrame(self.rows, columns=COLUMNS)
        old = pd.read_csv(table, keep_default_na=False) if table.exists() else mine[:0]
        others = old[old["section"] != self.name]
        whole = pd.concat([others, mine]) if len(others) else mine
        whole.sort_values("section", kind="stable").to_csv(table, index=False)
        known = json.loads(machines.read_text()) if machines.exists() else {}
        known[self.name] = {
            "machine": machine() | {"busy_before_percent": self.busy},
            "inputs": self.inputs,
        }
        machines.write_text(json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def run_sections(
    about: str,
    sections: dict[str, Callable[[Section, Run], None]],
    results: Path,
    marks: tuple[str, str],
    below: str = "",
) -> None:
    """The command line of a benchmark: measure sections, write what they found.

    Args:
        about: The script's own words.
        sections: By name.
        results: Folder of the results.
        marks: In README.md, around the gates.
        below: Markdown to put below the gates.
    """
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(sections)}; all by default")
    parser.add_argument("--quick", action="store_true", help="small sizes, one repeat: a trial")
    parser.add_argument("--results", type=Path, default=results, help="folder of the results")
    given = parser.parse_args()
    for name in given.sections or sections:
        section = Section(name, psutil.cpu_percent(0.1 if given.quick else 5.0))
        with tempfile.TemporaryDirectory() as folder:
            sections[name](section, Run(Path(folder), given.quick))
        section.write(given.results.resolve())
    if given.results == results and not given.quick:
        put_between(marks, "\n\n".join(filter(None, [gates_table(results), below])))


def in_turn(
    tasks: dict[str, Callable[[], Any]],
    repeats: int,
    clear: Callable[[str], Any] = lambda name: None,
) -> Seconds:
    """Seconds of each task, one after the other in each of `repeats` rounds.

    What else the machine does then falls on all of them. A first round is not counted.

    Args:
        clear: Takes away what a task wrote the last time; not counted, nor is what the disk has
            left to do by then.
    """
    taken: Seconds = {name: [] for name in tasks}
    for round_ in range(repeats + 1):
        for name, task in tasks.items():
            clear(name)
            os.sync()
            gc.collect()
            start = time.perf_counter()
            task()
            if round_:
                taken[name].append(time.perf_counter() - start)
    return taken


def peak_memory(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, int]:
    """Seconds that a command takes and the largest memory (bytes) of it and all its children.

    The sum of resident sets, looked at every 20 ms; pages that processes share count in each.
    """
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(command, cwd=folder, env=os.environ | environment) as process:
        while process.poll() is None:
            peak = max(peak, _resident(process.pid))
            time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - start, peak


def in_slices(
    streams: dict[str, Iterator[Any]],
    size: Callable[[Any], int],
    repeats: int,
    seconds: float,
    ahead: int,
) -> Seconds:
    """Seconds per thing that streams take to give things, in turn, for some seconds each.

    A first round is not counted.

    Args:
        size: Things in what a stream gives.
        ahead: What a stream may have read before its turn; it is thrown away.
    """
    taken: Seconds = {name: [] for name in streams}
    for round_ in range(repeats + 1):
        for name, stream in streams.items():
            gc.collect()
            for _ in range(ahead):
                next(stream)
            n, start = 0, time.perf_counter()
            while time.perf_counter() - start < seconds:
                n += size(next(stream))
            if round_:
                taken[name].append((time.perf_counter() - start) / n)
    return taken


def gates_table(folder: Path) -> str:
    """The figures that have a gate, as Markdown."""
    rows = pd.read_csv(folder / "results.csv", keep_default_na=False)
    lines = ["| measured | median | lowest to highest | asked for |", "|---|---|---|---|"]
    for row in rows[rows["gate"] != ""].itertuples():
        spread = f"{row.low:g} to {row.high:g} ({row.repeats})" if row.repeats > 1 else ""
        asked = row.gate if row.met in (True, "True") else f"{row.gate}: **not met**"
        figure = f"{row.section}: {row.figure.removeprefix(row.section + ': ')}"
        if " / " not in row.figure and row.method != "neurofmx":
            figure += f", {row.method.removeprefix('neurofmx').strip(', ')}"
        lines.append(f"| {figure} | {row.value:g} {row.unit} | {spread} | {asked} |")
    return "\n".join(lines)


def put_between(marks: tuple[str, str], text: str) -> None:
    """Replace what stands between two marks of README.md."""
    readme = Path(__file__).parents[1] / "README.md"
    before, rest = readme.read_text().split(marks[0])
    _, after = rest.split(marks[1])
    readme.write_text(f"{before}{marks[0]}\n{text}\n{marks[1]}{after}")


def machine() -> dict[str, Any]:
    """What it runs on: processor, cores, memory, versions."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def memory(key: str) -> int:
    """Bytes that this process holds (VmRSS), or has held at most (VmHWM).

    What it has held is its own: `ru_maxrss` of a new process is that of the one that started it.
    """
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(key))
    return int(line.split()[1]) * 1024


def _resident(pid: int) -> int:
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            total += process.memory_info().rss
    except psutil.NoSuchProcess:  # it has just ended
        pass
    return total


def _cpu() -> str:
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line]
    return names[0] if names else platform.processor()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
