"""Independent slow signals: what is found between them is nothing."""

import numpy as np
import pytest
from scipy.signal import lfilter

from neurofmx.evaluation.nulls import circular_shift, linear_shift, pseudo_sessions


def slow(rng, n, a=0.99):
    """AR(1) signals of variance 1, begun in equilibrium."""
    noise = rng.normal(size=n)
    return lfilter([np.sqrt(1 - a**2)], [1, -a], noise, zi=[a * rng.normal()])[0][:, None]


def correlation(truth, prediction):
    return float(np.corrcoef(truth[:, 0], prediction[:, 0])[0, 1])


def shuffled(rng, truth, prediction, draws=99):
    observed = correlation(truth, prediction)
    null = [correlation(truth, rng.permutation(prediction)) for _ in range(draws)]
    return (1 + (np.array(null) >= observed).sum()) / (1 + draws)


def test_shuffling_finds_what_is_not_there_and_shifting_does_not():
    rng, found = np.random.default_rng(0), []
    for _ in range(200):
        y, p = slow(rng, 1000), slow(rng, 1000)
        p_linear = linear_shift(correlation, y, p, 99, 3).p
        p_pseudo = pseudo_sessions(correlation, y, p, [slow(rng, 1000) for _ in range(39)]).p
        found.append((shuffled(rng, y, p), p_linear, p_pseudo))
    naive, linear, pseudo = (np.array(found) <= 0.05).mean(axis=0)
    assert naive > 0.25  # one in four "decoded" at 5 %
    assert linear <= 0.08
    assert 0.01 <= pseudo <= 0.09


def test_what_is_there_is_found():
    rng, found = np.random.default_rng(1), []
    for _ in range(20):
        y = slow(rng, 3000, 0.95)
        p = y + slow(rng, 3000, 0.95)
        others = [slow(rng, 3000, 0.95) for _ in range(39)]
        found.append(
            (
                linear_shift(correlation, y, p, 99, 5).p,
                circular_shift(correlation, y, p, 99, 100, rng).p,
                pseudo_sessions(correlation, y, p, others).p,
            )
        )
    assert (np.array(found) <= 0.05).mean(axis=0).min() >= 0.9


def test_linear_shift_by_hand_wraps_nothing_around():
    truth, prediction = np.arange(6.0)[:, None], np.array([9, 1, 2, 3, 4, 9.0])[:, None]
    seen = []

    def score(y, p):
        seen.append((y[:, 0].tolist(), p[:, 0].tolist()))
        return -float(((y - p) ** 2).mean())

    found = linear_shift(score, truth, prediction, 1)
    middle = [1, 2, 3, 4]
    assert seen == [(middle, [9, 1, 2, 3]), (middle, middle), (middle, [2, 3, 4, 9])]
    assert found.value == 0.0
    assert found.p == 1 / 2
    assert linear_shift(lambda y, p: 1.0, truth, prediction, 1).p == 1.0  # a tie is as good


def test_the_observed_score_is_counted_and_an_undefined_one_is_as_good():
    truth, prediction = np.arange(10.0)[:, None], np.arange(10.0)[:, None]
    others = [np.roll(truth, k, axis=0) for k in (3, 5, 6)]
    assert pseudo_sessions(correlation, truth, prediction, others).p == 1 / 4
    undefined = lambda y, p: np.nan if y[0, 0] else 1.0  # noqa: E731
    assert pseudo_sessions(undefined, truth, prediction, others).p == 1.0


def test_recordings_are_cut_to_the_shortest():
    truth, other = np.arange(10.0)[:, None], np.ones((4, 1))
    lengths = set()
    pseudo_sessions(lambda y, p: lengths.add((len(y), len(p))) or 0.0, truth, truth, [other])
    assert lengths == {(4, 4)}


def test_what_cannot_be_shifted_raises():
    y, rng = np.arange(6.0)[:, None], np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"3 shifts of 1 .* leave 0 of 6"):
        linear_shift(correlation, y, y, 3)
    with pytest.raises(ValueError, match="nearest shift is 4 of 6"):
        circular_shift(correlation, y, y, 5, 4, rng)
    with pytest.raises(ValueError, match="need another recording"):
        pseudo_sessions(correlation, y, y, [])
