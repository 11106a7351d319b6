import numpy as np
import pandas as pd
import pytest

from neurofmx.data.align import align, regular
from neurofmx.data.cards import Card
from neurofmx.data.signal_cards import SignalCard
from neurofmx.errors import DataError
from neurofmx.types import Events, Intervals, Recording, Samples

DRIFT, OFFSET = 80.0, 4.2  # of the camera


def spec(rate=None, **more):
    return SignalCard(path="x", modality="behavior", rate=rate, **more)


def to_camera(times):
    return (times - OFFSET) / (1.0 + DRIFT * 1e-6)


def card(**rates):
    names = {"pose": "pose", "lfp": "lfp", "sync": "pulses", "camera_sync": "pulses"}
    return Card.model_validate(
        {
            "name": "rig",
            "title": "a camera beside a probe",
            "licence": "CC0",
            "source": {"kind": "synthetic"},
            "signals": {
                name: {"path": name, "modality": modality, "rate": rates.get(name)}
                for name, modality in names.items()
            },
            "clocks": {
                "camera": {"signals": ["pose"], "device": "camera_sync", "reference": "sync"}
            },
            "tasks": {"where": {"kind": "regression", "signal": "pose"}},
        }
    )


def recording(**changed):
    """A camera of 30 Hz on its own clock that films its own time; frames 900–1199 are lost."""
    rng = np.random.default_rng(0)
    pulses = np.cumsum(rng.uniform(0.8, 1.2, 80)) + 5.0
    frames = 5.0 + np.delete(np.arange(2400), np.arange(900, 1200)) / 30.0
    one = pd.DataFrame({"id": [0]})
    zero = np.zeros(80, int)
    signals = {
        "sync": Events(pulses, zero, one, "pulses"),
        "camera_sync": Events(to_camera(pulses), zero, one, "pulses"),
        "pose": Samples(frames[:, None], "m", times=to_camera(frames), modality="pose"),
        "lfp": Samples(rng.normal(size=(2500, 4)).astype(np.float32), "V", 25.0, modality="lfp"),
    }
    return Recording("r", "s", "Mus musculus", "rig", signals | changed)


def test_a_camera_is_brought_to_the_recording_clock():
    aligned = align(recording(), card())

    assert aligned.clocks["camera"].drift == pytest.approx(DRIFT, abs=1e-3)
    pose = aligned.signals["pose"]
    assert pose.rate == pytest.approx(30.0)
    assert pose.times is None
    error = pose.values[:][pose.mask, 0] - pose.clock[pose.mask]  # each frame filmed its own time
    assert np.abs(error).max() < 1e-6
    lost = (pose.clock > 35.0) & (pose.clock < 44.9)
    assert not pose.mask[lost].any()
    assert pose.mask.sum() == 2100


def test_the_pulses_of_the_device_are_mapped_with_it():
    aligned = align(recording(), card())

    device, reference = (aligned.signals[name].times for name in ("camera_sync", "sync"))
    np.testing.assert_allclose(device, reference, atol=1e-9)


def test_what_is_regular_already_is_the_same_object_on_disk():
    lfp = recording().signals["lfp"]

    assert align(recording(lfp=lfp), card()).signals["lfp"].values is lfp.values


def test_a_regular_signal_of_a_device_keeps_its_values_and_changes_its_rate():
    pose = Samples(np.zeros((100, 2)), "m", 30.0, to_camera(6.0), modality="pose")

    moved = align(recording(pose=pose), card()).signals["pose"]

    assert moved.values is pose.values
    assert moved.t0 == pytest.approx(6.0, abs=1e-9)
    assert moved.rate == pytest.approx(30.0 / (1 + DRIFT * 1e-6))


def test_the_rate_of_the_card_is_met_exactly():
    aligned = align(recording(), card(pose=50.0, lfp=10.0))

    pose, lfp = aligned.signals["pose"], aligned.signals["lfp"]
    assert (pose.rate, lfp.rate) == (50.0, 10.0)
    assert lfp.values.shape == (1000, 4)
    error = pose.values[:][pose.mask, 0] - pose.clock[pose.mask]
    assert np.abs(error).max() < 1e-6


