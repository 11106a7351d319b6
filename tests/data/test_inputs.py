"""What a window holds of a signal is what was recorded in it, in as few bytes as hold it."""

import numpy as np
import pandas as pd
import pytest
from windows import card, recording

from neurofmx.data import windows
from neurofmx.data.inputs import Occurred, Sampled, about_input, read_input
from neurofmx.data.signal_cards import SignalCard
from neurofmx.errors import DataError
from neurofmx.signal.spectra import log_mel
from neurofmx.types import Events, Samples


def spec(modality: str, **more) -> SignalCard:
    return SignalCard(path="x", modality=modality, **more)


def samples(values, rate=10.0, mask=None, modality="lfp", **columns) -> Samples:
    table = pd.DataFrame({"id": range(values.shape[1]), **columns})
    return Samples(values, "1", rate, mask=mask, channels=table, modality=modality)


def spikes(times, index, n=3) -> Events:
    return Events(np.array(times), np.array(index), pd.DataFrame({"id": range(n)}))


def read(signal, card, start=0.0, stop=1.0):
    return read_input(signal, card, 0.25, start, stop)


def about(signal, card):
    return about_input(signal, card, 0.25)


# Counts


@pytest.mark.parametrize(("most", "dtype"), [(255, np.uint8), (256, np.uint16), (2**16, np.uint32)])
@pytest.mark.parametrize("stored", [np.uint32, np.int64, np.float64])
def test_counts_are_in_the_smallest_type_that_holds_them(most, dtype, stored):
    counts = np.zeros((20, 2), stored)
    counts[3, 1] = most
    found = read(samples(counts, modality="binned_counts"), spec("binned_counts"))

    assert (found.values.dtype, found.mask, found.dt) == (dtype, None, 0.1)
    np.testing.assert_array_equal(found.values, counts[:10])


