"""What other libraries do with the same recordings, each in the way that its own guides show."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pynapple as nap
import xarray as xr
import zarr
from numpy import ndarray
from pynwb import NWBHDF5IO, NWBFile
from temporaldata import ArrayDict, Data, Interval, IrregularTimeSeries, RegularTimeSeries
from zarr.codecs import BloscCodec

Window = dict[str, ndarray]
Read = Callable[[float, float], Window]


def copy_to_zarr(source: Path, target: Path, layout: dict[str, Any]) -> None:
    """The limit of an ingest to Zarr: read with h5py, write with the codec and layout of ours.

    Args:
        layout: `chunks`, `shards` and `compressors` of the LFP.
    """
    codec = layout["compressors"]
    with h5py.File(source) as file:
        root, lfp = zarr.create_group(target, overwrite=True), file["acquisition/lfp/data"]
        array = root.create_array("lfp", shape=lfp.shape, dtype=lfp.dtype, **layout)
        step = layout["shards"][0]
        for first in range(0, len(lfp), step):
            array[first : first + step] = lfp[first : first + step]
        for path in ("units/spike_times", "units/spike_times_index", *POSITION):
            values = file[path][:]
            root.create_array(path.replace("/", "_"), data=values, compressors=codec)


POSITION = ("processing/behavior/position/data", "processing/behavior/position/timestamps")


def codec() -> BloscCodec:
    """As the stores of this project have it."""
    return BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle")


def write_temporaldata(source: Path, target: Path) -> None:
    """NWB to HDF5 as torch_brain's and brainsets' pipelines do: read whole, scale, `to_hdf5`."""
    with NWBHDF5IO(source, "r") as file:
        nwb = file.read()
        lfp, position = nwb.acquisition["lfp"], nwb.processing["behavior"]["position"]
        spikes = nwb.units.spike_times_index[:]
        trials = nwb.trials
        data = Data(
            lfp=RegularTimeSeries(
                values=lfp.data[:] * np.float32(lfp.conversion),
                sampling_rate=lfp.rate,
                domain_start=float(lfp.starting_time),
            ),
            position=IrregularTimeSeries(
                timestamps=position.timestamps[:], values=position.data[:], domain="auto"
            ),
            spikes=_spikes(spikes),
            units=ArrayDict(id=np.arange(len(spikes))),
            trials=Interval(trials["start_time"].data[:], trials["stop_time"].data[:]),
            domain=Interval(0.0, len(lfp.data) / lfp.rate),
        )
    with h5py.File(target, "w") as file:
        data.to_hdf5(file)


def _spikes(times: list[ndarray]) -> IrregularTimeSeries:
    unit = np.repeat(np.arange(len(times)), [len(t) for t in times])
    spikes = IrregularTimeSeries(timestamps=np.concatenate(times), unit_index=unit, domain="auto")
    spikes.sort()
    return spikes


@contextmanager
def open_temporaldata(path: Path) -> Iterator[Read]:
    """A lazy `Data`, sliced."""
    with h5py.File(path) as file:
        data = Data.from_hdf5(file, lazy=True)

        def read(start: float, stop: float) -> Window:
            piece = data.slice(start, stop, reset_origin=False)
            return {
                "lfp": piece.lfp.values,
                "position": piece.position.values,
                "times": piece.spikes.timestamps,
                "unit": piece.spikes.unit_index,
                "trials": piece.trials.start,
            }

        yield read


@contextmanager
def open_pynwb(path: Path) -> Iterator[Read]:
    """The NWB file through pynwb: slices of its data sets, spikes unit by unit."""
    with NWBHDF5IO(path, "r") as file:
        nwb = file.read()
        yield lambda start, stop: _read_nwb(nwb, start, stop)


def _read_nwb(nwb: NWBFile, start: float, stop: float) -> Window:
    lfp, position = nwb.acquisition["lfp"], nwb.processing["behavior"]["position"]
    rows = slice(*(int(np.ceil(round(t * lfp.rate, 6))) for t in (start, stop)))
    stamps = np.searchsorted(position.timestamps[:], (start, stop))
    spikes = [nwb.units.get_unit_spike_times(k, (start, stop)) for k in range(len(nwb.units))]
    begin, end = nwb.trials["start_time"].data[:], nwb.trials["stop_time"].data[:]
    return {
        "lfp": lfp.data[rows] * np.float32(lfp.conversion),
        "position": position.data[slice(*stamps)],
        "times": np.concatenate(spikes),
        "unit": np.repeat(np.arange(len(spikes)), [len(times) for times in spikes]),
        "trials": begin[(begin < stop) & (end > start)],
    }


@contextmanager
def open_pynapple(path: Path) -> Iterator[Read]:
    """The NWB file through pynapple, which reads spikes and times whole and samples lazily."""
    file = nap.load_file(str(path))
    lfp, position, units, trials = (file[k] for k in ("lfp", "position", "units", "trials"))

    def read(start: float, stop: float) -> Window:
        times = np.nextafter(stop, start)  # its slices hold both ends, ours not the second
        spikes = units.get(start, times).to_tsd()
        return {
            "lfp": lfp.get(start, times).values * np.float32(1.95e-7),
            "position": position.get(start, times).values,
            "times": spikes.times(),
            "unit": spikes.values,
            "trials": trials.intersect(nap.IntervalSet(start, stop)).start,
        }

    yield read
    file.close()


Grid = tuple[float, float, int]  # of the result: first time (s), rate (Hz), samples


def align_xarray(source: Path, target: Path, grid: Grid) -> None:
    """Times of the EEG mapped by a line through the pulses; `interp` onto one grid; `to_zarr`."""
    tree = xr.open_datatree(source, engine="zarr", chunks={})
    pulses = [tree[name]["event_times"].values for name in ("eeg_pulses", "pulses")]
    line, at = np.polynomial.Polynomial.fit(*pulses, 1), _times(grid)
    eeg, keypoints = tree["eeg"], tree["keypoints"]
    clock = line(eeg.attrs["t0"] + np.arange(eeg.sizes["time"]) / eeg.attrs["rate"])
    placed = {
        "eeg": eeg["values"].assign_coords(time=clock),
        "keypoints": keypoints["values"].assign_coords(time=keypoints["times"].values),
    }
    for name, values in placed.items():
        # Interpolated some channels at a time, then cut into the shards that are written.
        moved = values.chunk(time=-1, channel=8).interp(time=at).astype(np.float32)
        shard = (60_000, moved.shape[1])
        layout = {"chunks": (1000, shard[1]), "shards": shard, "compressors": [codec()]}
        moved.chunk(time=shard[0], channel=-1).to_dataset(name="values").to_zarr(
            target, group=name, mode="w", encoding={"values": layout}
        )


def align_pynapple(source: Path, target: Path, grid: Grid) -> None:
    """The same with `TsdFrame.interpolate`; what it gives is written as the others are."""
    tree, at = zarr.open_group(source, mode="r"), nap.Ts(_times(grid))
    pulses = [tree[f"{name}/event_times"][:] for name in ("eeg_pulses", "pulses")]
    line = np.polynomial.Polynomial.fit(*pulses, 1)
    eeg, keypoints = tree["eeg"], tree["keypoints"]
    volts = eeg["values"][:] * np.float32(eeg["values"].attrs["scale_factor"])
    clock = line(eeg.attrs["t0"] + np.arange(len(volts)) / eeg.attrs["rate"])
    frames = {
        "eeg": nap.TsdFrame(clock, volts),
        "keypoints": nap.TsdFrame(keypoints["times"][:], keypoints["values"][:]),
    }
    root = zarr.create_group(target, overwrite=True)
    for name, frame in frames.items():
        moved = frame.interpolate(at).values.astype(np.float32)
        root.create_array(
            name,
            data=moved,
            chunks=(1000, moved.shape[1]),
            shards=(60_000, moved.shape[1]),
            compressors=codec(),
        )


def _times(grid: Grid) -> ndarray:
    t0, rate, n = grid
    return t0 + np.arange(n) / rate
