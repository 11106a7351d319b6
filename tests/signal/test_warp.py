"""A warp keeps both ends, runs at most so much too fast, and is undone by its inverse."""

import numpy as np
import pytest

from neurofmx.signal.warp import Warp, between, nearest


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5])
def test_ends_speed_and_inverse(share):
    for seed in range(20):
        warp = Warp.drawn(share, 4.0, np.random.default_rng(seed))
        times = np.linspace(0, 4, 1001)
        found = warp(times)
        np.testing.assert_allclose(found[[0, -1]], [0, 4], atol=1e-12)
        speed = np.diff(found) / np.diff(times)
        assert 1 - share - 1e-9 <= speed.min() < 1 < speed.max() <= 1 + share + 1e-9
        np.testing.assert_allclose(warp(warp.inverse(times)), times, atol=2e-6)
        np.testing.assert_allclose(warp.inverse(found), times, atol=2e-6)


def test_one_wave_by_hand():
    warp = Warp(np.array([0.1, 0.0, 0.0]), np.pi)
    assert warp(np.array([np.pi / 2]))[0] == pytest.approx(np.pi / 2 + 0.1)


def test_reading_between_samples_needs_both():
    values, mask = np.array([[0.0], [2.0], [4.0], [0.0]]), np.array([True, True, True, False])
    found, seen = between(values, mask, np.array([0.5, 1.0, 2.0, 2.5, 3.5, 9.0]))
    assert seen.tolist() == [True, True, True, False, False, False]
    assert found[:, 0].tolist() == pytest.approx([1.0, 2.0, 4.0, 0.0, 0.0, 0.0])


def test_reading_the_nearest_sample():
    values, mask = np.array([[0.0], [2.0], [4.0]]), np.array([True, False, True])
    found, seen = nearest(values, mask, np.array([0.4, 0.6, 1.6, 2.4, 2.6]))
    assert seen.tolist() == [True, False, True, True, False]
    assert found[:, 0].tolist() == [0.0, 0.0, 4.0, 4.0, 0.0]
