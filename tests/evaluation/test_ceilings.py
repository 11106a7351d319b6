import numpy as np
import pytest

from neurofmx.evaluation.metrics.ceilings import cc_norm, split_half


def noisy(repeats, noise, time=4000, seed=0):
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=time)
    return signal, signal + noise * rng.normal(size=(repeats, time))


def test_split_half_finds_the_planted_reliability():
    _, responses = noisy(10, 2.0)
    # Variances: signal 1, noise 4 a repeat; two means of 10 repeats share 1 of 1 + 4 / 10.
    found = split_half(responses, 20, np.random.default_rng(0))
    assert found == pytest.approx(1 / 1.4, abs=0.03)


def test_split_half_by_hand():
    responses = np.array([[0.0, 1.0, 2.0], [0.0, 2.0, 1.0]])  # r = 0.5
    assert split_half(responses, 1, np.random.default_rng(0)) == pytest.approx(2 / 3)


def test_cc_norm_of_the_noiseless_response_is_one_whatever_the_noise():
    signal, responses = noisy(20, 3.0)
    assert cc_norm(signal, responses) == pytest.approx(1.0, abs=0.05)
    assert np.corrcoef(signal, responses.mean(axis=0))[0, 1] < 0.87  # uncorrected
    half = signal + np.random.default_rng(1).normal(size=len(signal))
    assert cc_norm(half, responses) == pytest.approx(np.sqrt(0.5), abs=0.05)


def test_cc_norm_of_equal_repeats_is_the_correlation():
    response, prediction = np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 1.0])
    assert cc_norm(prediction, np.tile(response, (3, 1))) == pytest.approx(0.5)


def test_a_ceiling_that_is_undefined_raises():
    rng, signal = np.random.default_rng(0), np.arange(3.0)
    with pytest.raises(ValueError, match="need 2 repeats"):
        split_half(np.ones((1, 5)), 3, rng)
    with pytest.raises(ValueError, match="never changes"):
        split_half(np.ones((4, 5)), 3, rng)
    with pytest.raises(ValueError, match="needs 2 repeats"):
        cc_norm(signal, np.ones((1, 3)))
    with pytest.raises(ValueError, match="no more than noise"):
        cc_norm(signal, np.stack([signal, -signal]))
    with pytest.raises(ValueError, match="prediction never changes"):
        cc_norm(np.zeros(3), np.stack([signal, signal]))
