"""Recordings for the benchmarks: NWB files of made-up signals with the spectrum of real ones."""

from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from pynwb import NWBFile, TimeSeries
from pynwb.ecephys import ElectricalSeries
from pynwb.file import Subject
from scipy.signal import lfilter

from neurofmx.data.nwb_write import write_nwb

START = datetime(2024, 1, 1, tzinfo=UTC)
VOLTS = 1.95e-7  # per bit of an Intan or Neuropixels LFP
SYNC = 2.0  # s from one pulse of the clocks to the next


def traces(
    n: int, channels: int, rng: np.random.Generator, shared: float = 0.7
) -> Int[ndarray, "time channel"]:
    """Integers of about ± 500 with power that falls as 1/f², as a 16-bit LFP has.

    Args:
        shared: Part of the amplitude that all channels have in common.
    """
    common = rng.standard_normal((n, 1), np.float32)
    noise = shared * common + (1 - shared) * rng.standard_normal((n, channels), np.float32)
    slow = lfilter([1.0], [1.0, -0.98], noise, axis=0)
    slow += 0.3 * rng.standard_normal((n, channels), np.float32)
    return (slow * (150.0 / slow[: n // 2 + 1].std())).astype(np.int16)


def session(path: Path, duration: float, channels: int, rate: float, units: int) -> int:
    """Write LFP, spikes, behaviour at 60 Hz and trials; return the bytes of all their values."""
    rng, nwb = np.random.default_rng(0), _file(path.stem)
    lfp = traces(round(duration * rate), channels, rng)
    _add_electrical(nwb, "lfp", lfp, rate)
    spikes = [np.sort(rng.uniform(0, duration, n)) for n in rng.poisson(8 * duration, units)]
    for times in spikes:
        nwb.add_unit(spike_times=times)
    times = np.arange(0, duration, 1 / 60) + rng.normal(0, 1e-3, round(duration * 60))
    place = np.cumsum(rng.normal(0, 1e-3, (len(times), 2)), axis=0)
    _add_series(nwb, "position", place, np.sort(times))
    for start in np.arange(0.0, duration, 5.0):
        nwb.add_trial(start_time=start, stop_time=start + 1.5)
    write_nwb(nwb, path)
    return lfp.nbytes + sum(t.nbytes for t in spikes) + place.nbytes + times.nbytes


def long_lfp(path: Path, duration: float, channels: int, rate: float, filled: float) -> int:
    """Write an LFP whose chunks are empty after `filled` seconds; return the bytes of its values.

    Empty chunks take no space on disk and read as zeros.
    """
    nwb, rng = _file(path.stem), np.random.default_rng(0)
    _add_electrical(nwb, "lfp", np.zeros((1, channels), np.int16), rate)
    write_nwb(nwb, path)
    second, n = round(rate), round(duration * rate)
    with h5py.File(path, "r+") as file:
        group = file["acquisition/lfp"]
        attributes = dict(group["data"].attrs)
        del group["data"]
        data = group.create_dataset("data", (n, channels), np.int16, chunks=(second, channels))
        data.attrs.update(attributes)
        for first in range(0, round(filled) * second, 10 * second):
            data[first : first + 10 * second] = traces(10 * second, channels, rng)
    return n * channels * 2


def two_devices(path: Path, duration: float, channels: int, rate: float, drift: float) -> None:
    """Write EEG on an amplifier's own clock, and keypoints at 30 Hz on the recording's.

    The amplifier's clock runs `drift` ppm slow; both clocks saw a pulse every 2 s. Frames of the
    video are stamped 2 ms early or late (one standard deviation).
    """
    nwb, rng = _file(path.stem), np.random.default_rng(0)
    slow = 1.0 + drift * 1e-6
    eeg = traces(round(duration * rate / slow), channels, rng)
    _add_electrical(nwb, "eeg", eeg, rate)
    frames = np.arange(0.0, duration, 1 / 30)
    stamps = np.sort(frames + rng.normal(0, 2e-3, len(frames)))
    points = np.cumsum(rng.normal(0, 1.0, (len(frames), 16)), axis=0)
    _add_series(nwb, "keypoints", points, stamps)
    pulses = np.arange(0.5, duration - 0.5, SYNC)
    for name, times in (("pulses", pulses), ("eeg_pulses", pulses / slow)):
        noisy = times + rng.uniform(-1e-4, 1e-4, len(times))
        nwb.add_acquisition(_series(name, np.ones(len(times)), noisy))
    write_nwb(nwb, path)


def copies(folder: Path, n: int, start: int = 0) -> None:
    """Write `n` small recordings of 2 s and 4 channels, each with its own values."""
    folder.mkdir(parents=True, exist_ok=True)
    pattern = folder.parent / "pattern.nwb"
    session(pattern, 2.0, 4, 250.0, 3)
    content = pattern.read_bytes()
    for k in range(start, start + n):
        path = folder / f"small-{k:04d}.nwb"
        path.write_bytes(content)
        with h5py.File(path, "r+") as file:
            file["acquisition/lfp/data"][0, 0] = k


def _file(identifier: str) -> NWBFile:
    nwb = NWBFile("made for a benchmark", identifier, START, file_create_date=START)
    nwb.subject = Subject(subject_id="made", species="Mus musculus", age="P90D", sex="U")
    return nwb


def _add_electrical(nwb: NWBFile, name: str, data: ndarray, rate: float) -> None:
    device = nwb.create_device(name="probe")
    group = nwb.create_electrode_group(
        name="probe", description="made", location="unknown", device=device
    )
    for _ in range(data.shape[1]):
        nwb.add_electrode(location="unknown", group=group)
    everyone = list(range(data.shape[1]))
    region = nwb.create_electrode_table_region(region=everyone, description="all")
    times = {"rate": rate, "starting_time": 0.0}
    nwb.add_acquisition(
        ElectricalSeries(name=name, data=data, electrodes=region, conversion=VOLTS, **times)
    )


def _add_series(nwb: NWBFile, name: str, data: ndarray, times: Float[ndarray, " time"]) -> None:
    module = nwb.create_processing_module(name="behavior", description="made")
    module.add(_series(name, data, times))


def _series(name: str, data: ndarray, times: Float[ndarray, " time"]) -> TimeSeries:
    return TimeSeries(name=name, data=data, unit="m", timestamps=times)
