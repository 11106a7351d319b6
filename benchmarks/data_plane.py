"""Measure ingest and align side by side with a limit and with what others use, in one run.

    python benchmarks/data_plane.py [ingest window align memory noop remote] [--quick]

Recordings are made up (`made.py`); peers run as their guides show (`peers.py`). Figures go to
benchmarks/data_plane/results.csv: a row each with median, extremes and repeats, and for a gate
whether it was met; the machine and the sizes to machine.json beside it. Files are read from the
page cache by everyone alike.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import made
import numpy as np
import pandas as pd
import peers
import yaml
import zarr
from measuring import Gate, Section, in_turn, peak_memory, run_sections
from runs import Run, project, remove, staged

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from archive import DANDISET, serve  # the local archive that the tests run against

from neurofmx.data import store
from neurofmx.data.cards import load_card
from neurofmx.data.manifests import resolve, save_manifest
from neurofmx.data.slices import Slices
from neurofmx.project import NO_TELEMETRY
from neurofmx.stages import align, base, ingest

RESULTS = Path(__file__).with_suffix("")
MARKS = ("<!-- data plane -->", "<!-- /data plane -->")  # in README.md, around the gates
COMMAND = [sys.executable, "-m", "neurofmx", "ingest"]
LFP = {"lfp": {"path": "acquisition/lfp", "modality": "lfp"}}
SESSION = LFP | {
    "position": {"path": "processing/behavior/position", "modality": "behavior"},
    "spikes": {"path": "units", "modality": "spikes"},
    "trials": {"path": "intervals/trials", "modality": "trials"},
}
TWO_DEVICES = {
    "eeg": {"path": "acquisition/eeg", "modality": "eeg", "rate": 1000.0},
    "keypoints": {"path": "processing/behavior/keypoints", "modality": "pose", "rate": 1000.0},
    "pulses": {"path": "acquisition/pulses", "modality": "pulses"},
    "eeg_pulses": {"path": "acquisition/eeg_pulses", "modality": "pulses"},
}
CLOCKS = {"amplifier": {"signals": ["eeg"], "device": "eeg_pulses", "reference": "pulses"}}
ACCESS = ("download", "remfile", "fsspec")
BELOW_1_GB = Gate("< 1000 MB", lambda value: value < 1000)


def measure_ingest(section: Section, run: Run) -> None:
    """MB of values per second from one NWB file: ours, the limit, temporaldata's HDF5."""
    path, repeats = run.session(), run.size(7, 1)
    mb = path.stat().st_size / 1e6
    section.inputs = {"file": "96 channels of int16 at 1250 Hz, 100 units", "mb": round(mb, 1)}
    layout = {"chunks": (1250, 96), "shards": (75000, 96), "compressors": peers.codec()}
    with project(run.folder / "ingest", path, SESSION) as folder:
        written = {
            "neurofmx": base.STORAGE / "ingest",
            "h5py + zarr": folder / "limit.zarr",
            "temporaldata": folder / "peer.h5",
        }
        tasks = {
            "neurofmx": staged(ingest),
            "h5py + zarr": lambda: peers.copy_to_zarr(path, written["h5py + zarr"], layout),
            "temporaldata": lambda: peers.write_temporaldata(path, written["temporaldata"]),
        }
        taken = in_turn(tasks, repeats, lambda method: remove(written[method]))
        for method, values in taken.items():
            section.figure("ingest", method, [mb / s for s in values], "MB/s")
            section.figure("written", method, [base.size(written[method]) / 1e6], "MB")
    section.ratio("ingest", taken, "neurofmx", "h5py + zarr", 0.7)
    section.ratio("ingest", taken, "neurofmx", "temporaldata", 1.0)


def measure_window(section: Section, run: Run) -> None:
    """A random second of every signal, from a file that is open, and with opening it."""
    path, repeats, n = run.session(), run.size(31, 1), run.size(20, 5)
    section.inputs = {"file": "as ingest", "windows": f"{n} a repeat when open, 1 with opening"}
    with project(run.folder / "window", path, SESSION) as folder:
        staged(ingest)()
        peers.write_temporaldata(path, folder / "peer.h5")
        readers = {
            "neurofmx": (open_ours, base.STORAGE / "ingest" / "session.zarr"),
            "temporaldata": (peers.open_temporaldata, folder / "peer.h5"),
            "pynapple": (peers.open_pynapple, path),
            "pynwb": (peers.open_pynwb, path),
        }
        _same_window(readers)
        starts = np.random.default_rng(1).uniform(0, run.size(598, 18), (repeats + 1, n))
        cold = in_turn({m: _opened(*how, starts[0, 0]) for m, how in readers.items()}, repeats)
        with contextlib.ExitStack() as stack:
            reads = {m: stack.enter_context(opened(at)) for m, (opened, at) in readers.items()}
            warm = in_turn({m: _windows(read, starts) for m, read in reads.items()}, repeats)
    for name, taken, count in (("window, open", warm, n), ("window, with opening", cold, 1)):
        section.seconds(name, taken, "ms", 1e3 / count)
        for peer, least in (("pynwb", 3.0), ("temporaldata", 1.0), ("pynapple", 1.0)):
            section.ratio(name, taken, "neurofmx", peer, least)


