"""Truths planted in traces: covariances, flicker and amplitude; and none."""

import numpy as np
import pytest
from posed import classes, posed, score
from sklearn.covariance import oas
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from windows import card, recording

from neurofmx.evaluation import BASELINES, BaselineParams
from neurofmx.evaluation.baselines import choosing, traces
from neurofmx.evaluation.baselines.cca import canonical_correlations
from neurofmx.evaluation.baselines.discriminant import ShrunkLDA

RATE = 128.0  # Hz
FEW = BaselineParams(banks={"whole": (), "mu_beta": ((8.0, 30.0),)}, components=(5, 10))
COVARIANCE = ("csp", "tangent", "mdm")


def mixed(labels, seed=0, length=256):
    """Three channels of equal power; the first two go together in A and against in B."""
    rng, trials = np.random.default_rng(seed), []
    for label in labels:
        common, rest = rng.normal(size=(length, 1)), rng.normal(size=(length, 3))
        sign = 1.0 if label == "A" else -1.0
        trials.append(0.7 * common * np.array([1.0, sign, 0.0]) + rest)
    return np.stack(trials)


def flicker(labels, seed=0, length=512):
    """Four channels that see a class's frequency and its double, in noise; rest sees none."""
    rng, time, trials = np.random.default_rng(seed), np.arange(length) / RATE, []
    for label in labels:
        wave = np.zeros((length, 1))
        if label != "rest":
            phase = 2 * np.pi * float(label[:-2]) * time[:, None] + rng.uniform(0, 6)
            wave = np.sin(phase) + 0.5 * np.sin(2 * phase + 1)
        trials.append(0.7 * wave * rng.normal(1, 0.2, 4) + 2.0 * rng.normal(size=(length, 4)))
    return np.stack(trials)


@pytest.fixture(scope="module")
def covariance(tmp_path_factory):
    labels = ["A", "B"] * 30
    return classes(tmp_path_factory.mktemp("covariance"), mixed(labels), labels, RATE)


@pytest.mark.parametrize("name", COVARIANCE)
def test_how_channels_go_together_is_found(name, covariance):
    assert score(covariance, BASELINES[name].fit(covariance, FEW), "accuracy") > 0.9


@pytest.mark.parametrize("name", ["logistic", "lda"])
def test_the_power_of_each_channel_does_not_tell(name, covariance):
    assert score(covariance, BASELINES[name].fit(covariance, FEW), "accuracy") < 0.8


def test_amplitude_tells_muscles_apart(tmp_path):
    labels, rng = ["fist", "open"] * 40, np.random.default_rng(0)
    trials = rng.normal(size=(80, 64, 3))
    trials[::2, :, 1] *= 1.7
    problem = classes(tmp_path, trials, labels, RATE)
    found = BASELINES["lda"].fit(problem, FEW)
    assert score(problem, found, "accuracy") > 0.85


@pytest.mark.parametrize("name", ["logistic", "lda"])
def test_traces_too_slow_for_a_band_are_read_by_their_mean(name, tmp_path):
    labels, rng = ["face", "house"] * 40, np.random.default_rng(0)
    trials = rng.normal(size=(80, 10, 6))
    trials[::2, :, 1] += 1.5
    problem = classes(tmp_path, trials, labels, 0.4)
    assert score(problem, BASELINES[name].fit(problem, FEW), "accuracy") > 0.9


@pytest.mark.parametrize("name", ["cca", "fbcca_riemann"])
def test_a_flicker_is_found_from_two_trials_of_each_class(name, tmp_path):
    labels = ["rest", "10Hz", "13Hz", "17Hz"] * 12
    split = {"by": "trial", "train": 1 / 12, "valid": 1 / 12, "guard": 0.0}
    problem = classes(tmp_path, flicker(labels), labels, RATE, split)

    assert len(problem.queries["train"]) == 4  # one of each class; valid has another
    found = BASELINES[name].fit(problem, FEW)
    assert score(problem, found, "accuracy") > 0.8


def test_canonical_correlation_of_hand_computed_cases():
    time = np.arange(256) / RATE
    both = np.stack([np.sin(2 * np.pi * 8 * time + 1), np.ones(256), np.zeros(256)], axis=1)
    half = both[:, :1] + np.cos(2 * np.pi * 16 * time)[:, None]  # as strong at the double

    def found(x, frequency):
        return canonical_correlations(x, RATE, frequency, 2)

    np.testing.assert_allclose(found(both, 8.0), [1.0, 1.0])
    np.testing.assert_allclose(found(both, 16.0), [0.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(found(half, 8.0), [np.sqrt(0.5), 1.0])
    np.testing.assert_array_equal(found(np.zeros((256, 2)), 8.0), [0.0, 0.0])


@pytest.mark.parametrize("name", [*COVARIANCE, "lda", "boosted"])
def test_labels_that_mean_nothing_are_left_at_chance(name, tmp_path):
    labels = np.random.default_rng(1).permutation(["A", "B"] * 50).tolist()
    problem = classes(tmp_path, mixed(["A", "B"] * 50, length=64), labels, RATE)
    found = BASELINES[name].fit(problem, FEW)
    assert 0.25 < score(problem, found, "balanced_accuracy") < 0.75  # 2.5 sigma of 40 trials


def test_what_does_not_apply_says_why(tmp_path, covariance):
    named = card().model_dump(mode="json")["signals"]
    del named["lfp"]
    spikes = posed(tmp_path, recording(), card(signals=named), "cue")
    assert "no input is a trace" in BASELINES["csp"].needs(spikes)
    assert "not named by frequencies" in BASELINES["cca"].needs(covariance)


def test_the_discriminant_is_fishers_where_there_are_many_rows():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 5000)
    mix = rng.normal(size=(3, 3))
    x = rng.normal(size=(15000, 3)) @ mix + np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0]])[y]
    plain = LinearDiscriminantAnalysis(priors=np.full(3, 1 / 3)).fit(x, y)
    np.testing.assert_allclose(
        ShrunkLDA().fit(x, y).predict_proba(x), plain.predict_proba(x), atol=0.02
    )


def test_the_discriminant_of_one_row_each_is_the_nearest_mean():
    fitted = ShrunkLDA().fit(np.array([[0.0, 1.0], [4.0, 1.0]]), np.array([3, 7]))
    np.testing.assert_array_equal(fitted.classes_, [3, 7])
    assert fitted.predict_proba(np.array([[2.0, 9.0]])) == pytest.approx(0.5)


def test_folds_leave_out_whole_trials_and_keep_every_row_once(covariance):
    cut = choosing.folds(covariance)
    left = np.concatenate([rows for _, rows in cut])
    np.testing.assert_array_equal(np.sort(left), np.arange(len(choosing.truth(covariance))))
    assert all(not set(fitted) & set(rows) for fitted, rows in cut)


def test_the_shrunk_covariance_is_that_of_scikit_learn():
    x = np.random.default_rng(0).normal(size=(2, 30, 5)) * [1, 2, 3, 4, 5]
    np.testing.assert_allclose(traces.shrunk(x), [oas(each)[0] for each in x], rtol=1e-9)


def test_bands_that_do_not_fit_a_window_are_not_tried(tmp_path):
    labels = ["A", "B"] * 10
    problem = classes(tmp_path, mixed(labels, length=32), labels, RATE)  # 0.25 s
    assert set(traces.usable(problem, BaselineParams().banks)) == {"whole", "mu_beta"}
