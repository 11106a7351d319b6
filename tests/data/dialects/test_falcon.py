"""Files of FALCON, and what a plain reader makes of them."""

import numpy as np
import pytest
from dialects.base import cursor, spike_trains, stored
from dialects.falcon import (
    BIN,
    H1_START,
    falcon_b1,
    falcon_h1,
    falcon_h2,
    falcon_m1,
    falcon_m2,
)
from reads import TRIALS, card_of, opened, read

from neurofmx.data.align import align

KINEMATICS = {"path": "acquisition/OpenLoopKinematicsVelocity", "modality": "behavior"}


def test_h1_has_its_period_in_rate_and_its_start_in_offset(tmp_path, shared_data):
    paths = falcon_h1(tmp_path, shared_data)
    velocity = read(paths, "falcon", v=KINEMATICS | {"stamps": "end"})["v"]

    assert (velocity.rate, velocity.t0) == (pytest.approx(50.0), H1_START - BIN)
    expected = np.tile(cursor(shared_data, 500), (1, 4))[:, :7]
    np.testing.assert_allclose(velocity.values, expected, rtol=1e-6)
    # 500 bins of 20 ms last 10 s; taken at its word, the file lasts seven hours and is 2 too high.
    plain = read(paths, "plain", v=KINEMATICS)["v"]
    assert plain.span == (0.0, 25000.0)
    np.testing.assert_allclose(plain.values, expected + H1_START, rtol=1e-5)


def test_h1_trials_are_runs_of_their_number(tmp_path, shared_data):
    number = {"path": "acquisition/TrialNum", "modality": "trials"}
    trials = read(falcon_h1(tmp_path, shared_data), "falcon", trials=number)["trials"]

    assert trials.columns["value"].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(trials.start, H1_START - BIN + 2.0 * np.arange(5))
    np.testing.assert_allclose(trials.stop, trials.start + 2.0)


def test_samples_that_falcon_does_not_score_are_masked(tmp_path, shared_data):
    velocity = read(falcon_h1(tmp_path, shared_data), "falcon", v=KINEMATICS)["v"]
    assert np.flatnonzero(~velocity.mask).tolist() == list(range(10))


@pytest.mark.parametrize(
    ("build", "path", "modality", "stamps", "channels"),
    [
        (falcon_m1, "preprocessed_emg", "emg", "end", ["Bic", "EDCr", "FCRr", "FCUr"]),
        (falcon_m2, "finger_vel", "behavior", "start", ["index", "mrs"]),
    ],
)
def test_m1_stamps_ends_and_m2_starts(
    tmp_path, shared_data, build, path, modality, stamps, channels
):
    where = {"path": f"acquisition/{path}", "modality": modality, "stamps": stamps}
    found = read(build(tmp_path, shared_data), "falcon", x=where)["x"]

    # Bin k covers [k, k + 1) · 20 ms in both, whatever edge is stamped.
    assert (found.rate, found.t0) == (pytest.approx(50.0), pytest.approx(0.0))
    assert found.channels["name"].tolist() == channels
    assert (~found.mask).sum() == 10


def test_m1_counts_of_a_bin_lie_under_its_emg(tmp_path, shared_data):
    """A spike in bin k is seen in the row of the EMG that bin k has."""
    emg = {"path": "acquisition/preprocessed_emg", "modality": "emg"}
    paths = falcon_m1(tmp_path, shared_data)
    right = read(paths, "falcon", x=emg | {"stamps": "end"})["x"]
    wrong = read(paths, "falcon", x=emg)["x"]

    spike = next(t for train in spike_trains(shared_data) for t in train if 1.0 < t < 9.0)
    row = int((spike - right.t0) * right.rate)
    ends = stored(paths[0], "acquisition/preprocessed_emg/Bic/timestamps")
    assert ends[row] - BIN <= spike < ends[row]
    assert int((spike - wrong.t0) * wrong.rate) == row - 1


def test_h2_has_counts_with_pauses_and_sentences(tmp_path, shared_data):
    bins = {"path": "acquisition/binned_spikes", "modality": "binned_counts"}
    signals = {"counts": bins, "trials": TRIALS}
    with opened(*falcon_h2(tmp_path, shared_data), dialect="falcon", **signals) as recording:
        aligned = align(recording, card_of("falcon", **signals))
        counts = aligned.signals["counts"]
        values, mask = counts.values[:], counts.mask

    path = shared_data / "m1_contdata95" / "contdata95-dev.nwb"
    raw = stored(path, "processing/ecephys/binned_spikes/data", slice(400))
    np.testing.assert_array_equal(values[mask], raw)
    assert counts.rate == pytest.approx(50.0)
    assert (~mask).sum() == 500  # 10 s
    assert aligned.signals["trials"].columns["cue"].tolist() == ["the dog", "a cat"]


def test_b1_crossings_are_events_and_its_song_is_sound(tmp_path, shared_data):
    crossed = {"path": "acquisition/tx", "modality": "spikes"}
    song = {"path": "acquisition/vocalizations", "modality": "audio"}
    paths = falcon_b1(tmp_path, shared_data)
    found = read(paths, "falcon", tx=crossed, song=song, trials=TRIALS)

    matrix = stored(paths[0], "acquisition/tx/data")
    row, channel = np.nonzero(matrix)
    np.testing.assert_array_equal(found["tx"].index, channel)
    np.testing.assert_allclose(
        found["tx"].times, stored(paths[0], "acquisition/tx/timestamps")[row]
    )
    assert (found["tx"].times >= 1.0).any()  # in the second trial
    assert found["song"].rate is None  # a pause lies between the trials
    assert list(found["trials"].columns) == ["id"]  # spectrograms are left in the file
