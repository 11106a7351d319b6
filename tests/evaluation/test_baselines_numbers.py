"""Truths planted in cells, which one method finds and a simpler one cannot."""

import numpy as np
import pytest
from posed import numbers, score
from scipy.ndimage import gaussian_filter1d

from neurofmx.evaluation import BASELINES, BaselineParams

FEW = BaselineParams(
    smoothing=(0.0,), alphas=(1e1, 1e3), lags=(1, 5), components=(10,), tree_lags=(1, 5), trees=100
)


def fitted(name, problem, params=FEW):
    return BASELINES[name].fit(problem, params)


def noise(n, width, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width))


def test_a_slow_state_seen_through_much_noise_is_filtered_better_than_lags_can(tmp_path):
    turn = 0.995 * np.array([[np.cos(0.05), -np.sin(0.05)], [np.sin(0.05), np.cos(0.05)]])
    hand = np.zeros((3000, 2))
    for t, push in enumerate(0.1 * noise(2999, 2), 1):
        hand[t] = turn @ hand[t - 1] + push
    cells = hand @ noise(2, 12, 1) + 8.0 * noise(3000, 12, 2)
    problem = numbers(tmp_path, cells, hand)
    filtered, lagged = fitted("kalman", problem), fitted("ridge", problem)

    assert score(problem, filtered, "r2") > score(problem, lagged, "r2") + 0.1
    assert score(problem, filtered, "r2") > 0.6
    assert filtered.settings["noise"] in FEW.kalman_noise


def test_the_filter_finds_how_late_the_hand_follows(tmp_path):
    hand = gaussian_filter1d(noise(3000, 1), 2.0, axis=0) * 3
    cells = np.roll(hand, -2, axis=0) @ np.ones((1, 8)) + 0.3 * noise(3000, 8, 1)
    settings = fitted("kalman", numbers(tmp_path, cells, hand)).settings
    assert settings["lag"] + settings["span"] > 2


def test_trees_find_a_product_that_no_line_can(tmp_path):
    hidden = gaussian_filter1d(noise(3000, 2), 3.0, axis=0) * 3
    hand = hidden.prod(axis=1, keepdims=True)
    problem = numbers(tmp_path, hidden @ noise(2, 6, 1) + 0.1 * noise(3000, 6, 2), hand)

    assert score(problem, fitted("boosted", problem), "r2") > 0.6
    assert score(problem, fitted("ridge", problem), "r2") < 0.1


def test_a_cubic_behind_the_line_straightens_what_saturates(tmp_path):
    hidden = gaussian_filter1d(noise(3000, 1), 3.0, axis=0) * 6
    problem = numbers(tmp_path, hidden + 0.1 * noise(3000, 4, 1), np.tanh(hidden) + 0.2 * hidden**2)
    bent, straight = fitted("wiener_cascade", problem), fitted("ridge_centred", problem)

    assert score(problem, bent, "r2") > score(problem, straight, "r2") + 0.1
    assert bent.parameters > straight.parameters


def test_the_mean_over_trials_is_found_where_there_are_trials(tmp_path):
    shape = np.sin(2 * np.pi * np.arange(20) / 20)
    hand = np.tile(shape, 100)[:, None] + 0.3 * noise(2000, 1)
    problem = numbers(tmp_path, noise(2000, 4, 1), hand, trial=2.0)
    most = 1 - 0.09 / (0.09 + shape.var())

    assert BASELINES["psth"].needs(problem) is None
    assert score(problem, fitted("psth", problem), "r2") == pytest.approx(most, abs=0.03)
    assert score(problem, fitted("mean", problem), "r2") < 0.01


@pytest.mark.parametrize(
    ("trial", "why"), [(None, "windows are not trials"), (100.0, "'trials' are no trials that")]
)
def test_without_trials_that_repeat_it_says_so(trial, why, tmp_path):
    problem = numbers(tmp_path, noise(2000, 2), noise(2000, 1), trial)
    assert BASELINES["psth"].needs(problem).startswith(why)


def test_trees_leave_out_a_target_of_many_dimensions_and_say_so(tmp_path):
    wide = numbers(tmp_path, noise(400, 2), noise(400, 17))
    assert "has 17: more than 16 would take hours" in BASELINES["boosted"].needs(wide)


def test_what_is_not_there_is_not_found(tmp_path):
    problem = numbers(tmp_path, noise(1500, 5), gaussian_filter1d(noise(1500, 1, 1), 3, axis=0))
    for name in ("kalman", "wiener_cascade", "boosted"):
        assert score(problem, fitted(name, problem), "r2") < 0.1
