import numpy as np
import pytest

from neurofmx.signal.bins import SummedBins, bin_events, stabilised


def test_bins_are_half_open():
    times = np.array([0.9, 1.0, 1.49, 1.5, 1.99, 2.0, 2.5])
    index = np.array([0, 0, 1, 1, 0, 1, 0])

    counts = bin_events(times, index, 3, 1.0, 0.5, 2)

    np.testing.assert_array_equal(counts, [[1, 1, 0], [1, 1, 0]])


def test_no_event_inside_is_lost_or_counted_twice():
    rng = np.random.default_rng(0)
    times, index = np.round(rng.uniform(0, 100, 5000), 2), rng.integers(0, 7, 5000)

    counts = bin_events(times, index, 7, 0.0, 0.02, 5001)

    np.testing.assert_array_equal(counts.sum(axis=0), np.bincount(index, minlength=7))


@pytest.mark.parametrize("seed", range(3))
def test_windows_side_by_side_hold_each_event_once(seed):
    rng = np.random.default_rng(seed)
    times, index = np.round(rng.uniform(0, 64, 3000), 3), rng.integers(0, 4, 3000)

    whole = bin_events(times, index, 4, 0.0, 1 / 32, 2048)
    parts = [bin_events(times, index, 4, k * 8.0, 1 / 32, 256) for k in range(8)]

    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_binning_does_not_depend_on_the_order_of_events():
    rng = np.random.default_rng(0)
    times, index = rng.uniform(0, 10, 500), rng.integers(0, 4, 500)
    order = rng.permutation(500)

    np.testing.assert_array_equal(
        bin_events(times, index, 4, 0.0, 0.1, 100),
        bin_events(times[order], index[order], 4, 0.0, 0.1, 100),
    )


def test_counts_are_summed_and_a_partial_bin_is_cut():
    counts, mask = np.array([[1], [2], [3], [4], [5], [6], [7]]), np.ones(7, bool)
    mask[2] = False

    summed = SummedBins(counts, mask, 2)

    np.testing.assert_array_equal(summed[:][:, 0], [3, 0, 11])
    np.testing.assert_array_equal(summed.mask, [True, False, True])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int64, np.float64])
def test_roots_of_counts_of_any_type_are_float32(dtype):
    roots = stabilised(np.array([[0, 1], [4, 9]], dtype))

    assert roots.dtype == np.float32
    assert roots.tolist() == [[0.0, 1.0], [2.0, 3.0]]


def test_roots_of_poisson_counts_are_scattered_alike_whatever_their_mean():
    rng = np.random.default_rng(0)
    for mean in (30, 300, 3000):  # variances of the counts themselves
        assert stabilised(rng.poisson(mean, 100_000)).var() == pytest.approx(0.25, abs=0.01)
