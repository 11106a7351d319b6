"""Files of FALCON."""

from pathlib import Path

import numpy as np
from pynwb import NWBFile, TimeSeries
from pynwb.behavior import BehavioralTimeSeries

from dialects.base import cursor, new_file, save, spike_trains, stored, trials_of

BIN = 0.02  # s
H1_START = 2.0  # s


def falcon_units(nwb: NWBFile, data: Path) -> None:
    """Units without any column but their spikes."""
    for train in spike_trains(data)[:10]:
        nwb.add_unit(spike_times=train)


def falcon_mask(nwb: NWBFile, n: int, **clock: object) -> None:
    """Behaviour counts but for the first ten samples."""
    mask = {"data": np.arange(n) >= 10, "unit": "bool"}
    nwb.add_acquisition(TimeSeries(name="eval_mask", **mask, **clock))


def falcon_h1(folder: Path, data: Path) -> list[Path]:
    """Kinematics whose `rate` is a period and whose `offset` is a time."""
    nwb, n = new_file("HumanPitt-held-in-calib"), 500
    falcon_units(nwb, data)
    clock = {"rate": BIN, "starting_time": 0.0, "offset": H1_START}
    velocity = np.tile(cursor(data, n), (1, 4))[:, :7]
    arbitrary = {"unit": "arbitrary", **clock}
    nwb.add_acquisition(TimeSeries(name="OpenLoopKinematicsVelocity", data=velocity, **arbitrary))
    place = np.cumsum(velocity, axis=0)
    nwb.add_acquisition(TimeSeries(name="OpenLoopKinematics", data=place, **arbitrary))
    trial = 1.0 + np.arange(n) // 100
    nwb.add_acquisition(TimeSeries(name="TrialNum", data=trial, **arbitrary))
    falcon_mask(nwb, n, **clock)
    name = "sub-HumanPitt-held-in-calib_ses-19250101T111740.nwb"
    return [save(nwb, folder / "sub-HumanPitt-held-in-calib" / name)]


def falcon_m1(folder: Path, data: Path) -> list[Path]:
    """EMG with a series per muscle, stamped at the ends of 20 ms bins."""
    nwb, n = new_file("MonkeyL-held-in-calib"), 500
    falcon_units(nwb, data)
    emg = stored(data / "myo_emg" / "person12345-1.nwb", "acquisition/emg/data", slice(n))
    ends = BIN * (1.0 + np.arange(n))
    box = BehavioralTimeSeries(name="preprocessed_emg")
    for k, muscle in enumerate(("FCRr", "FCUr", "EDCr", "Bic")):
        series = {"data": np.abs(emg[:, k]).astype(np.float64), "timestamps": ends, "unit": "mV"}
        box.add_timeseries(TimeSeries(name=muscle, **series))
    nwb.add_acquisition(box)
    falcon_mask(nwb, n, timestamps=ends)
    start = np.arange(5) * 2.0
    values = {"tgt_loc": [0.0, 90.0, 180.0, 270.0, 0.0], "obj_id": ["a", "b", "a", "b", "a"]}
    trials_of(nwb, values, start, start + 2.0)
    name = "sub-MonkeyL-held-in-calib_ses-20120924_behavior+ecephys.nwb"
    return [save(nwb, folder / "sub-MonkeyL-held-in-calib" / name)]


def falcon_m2(folder: Path, data: Path) -> list[Path]:
    """Velocity of two fingers, stamped at the starts of 20 ms bins."""
    nwb, n = new_file("MonkeyN-held-in-calib"), 500
    falcon_units(nwb, data)
    starts, box = BIN * np.arange(n), BehavioralTimeSeries(name="finger_vel")
    for k, finger in enumerate(("index", "mrs")):
        series = {"data": cursor(data, n)[:, k], "timestamps": starts, "unit": "a.u."}
        box.add_timeseries(TimeSeries(name=finger, **series))
    nwb.add_acquisition(box)
    falcon_mask(nwb, n, timestamps=starts)
    trials_of(nwb, {}, np.arange(5) * 2.0, np.arange(5) * 2.0 + 2.0)
    name = "sub-MonkeyN-held-in-calib_ses-2020-10-19-Run1_behavior+ecephys.nwb"
    return [save(nwb, folder / "sub-MonkeyN-held-in-calib" / name)]


def falcon_h2(folder: Path, data: Path) -> list[Path]:
    """Threshold crossings in 20 ms bins and the sentences to be written, 10 s apart."""
    nwb, path = new_file("T5-held-in-calib"), data / "m1_contdata95" / "contdata95-dev.nwb"
    counts = stored(path, "processing/ecephys/binned_spikes/data", slice(400)).astype(np.float64)
    times = np.r_[np.arange(200), 700 + np.arange(200)] * BIN
    bins = {"data": counts, "timestamps": times, "unit": "int"}
    nwb.add_acquisition(TimeSeries(name="binned_spikes", **bins))
    nwb.add_acquisition(
        TimeSeries(name="eval_mask", data=np.ones(400, bool), timestamps=times, unit="bool")
    )
    values = {"cue": ["the dog", "a cat"], "block_num": [1, 1]}
    trials_of(nwb, values, times[[0, 200]], times[[199, 399]])
    return [save(nwb, folder / "sub-T5-held-in-calib/sub-T5-held-in-calib_ses-20220518.nwb")]


def falcon_b1(folder: Path, data: Path) -> list[Path]:
    """A dense matrix of crossings at 30 kHz, the song, and a spectrogram per trial."""
    nwb, n, channels = new_file("Finch-z_r12r13_21-held-in-calib"), 6000, 16
    crossed = np.zeros((2 * n, channels), np.int8)
    for k, train in enumerate(spike_trains(data)[:channels]):
        crossed[(train[train < 20] * 600).astype(int), k] = 1  # fifty times too fast: 0.4 s
    times = np.r_[np.arange(n), 30000 + np.arange(n)] / 30000.0
    nwb.add_acquisition(TimeSeries(name="tx", data=crossed, timestamps=times, unit="int"))
    song = stored(
        data / "grasshopper_audio/receptor1.nwb", "stimulus/presentation/sound_envelope/data"
    )
    heard = np.r_[np.arange(5000), 25000 + np.arange(5000)] / 25000.0
    sound = {"data": song[:10000], "timestamps": heard, "unit": "int"}
    nwb.add_acquisition(TimeSeries(name="vocalizations", **sound))
    shape = (2, 8, 40)
    power = stored(
        data / "songbird_hvc/songbird-hvc.nwb", "processing/behavior/song_spectrogram/data"
    )
    values = {"spectrogram_values": power[:16, :40].reshape(shape)}
    trials_of(nwb, values, np.array([0.0, 1.0]), np.array([0.2, 1.2]))
    name = "sub-Finch-z_r12r13_21-held-in-calib_ses-2021.06.26.nwb"
    return [save(nwb, folder / "sub-Finch-z_r12r13_21-held-in-calib" / name)]
