from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from neurofmx.data import store
from neurofmx.data.arrays import Scaled
from neurofmx.data.slices import Slices
from neurofmx.errors import DataError
from neurofmx.types import AlignedRecording, Events, Intervals, Recording, Samples

RATE, T0 = 250.0, 1.1


@pytest.fixture(scope="module")
def recording() -> Recording:
    rng = np.random.default_rng(0)
    bits = rng.integers(-500, 500, (5000, 2)).astype(np.int16)
    stamps = np.sort(rng.uniform(-3.2, 18.0, 700))
    times = np.sort(rng.uniform(4.0, 9.0, 40_000))
    begin = np.arange(0.0, 20.0, 2.0)
    mask = np.arange(5000) % 900 > 100
    signals = {
        "lfp": Samples(Scaled(bits, 2e-7), "V", RATE, T0, mask=mask, modality="lfp"),
        "pose": Samples(np.c_[stamps, -stamps], "m", times=stamps, modality="pose"),
        "spikes": Events(times, rng.integers(0, 3, 40_000), pd.DataFrame({"id": [1, 2, 3]})),
        "licks": Events(np.zeros(0), np.zeros(0, int), pd.DataFrame({"id": [0]}), "pulses"),
        "trials": Intervals(begin, begin + 1.5, pd.DataFrame({"cue": list("abcdefghij")})),
    }
    return Recording("a", "mouse", "Mus musculus", "d", signals)


@pytest.fixture(scope="module")
def slices(recording, tmp_path_factory) -> Slices:
    path = tmp_path_factory.mktemp("store") / "a.zarr"
    store.write(recording, path, "key")
    return Slices(path)


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (5.0, 6.0),
        (T0, T0 + 1),
        (4.3217, 4.3218),
        (-10.0, 30.0),
        (8.9, 9.9),
        (50.0, 51.0),
        (-9.0, -8.0),
    ],
)
def test_a_slice_is_what_comparing_every_time_finds(recording, slices, start, stop):
    found, whole = slices.read(start, stop).signals, recording.signals
    for name in ("lfp", "pose"):
        inside = (whole[name].clock >= start - 1e-9) & (whole[name].clock < stop - 1e-9)
        np.testing.assert_array_equal(found[name].values, whole[name].values[:][inside])
        np.testing.assert_allclose(found[name].clock, whole[name].clock[inside], atol=1e-9)
    lfp = whole["lfp"]
    inside = (lfp.clock >= start - 1e-9) & (lfp.clock < stop - 1e-9)
    np.testing.assert_array_equal(found["lfp"].mask, lfp.mask[inside])
    spikes = whole["spikes"]
    inside = (spikes.times >= start) & (spikes.times < stop)
    np.testing.assert_array_equal(found["spikes"].times, spikes.times[inside])
    np.testing.assert_array_equal(found["spikes"].index, spikes.index[inside])
    assert len(found["licks"]) == 0
    trials = whole["trials"]
    reach = (trials.start < stop) & (trials.stop > start)
    assert found["trials"].columns["cue"].tolist() == trials.columns["cue"][reach].tolist()


def test_slices_side_by_side_hold_each_sample_and_event_once(recording, slices):
    edges = np.linspace(-4.0, 22.0, 271)  # most of them between samples, some on one
    parts = [slices.read(*pair).signals for pair in pairwise(edges)]
    for name in ("lfp", "pose"):
        joined = np.concatenate([part[name].values for part in parts])
        np.testing.assert_array_equal(joined, recording.signals[name].values[:])
    joined = np.concatenate([part["spikes"].times for part in parts])
    np.testing.assert_array_equal(joined, recording.signals["spikes"].times)


def test_a_slice_of_an_aligned_recording_is_aligned(recording, tmp_path):
    signals = {"lfp": recording.signals["lfp"]}
    store.write(
        AlignedRecording(**{**vars(recording), "signals": signals}), tmp_path / "a.zarr", ""
    )

    assert isinstance(Slices(tmp_path / "a.zarr").read(2.0, 3.0), AlignedRecording)


def test_no_store_is_told(tmp_path):
    with pytest.raises(DataError, match="holds no recording"):
        Slices(tmp_path / "a.zarr")