@contextlib.contextmanager
def open_ours(path: Path) -> Iterator[peers.Read]:
    """A store, sliced."""
    slices = Slices(path)

    def read(start: float, stop: float) -> peers.Window:
        found = slices.read(start, stop).signals
        return {
            "lfp": found["lfp"].values,
            "position": found["position"].values,
            "times": found["spikes"].times,
            "unit": found["spikes"].index,
            "trials": found["trials"].start,
        }

    yield read


def _opened(opened: Callable[[Path], Any], path: Path, start: float) -> Callable[[], None]:
    def task() -> None:
        with opened(path) as read:
            read(start, start + 1.0)

    return task


def _windows(read: peers.Read, starts: np.ndarray) -> Callable[[], None]:
    rounds = iter(starts)

    def task() -> None:
        for start in next(rounds):
            read(start, start + 1.0)

    return task


def _same_window(readers: dict[str, tuple[Callable[[Path], Any], Path]]) -> None:
    """Everyone has to read the same samples and spikes, or the comparison means nothing."""
    found = {}
    for method, (opened, path) in readers.items():
        with opened(path) as read:
            window = read(3.0003, 4.0003)
        order = np.lexsort((window["unit"], window["times"]))
        found[method] = {**window, "times": window["times"][order], "unit": window["unit"][order]}
    for method, window in found.items():
        for name in ("lfp", "position", "times", "unit"):
            np.testing.assert_allclose(
                window[name], found["pynwb"][name], rtol=1e-5, err_msg=f"{method}: {name}"
            )


def measure_align(section: Section, run: Run) -> None:
    """EEG with a clock of its own and 30 Hz keypoints onto one grid at 1000 Hz, disk to disk."""
    data, duration, repeats = run.folder / "two.nwb", run.size(3600.0, 20.0), run.size(3, 1)
    made.two_devices(data, duration, 64, 1000.0, drift=50.0)
    section.inputs = {"file": f"{duration:g} s × 64 channels × 1000 Hz, 16 keypoints × 30 Hz"}
    grid = (1.0, 1000.0, round((duration - 2.0) * 1000))
    with project(run.folder / "align", data, TWO_DEVICES, clocks=CLOCKS) as folder:
        staged(ingest)()
        base.write_manifest("validate", "made", base.read_manifest("ingest")["outputs"])
        source = base.STORAGE / "ingest" / "two.zarr"
        written = {f"neurofmx, {n}": base.STORAGE / "align" for n in ("2 workers", "1 worker")}
        written |= {peer: folder / f"{peer}.zarr" for peer in ("xarray", "pynapple")}
        tasks = {
            "neurofmx, 2 workers": staged(align, workers=2),
            "neurofmx, 1 worker": staged(align, workers=1),
            "xarray": lambda: peers.align_xarray(source, written["xarray"], grid),
            "pynapple": lambda: peers.align_pynapple(source, written["pynapple"], grid),
        }
        taken = in_turn(tasks, repeats, lambda method: remove(written[method]))
        _same_eeg(base.STORAGE / "align" / "two.zarr", folder, grid)
    section.seconds("align", taken)
    section.ratio("align", taken, "neurofmx, 2 workers", "xarray", 1.0)
    section.ratio("align", taken, "neurofmx, 2 workers", "pynapple", 1.0)
    section.ratio("align", taken, "neurofmx, 2 workers", "neurofmx, 1 worker", 1.6)


def _same_eeg(ours: Path, folder: Path, grid: peers.Grid) -> None:
    """Everyone has to find the same voltages, but for what the fitted lines differ by."""
    eeg = store.read(ours).signals["eeg"]
    first = round((grid[0] - eeg.t0) * eeg.rate)
    mine = eeg.values[first : first + 1000]
    for path in ("xarray.zarr/eeg/values", "pynapple.zarr/eeg"):
        theirs = zarr.open_array(folder / path, mode="r")[:1000]
        assert np.std(mine - theirs) < 0.05 * np.std(mine), f"{path} is not the same signal"


