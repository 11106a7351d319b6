import numpy as np
import pytest
from windows import recording, shards, tiny_model

from neurofmx.interpretability import capture


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return shards(tmp_path_factory.mktemp("shards"), [recording("a"), recording("b", seed=1)])


@pytest.fixture(scope="module")
def captured(made):
    model = tiny_model(made, ["a", "b"], 0)
    return capture.capture({"neurofmx": model}, made, ["a", "b"], "spikes")


def test_windows_that_are_taken_do_not_overlap(made):
    rows = made.index.iloc[capture.apart(made, "train", ["a", "b"])]
    for _, part in rows.groupby("recording"):
        assert (part["start"].to_numpy()[1:] >= part["stop"].to_numpy()[:-1] - 1e-6).all()


def test_behaviour_beside_a_token_is_that_of_its_middle(made, captured):
    tokens = captured.tokens["neurofmx"]["test"]
    beside = capture.beside(made, tokens, "a", "spikes", "velocity")
    hand = recording("a").signals["hand"]
    times = captured.times("test", "a")

    assert len(beside.behaviour) == len(times) == captured.rows("test", "a").sum()
    expected = np.interp(times, hand.clock, hand.values[:, 0])
    inside = beside.asked & (np.abs(np.diff(expected, append=expected[-1])) < 0.5)
    np.testing.assert_allclose(beside.behaviour[inside, 0], expected[inside], atol=0.05)


def test_units_beside_a_token_are_their_mean_counts(made, captured):
    tokens = captured.tokens["neurofmx"]["test"]
    beside = capture.beside(made, tokens, "b", "spikes", "velocity")
    # Two bins of 0.05 s make a token: all counts of a window are in its tokens.
    position = tokens.window[tokens.recording == "b"][0]
    sample = made[position]
    own = tokens.window[tokens.recording == "b"] == position
    np.testing.assert_allclose(
        2 * beside.units[own].sum(axis=0), sample.arrays["spikes.values"].sum(axis=0)
    )


def test_the_nearest_token_answers_for_an_instant():
    times, values = np.array([1.0, 2.0, 4.0]), np.array([[1.0], [2.0], [4.0]])
    found = capture.nearest(times, values, np.array([0.0, 1.4, 1.6, 9.0]))
    np.testing.assert_array_equal(found[:, 0], [1, 1, 2, 4])