def test_a_clock_that_cannot_be_fitted_names_device_and_signals():
    few = Events(np.arange(2.0), np.zeros(2, int), pd.DataFrame({"id": [0]}), "pulses")

    with pytest.raises(DataError, match=r"clock of 'camera' .* needs 3 shared pulses"):
        align(recording(camera_sync=few), card())


def test_a_device_that_a_recording_lacks_needs_no_clock_but_its_signals_do():
    whole = recording()

    def without(*names):
        signals = {name: s for name, s in whole.signals.items() if name not in names}
        return Recording("r", "s", "Mus musculus", "rig", signals)

    assert align(without("pose", "camera_sync"), card()).clocks == {}
    with pytest.raises(DataError, match=r"'camera' .*: the recording has no 'sync'"):
        align(without("sync"), card())


def test_pulses_may_be_the_starts_of_intervals():
    pulses = recording().signals["sync"].times
    sync = Intervals(pulses, pulses + 0.01)

    assert align(recording(sync=sync), card()).clocks["camera"].drift == pytest.approx(DRIFT)


def samples(values, **fields):
    return Samples(np.asarray(values)[:, None], "count", modality="binned_counts", **fields)


def test_counts_keep_their_values_and_their_gap():
    counts = samples([3, 1, 4, 1, 5], times=np.array([0.0, 0.1, 0.2, 1.03, 1.13]))

    out = regular(counts, spec())

    assert (out.rate, out.t0) == (10.0, 0.0)
    np.testing.assert_array_equal(out.values[:][:, 0], [3, 1, 4, 0, 0, 0, 0, 0, 0, 0, 1, 5])
    np.testing.assert_array_equal(np.flatnonzero(out.mask), [0, 1, 2, 10, 11])


def test_counts_are_summed_where_the_card_halves_their_rate():
    out = regular(samples([3, 1, 4, 1, 5], rate=10.0), spec(5.0))

    np.testing.assert_array_equal(out.values[:][:, 0], [4, 5])
    assert out.mask is None


def test_counts_are_never_interpolated():
    with pytest.raises(DataError, match=r"10 Hz cannot be summed to 4 Hz: .* Choose 10 / k"):
        regular(samples([3, 1, 4, 1, 5], rate=10.0), spec(4.0))


def test_counts_at_irregular_times_are_refused():
    times = np.cumsum(np.repeat([0.1, 0.14], 30))

    with pytest.raises(DataError, match="counts are not interpolated"):
        regular(samples(np.arange(60), times=times), spec())


def test_nan_becomes_a_gap_with_zeros():
    trace = Samples(np.array([[1.0, 2.0], [np.nan, 2.0], [3.0, 4.0]]), "m", 10.0)

    out = regular(trace, spec())

    np.testing.assert_array_equal(out.mask, [True, False, True])
    np.testing.assert_array_equal(out.values[:], [[1, 2], [0, 0], [3, 4]])


def test_of_two_samples_at_one_time_the_first_is_kept():
    trace = Samples(np.array([[0.0], [1.0], [99.0], [2.0]]), "m", times=np.array([0, 1, 1, 2.0]))

    np.testing.assert_array_equal(regular(trace, spec()).values[:][:, 0], [0, 1, 2])


def test_backwards_times_and_lone_far_times_are_refused():
    with pytest.raises(DataError, match="1 times are not after the one before"):
        regular(Samples(np.zeros((3, 1)), "m", times=np.array([0.0, 2.0, 1.0])), spec())
    with pytest.raises(DataError, match=r"gap of 1.7e\+09 s"):
        regular(Samples(np.zeros((3, 1)), "m", times=np.array([0.0, 0.1, 1.7e9])), spec())


def test_a_jittered_trace_goes_to_a_grid_with_nothing_bridged_over_a_long_gap():
    rng = np.random.default_rng(0)
    times = np.sort(np.arange(600) / 60.0 + rng.normal(0, 1e-3, 600))
    times = np.concatenate([times, times + 20.0])

    out = regular(Samples(times[:, None], "m", times=times), spec(20.0))

    assert out.rate == 20.0
    assert not out.mask[(out.clock > 10.05) & (out.clock < 19.9)].any()
    inner = out.mask & (np.abs(out.clock - 5) < 4)
    np.testing.assert_allclose(out.values[:][inner, 0], out.clock[inner], atol=2e-3)
