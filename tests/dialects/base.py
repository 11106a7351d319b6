"""Real values to fill small NWB files with, and how such a file is written."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
from hdmf.common import DynamicTableRegion
from pynwb import NWBHDF5IO, NWBFile
from pynwb.file import Subject

START = datetime(2024, 1, 1, tzinfo=UTC)


def new_file(subject: str = "x") -> NWBFile:
    """An empty file."""
    about = Subject(subject_id=subject, species="Mus musculus")
    return NWBFile("test", f"test-{subject}", START, subject=about)


def save(nwb: NWBFile, path: Path) -> Path:
    """Write a file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NWBHDF5IO(path, "w") as io:
        io.write(nwb)
    return path


def stored(path: Path, where: str, rows: slice = slice(None)) -> np.ndarray:
    """An array of a file, read by h5py."""
    with h5py.File(path) as file:
        return file[where][rows]


def spike_trains(data: Path, duration: float = 60.0) -> list[np.ndarray]:
    """Spikes of the rat's 31 units in its first minute (s)."""
    path = data / "rat_hpc_nelpy" / "linear-track.nwb"
    ends = stored(path, "units/spike_times_index")
    trains = np.split(stored(path, "units/spike_times"), ends[:-1])
    first = min(train.min() for train in trains)
    return [np.sort(t[t < first + duration] - first) for t in trains]


def cursor(data: Path, n: int) -> np.ndarray:
    """Velocity of a monkey's cursor, n bins."""
    path = data / "m1_contdata95" / "contdata95-dev.nwb"
    return stored(path, "processing/behavior/cursor_vel/data", slice(n))


def lfp(data: Path, n: int) -> np.ndarray:
    """Potential in premotor cortex at 2 kHz, n samples of one channel."""
    path = data / "affinewarp_mixed" / "premotor-lfp.nwb"
    return stored(path, "processing/ecephys/lfp/data", slice(n))


def trials_of(nwb: NWBFile, columns: dict[str, Sequence], start: np.ndarray, stop: np.ndarray):
    """Give a file a table of trials."""
    for name in columns:
        nwb.add_trial_column(name, name)
    for k in range(len(start)):
        row = {name: values[k] for name, values in columns.items()}
        nwb.add_trial(start_time=float(start[k]), stop_time=float(stop[k]), **row)


def electrodes_of(nwb: NWBFile, n: int, **columns: Sequence) -> DynamicTableRegion:
    """Give a file n electrodes, the last first, and a region that names them all."""
    device = nwb.create_device("probe")
    group = nwb.create_electrode_group("probeA", "a shank", "brain", device)
    for name in columns:
        if name not in ("id", "location"):
            nwb.add_electrode_column(name, name)
    for k in range(n):
        row = {name: values[k] for name, values in columns.items()}
        nwb.add_electrode(**({"location": "unknown"} | row), group=group)
    return nwb.create_electrode_table_region(list(range(n)), "all")


def pose(data: Path, nodes: tuple[str, ...], n: int) -> dict[str, np.ndarray]:
    """Places of a fly's body parts (pixels): time × (x, y) by name."""
    path = data / "other" / "pose_video" / "predictions.analysis.h5"
    names = [name.decode() for name in stored(path, "node_names")]
    tracks = stored(path, "tracks")[0]  # of the first fly: (x, y) × node × time
    return {node: tracks[:, names.index(node), :n].T for node in nodes}


def human_mtl(folder: Path, data: Path) -> list[Path]:
    """A published file of dandiset 000207, as it is."""
    return [data / "other" / "nwb_native" / "sub-4_ses-4_ecephys+image.nwb"]