def measure_memory(section: Section, run: Run) -> None:
    """Peak memory of `neurofmx ingest` on an LFP many times as large."""
    data = run.folder / "long" / "long.nwb"
    duration, channels, rate = run.size(7200.0, 60.0), run.size(384, 64), 2500.0
    filled = run.size(180.0, 10.0)
    size = made.long_lfp(data, duration, channels, rate, filled)
    section.inputs = {
        "file": f"{duration:g} s × {channels} channels × {rate:g} Hz, zeros after {filled:g} s",
        "mb": round(size / 1e6, 1),
    }
    with project(run.folder / "memory", data, LFP) as folder:
        seconds, peak = peak_memory(COMMAND, folder, NO_TELEMETRY)
    section.figure("peak memory", "neurofmx ingest", [peak / 1e6], "MB", BELOW_1_GB)
    section.figure("ingest", "neurofmx ingest", [size / 1e6 / seconds], "MB/s")


def measure_noop(section: Section, run: Run) -> None:
    """Many small recordings: all of them, none of them again, and one more."""
    data, n = run.folder / "small", run.size(1000, 30)
    made.copies(data, n)
    section.inputs = {"files": n, "file": "2 s × 4 channels × 250 Hz"}
    with project(run.folder / "noop", data, LFP) as folder:
        first, _ = peak_memory(COMMAND, folder, NO_TELEMETRY)
        again = [peak_memory(COMMAND, folder, NO_TELEMETRY)[0] for _ in range(run.size(5, 1))]
        made.copies(data, 1, start=n)
        save_manifest(resolve(load_card("made")))
        more, _ = peak_memory(COMMAND, folder, NO_TELEMETRY)
        status = pd.read_parquet(base.STORAGE / "ingest" / "status.parquet")
    section.figure("first ingest", "neurofmx ingest", [first], "s")
    section.figure("nothing to do", "neurofmx ingest", again, "s", Gate("< 5 s", lambda v: v < 5))
    section.figure("one added", "neurofmx ingest", [more], "s")
    computed = float((status["outcome"] == "done").sum())
    gate = Gate("= 1", lambda v: v == 1)
    section.figure("recomputed for one added", "neurofmx ingest", [computed], "recordings", gate)


def measure_remote(section: Section, run: Run) -> None:
    """Whole-file download against streaming, from an archive on this machine."""
    path, repeats = run.session(), run.size(5, 1)
    section.inputs = {
        "file": "as ingest, in a dandiset served by tests/archive.py on this machine",
        "mb": round(path.stat().st_size / 1e6, 1),
    }
    few = {name: SESSION[name] for name in ("position", "spikes")}
    with serve() as archive:
        archive.add("sub-made/session.nwb", path.read_bytes())
        source = {"kind": "dandi", "dandiset": DANDISET, "version": "draft", "url": archive.url}
        for wanted, signals in (("all signals", SESSION), ("spikes and place", few)):
            with project(run.folder / wanted, source, signals) as folder:
                seconds: dict[str, list[float]] = {access: [] for access in ACCESS}
                for _ in range(repeats):
                    for access, taken in seconds.items():
                        archive.log.clear()
                        taken.append(_ingest_by(access, folder))
                        spans = archive.ranges()
                        if len(taken) == repeats:
                            moved = sum(_length(span, path.stat().st_size) for span in spans) / 1e6
                            section.figure(f"moved for {wanted}", access, [moved], "MB")
                            section.figure(f"asked for {wanted}", access, [len(spans)], "requests")
                section.seconds(f"ingest of {wanted}", seconds)


def _ingest_by(access: str, folder: Path) -> float:
    """Seconds of the stage with nothing here yet, in a process beside that of the server."""
    remove(base.STORAGE)
    params = {"dataset": "made", "ingest": {"access": access}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    subprocess.run(COMMAND, check=True, capture_output=True, env=os.environ | NO_TELEMETRY)
    return json.loads((base.STORAGE / "ingest" / "metrics.json").read_text())["seconds"]


def _length(span: str, size: int) -> int:
    """Bytes of a request such as `bytes=0-99`."""
    first, _, last = span.removeprefix("bytes=").partition("-")
    return min(int(last or size - 1), size - 1) - int(first or 0) + 1


SECTIONS = {
    "ingest": measure_ingest,
    "window": measure_window,
    "align": measure_align,
    "memory": measure_memory,
    "noop": measure_noop,
    "remote": measure_remote,
}


if __name__ == "__main__":
    run_sections(__doc__, SECTIONS, RESULTS, MARKS)