def test_spikes_are_counted_in_half_open_bins():
    signal = spikes([0.0, 0.24, 0.25, 0.9, 1.0], [0, 2, 0, 2, 0])
    found = read(signal, spec("spikes"))

    assert (found.values.dtype, found.mask, found.dt) == (np.uint8, None, 0.25)
    assert found.values.tolist() == [[1, 0, 1], [1, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_fractions_of_counts_are_kept():
    smooth = np.full((20, 1), 0.5)
    found = read(samples(smooth, modality="binned_counts"), spec("binned_counts"))

    assert found.values.dtype == np.float32
    assert (found.values == 0.5).all()


def test_a_negative_count_is_named_with_its_signal():
    made, values = recording(), -np.ones((2500, 1))
    counts = samples(values, rate=50.0, modality="binned_counts")
    made.signals["lfp"] = counts
    signals = card().model_dump()["signals"]
    signals |= {"lfp": {"path": "lfp", "modality": "binned_counts"}}
    with pytest.raises(DataError, match="made-1: signal 'lfp': holds -1, which is no count"):
        windows.inputs(made, card(signals=signals), windows.Window("train", 0.0, 1.0, 0.0))


# Events


def test_events_are_timed_from_the_window_which_leaves_its_stop_out():
    signal = spikes([4.9, 5.0, 5.5, 6.0 - 1e-12, 6.0], [0, 1, 2, 0, 1])
    found = read(signal, spec("spikes", tokenizer="spikes"), 5.0, 6.0)

    assert isinstance(found, Occurred)
    assert found.times[:2].tolist() == [0.0, 0.5]
    assert found.times[2] < 1.0  # in float32, 1 − 10⁻¹² would be 1
    assert (found.times.dtype, found.units.dtype) == (np.float32, np.uint16)
    assert (found.units.tolist(), found.n_units) == ([1, 2, 0], 3)


def test_events_are_as_exact_late_in_a_recording_as_at_its_start():
    # At 10⁵ s float32 has steps of 8 ms; from the window's start they are of 6 · 10⁻⁸ s.
    times = 1e5 + np.array([0.001, 0.0015, 0.9])
    found = read(spikes(times, [0, 0, 1]), spec("spikes", tokenizer="spikes"), 1e5, 1e5 + 1)

    np.testing.assert_allclose(found.times, [0.001, 0.0015, 0.9], rtol=0, atol=1e-7)


def test_a_window_without_an_event_still_knows_the_units():
    found = read(spikes([3.0], [0], n=2**16 + 1), spec("spikes", tokenizer="spikes"))
    assert (len(found.times), found.units.dtype, found.n_units) == (0, np.uint32, 2**16 + 1)


# Samples


def test_what_lies_outside_the_recording_is_masked():
    signal = samples(np.arange(10.0)[:, None] + 1)
    found = read(signal, spec("lfp"), -0.2, 0.3)

    assert found.mask.tolist() == [False, False, True, True, True]
    assert found.values[:, 0].tolist() == [0, 0, 1, 2, 3]


def test_only_a_window_with_a_gap_has_a_mask():
    mask = np.arange(30) != 12
    signal = samples(np.ones((30, 2)), mask=mask)

    assert read(signal, spec("lfp")).mask is None
    assert np.flatnonzero(~read(signal, spec("lfp"), 1.0, 2.0).mask).tolist() == [2]
    assert read(signal, spec("lfp"), 2.0, 3.0).mask is None


@pytest.mark.parametrize(
    ("stored", "kept"), [(np.uint8, np.uint8), (np.int16, np.float32), (np.float64, np.float32)]
)
def test_pixels_stay_bytes_and_everything_else_is_float32(stored, kept):
    frames = np.arange(60).reshape(10, 6).astype(stored)
    found = read(samples(frames, modality="video"), spec("video"))

    assert found.values.dtype == kept
    np.testing.assert_array_equal(found.values, frames)


def test_sound_is_read_as_its_spectrum():
    sound = np.random.default_rng(0).normal(size=(16000, 1))
    signal = samples(sound, rate=8e3, modality="audio")
    mel = {"bands": 20, "hop": 0.02, "span": 0.05, "low": 100.0}
    found = read(signal, spec("audio", mel=mel), 0.5, 1.5)
    expected, seen = log_mel(sound[4000:12000], 8e3, 20, 0.02, 0.05, 100.0)

    assert (found.dt, found.values.shape, found.values.dtype) == (0.02, (50, 20), np.float32)
    np.testing.assert_array_equal(found.values, expected)
    np.testing.assert_array_equal(found.mask, seen)
    assert found.mask.sum() == 48  # nothing from before the window is used


def test_a_gap_in_a_sound_masks_its_frames():
    mask = np.arange(8000) != 4000  # at 0.5 s
    signal = samples(np.ones((8000, 1)), rate=8e3, mask=mask, modality="audio")
    found = read(signal, spec("audio"))

    assert np.flatnonzero(~found.mask).tolist() == [0, 1, 50, 51]


def test_bands_above_half_the_rate_are_named_with_their_signal():
    made = recording()
    made.signals["lfp"] = samples(np.ones((400000, 1)), rate=8e3, modality="audio")
    sound = {"path": "x", "modality": "audio", "mel": {"high": 1e4}}
    signals = card().model_dump()["signals"] | {"lfp": sound}
    with pytest.raises(DataError, match="made-1: signal 'lfp': bands from 0 to 10000 Hz"):
        windows.inputs(made, card(signals=signals), windows.Window("train", 0.0, 1.0, 0.0))


# What there is to know


def test_about_a_recording():
    assert windows.about(recording(), card()) == {
        "spikes": {
            "modality": "spikes",
            "tokenizer": "binned",
            "dt": 0.05,
            "grid": [],
            "stabilise": True,
        },
        "lfp": {
            "modality": "lfp",
            "tokenizer": "continuous",
            "dt": 0.02,
            "grid": [],
            "stabilise": False,
        },
    }


def test_about_events():
    found = about(spikes([0.0], [0]), spec("spikes", tokenizer="spikes"))
    assert (found["tokenizer"], found["dt"], found["stabilise"]) == ("spikes", None, False)


@pytest.mark.parametrize(
    ("signal", "card", "row", "dt", "grid", "stabilise"),
    [
        ("binned_counts", {}, "binned", 0.1, [], True),
        ("binned_counts", {"tokenizer": "continuous"}, "continuous", 0.1, [], True),
        ("calcium", {}, "binned", 0.1, [], False),
        ("calcium", {"tokenizer": "continuous"}, "continuous", 0.1, [], False),
        ("intracellular", {}, "continuous", 0.1, [], False),
        ("fmri", {}, "image", 0.1, [], False),
        ("fmri", {"grid": [2, 3]}, "image", 0.1, [2, 3], False),
        ("fmri", {"tokenizer": "continuous"}, "continuous", 0.1, [], False),
        ("video", {}, "image", 0.1, [2, 3], False),
        ("audio", {"mel": {"bands": 5, "hop": 0.3}}, "audio", 0.3, [5], False),
    ],
)
def test_about_samples(signal, card, row, dt, grid, stabilise):
    pixels = {"row": [0, 0, 0, 1, 1, 1], "column": [0, 1, 2] * 2} if signal == "video" else {}
    found = about(samples(np.zeros((20, 6)), modality=signal, **pixels), spec(signal, **card))

    assert found == {
        "modality": signal,
        "tokenizer": row,
        "dt": dt,
        "grid": grid,
        "stabilise": stabilise,
    }


def test_a_grid_with_another_number_of_voxels_is_refused():
    signal = samples(np.zeros((20, 6)), modality="fmri")
    with pytest.raises(DataError, match=r"has 6 channels, but its grid .*\[2, 4\], has 8"):
        about(signal, spec("fmri", grid=[2, 4]))


def test_types_say_what_a_signal_is():
    assert isinstance(read(samples(np.zeros((20, 6))), spec("lfp")), Sampled)
