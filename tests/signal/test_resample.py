from fractions import Fraction

import numpy as np
import pytest

from neurofmx.signal.resample import (
    bin_events,
    interpolate,
    ratio_of,
    resample,
    stretches,
    sum_bins,
)


def column(values):
    return np.asarray(values, float)[:, None]


def test_interpolation_of_a_hand_computed_case():
    values, mask = interpolate(column([0, 2, 4]), np.array([0.0, 1.0, 3.0]), 0.0, 2.0, 7, 2.5)

    np.testing.assert_allclose(values[:, 0], [0, 1, 2, 2.5, 3, 3.5, 4])
    assert mask.all()


def test_neighbours_beyond_the_limit_are_not_joined():
    times = np.array([0.0, 1.0, 5.0, 6.0])

    values, mask = interpolate(column([1, 1, 9, 9]), times, 0.0, 1.0, 8, 3.0)

    np.testing.assert_array_equal(mask, [1, 1, 0, 0, 0, 1, 1, 0])
    np.testing.assert_array_equal(values[:, 0], [1, 1, 0, 0, 0, 9, 9, 0])


def test_a_nan_is_a_gap_and_never_a_value():
    values = column([0, 1, np.nan, np.nan, np.nan, 5, 6])

    out, mask = interpolate(values, np.arange(7.0), 0.0, 1.0, 7, 3.0)

    np.testing.assert_array_equal(mask, [1, 1, 0, 0, 0, 1, 1])
    assert np.isfinite(out).all()


def test_a_series_without_a_value_is_all_gap():
    out, mask = interpolate(column([np.nan] * 3), np.arange(3.0), 0.0, 1.0, 3, 3.0)

    assert not mask.any()
    assert not out.any()


def test_a_slow_sine_survives_the_change_of_rate():
    t, new_t = np.arange(1000) / 250.0, np.arange(400) / 100.0
    out, mask = resample(column(np.sin(2 * np.pi * 3 * t)), np.ones(1000, bool), Fraction(2, 5))

    assert out.shape == (400, 1)
    assert mask.all()
    middle = slice(40, -40)
    truth = np.sin(2 * np.pi * 3 * new_t)
    np.testing.assert_allclose(out[middle, 0], truth[middle], atol=2e-3)


def test_what_the_new_rate_cannot_carry_is_filtered_out():
    t = np.arange(2000) / 1000.0
    fast = column(np.sin(2 * np.pi * 95 * t))  # would show as 5 Hz at 100 Hz

    out, _ = resample(fast, np.ones(2000, bool), Fraction(1, 10))

    assert np.abs(out[20:-20]).max() < 0.02
    assert np.abs(fast[::10]).max() > 0.9


@pytest.mark.parametrize("ratio", [Fraction(1, 4), Fraction(5, 3), Fraction(3, 7), Fraction(2)])
def test_constants_and_ramps_come_out_unchanged_up_to_the_edge_of_every_stretch(ratio):
    mask = np.ones(103, bool)
    mask[31:44] = False
    ramp = np.arange(103) * 0.25
    values = np.stack([np.full(103, 500.0), 500.0 + ramp], axis=1)

    out, new_mask = resample(values, mask, ratio)

    at = np.arange(len(out)) / float(ratio)
    inside = mask[np.floor(at + 1e-9).astype(int)] & mask[np.ceil(at - 1e-9).astype(int)]
    np.testing.assert_array_equal(new_mask, inside)
    np.testing.assert_allclose(out[inside, 0], 500.0)
    np.testing.assert_allclose(out[inside, 1], 500.0 + 0.25 * at[inside])


@pytest.mark.parametrize("ratio", [Fraction(1, 4), Fraction(3, 2)])
def test_values_in_a_gap_reach_nothing_outside_it(ratio):
    rng = np.random.default_rng(0)
    values, mask = rng.normal(size=(120, 2)), np.ones(120, bool)
    mask[50:70] = False
    other = np.where(mask[:, None], values, 1e9)

    out, new_mask = resample(values, mask, ratio)
    again, _ = resample(other, mask, ratio)

    np.testing.assert_array_equal(out, again)
    assert not out[~new_mask].any()


def test_what_lies_beyond_a_gap_changes_nothing_before_it():
    values, mask = np.random.default_rng(1).normal(size=(120, 1)), np.ones(120, bool)
    mask[60:64] = False
    future = values.copy()
    future[64:] += 100.0

    out, _ = resample(values, mask, Fraction(1, 2))
    again, _ = resample(future, mask, Fraction(1, 2))

    np.testing.assert_array_equal(out[:30], again[:30])


def test_counts_are_summed_and_a_partial_bin_is_cut():
    counts, mask = np.array([[1], [2], [3], [4], [5], [6], [7]]), np.ones(7, bool)
    mask[2] = False

    sums, new_mask = sum_bins(counts, mask, 2)

    np.testing.assert_array_equal(sums[:, 0], [3, 0, 11])
    np.testing.assert_array_equal(new_mask, [True, False, True])


def test_ratio_of_rates():
    assert ratio_of(128.0, 256.0, 10**6) == Fraction(1, 2)
    assert ratio_of(100.0, 19.999999999, 10**6) == 5
    assert ratio_of(30.0, 29.9976, 9000) is None  # a drifting camera: 0.7 frames in 5 minutes


def test_stretches_of_a_mask():
    assert stretches(np.array([1, 1, 0, 1, 0], bool)) == [(0, 2), (3, 4)]
    assert stretches(np.zeros(3, bool)) == []


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


def test_binning_does_not_depend_on_the_order_of_events():
    rng = np.random.default_rng(0)
    times, index = rng.uniform(0, 10, 500), rng.integers(0, 4, 500)
    order = rng.permutation(500)

    np.testing.assert_array_equal(
        bin_events(times, index, 4, 0.0, 0.1, 100),
        bin_events(times[order], index[order], 4, 0.0, 0.1, 100),
    )
