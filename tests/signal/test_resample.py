from fractions import Fraction

import numpy as np
import pytest
from scipy.signal import resample_poly

from neurofmx.signal.resample import Resampled, ratio_of

RATIOS = [Fraction(1, 4), Fraction(5, 3), Fraction(3, 7), Fraction(2), Fraction(999, 1000)]


def tone(frequency, rate, n, phase=0.3):
    return np.sin(2 * np.pi * frequency * np.arange(n)[:, None] / rate + phase)


def amplitude(rows):
    """Of a sine, from its middle."""
    middle = rows[len(rows) // 4 : -len(rows) // 4]
    return float(np.sqrt(2 * (middle**2).mean()))


@pytest.mark.parametrize("causal", [False, True])
def test_what_the_new_rate_cannot_carry_is_gone_and_what_it_can_is_kept(causal):
    def left(frequency):
        return amplitude(Resampled(tone(frequency, 1000, 8000), None, Fraction(1, 10), causal)[:])

    assert left(10.0) == pytest.approx(1.0, abs=0.01)
    assert left(400.0) < 1e-3  # −60 dB; it would show as 0 Hz
    assert max(left(f) for f in (70.0, 95.0, 130.0, 290.0)) < 1e-3


def test_a_slow_sine_stays_where_it_was():
    rows = Resampled(tone(3.0, 250, 1000), None, Fraction(2, 5))

    assert rows.shape == (400, 1)
    np.testing.assert_allclose(rows[40:360], tone(3.0, 100, 400)[40:360], atol=1e-3)


def test_the_causal_filter_is_late_by_less_than_two_new_samples():
    slow, n = Fraction(1, 10), 20_000
    ramp = np.arange(n)[:, None] / 10.0  # in new samples

    late = np.arange(n // 10) - Resampled(ramp, None, slow, causal=True)[:][:, 0]

    assert 1.5 < late[100] < 2.0
    np.testing.assert_allclose(late[100:], late[100], atol=1e-6)


@pytest.mark.parametrize("ratio", [Fraction(1, 2), Fraction(1, 4), Fraction(1, 25)])
def test_a_decimated_signal_is_that_of_scipy(ratio):
    values = np.random.default_rng(0).normal(size=(4000, 3))

    rows = Resampled(values, None, ratio)[:]

    peer = resample_poly(values, ratio.numerator, ratio.denominator, axis=0)
    np.testing.assert_allclose(rows[12:-12], peer[12:-12], atol=1e-12)


@pytest.mark.parametrize("ratio", RATIOS)
def test_tones_that_both_rates_carry_stay_as_they_were(ratio):
    for share in (0.002, 0.01, 0.1, 0.3, 0.4):  # of the slower rate
        frequency = share * float(min(1, ratio))
        rows = Resampled(tone(frequency, 1.0, 6000), None, ratio)[:]

        inner = slice(len(rows) // 10, -len(rows) // 10)
        truth = tone(frequency, float(ratio), len(rows))
        np.testing.assert_allclose(rows[inner], truth[inner], atol=5e-3)


@pytest.mark.parametrize("ratio", RATIOS)
def test_constants_and_ramps_come_out_unchanged_up_to_the_edge_of_every_stretch(ratio):
    mask = np.ones(103, bool)
    mask[31:44] = False
    ramp = np.arange(103) * 0.25
    values = np.stack([np.full(103, 500.0), 500.0 + ramp], axis=1)

    rows = Resampled(values, mask, ratio)

    at = np.arange(len(rows)) / float(ratio)
    inside = mask[np.floor(at + 1e-9).astype(int)] & mask[np.ceil(at - 1e-9).astype(int)]
    np.testing.assert_array_equal(rows.mask, inside)
    np.testing.assert_allclose(rows[:][inside, 0], 500.0)
    np.testing.assert_allclose(rows[:][inside, 1], 500.0 + 0.25 * at[inside])


@pytest.mark.parametrize("ratio", [*RATIOS, Fraction(1)])
def test_a_constant_comes_out_unchanged_in_causal_mode(ratio):
    mask = np.arange(103) % 20 > 4

    rows = Resampled(np.full((103, 1), 7.0), mask, ratio, causal=True)

    np.testing.assert_allclose(rows[:][rows.mask], 7.0)
    at = np.arange(len(rows)) / float(ratio)
    np.testing.assert_array_equal(rows.mask, mask[np.floor(at + 1e-9).astype(int)])


def test_a_ratio_of_one_changes_nothing():
    values = np.random.default_rng(0).normal(size=(100, 2))

    np.testing.assert_array_equal(Resampled(values, None, Fraction(1))[:], values)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ratio", RATIOS)
def test_the_future_never_changes_the_past_in_causal_mode(ratio, seed):
    rng = np.random.default_rng(seed)
    values, mask = rng.normal(size=(900, 2)), rng.random(900) > 0.01
    now = int(rng.integers(300, 600))
    other, seen = values.copy(), mask.copy()
    other[now:], seen[now:] = 1e6, rng.random(900 - now) > 0.3
    past = -(-now * ratio.numerator // ratio.denominator)  # rows before sample `now`

    a, b = (Resampled(*pair, ratio, causal=True) for pair in ((values, mask), (other, seen)))

    assert a[:past].tobytes() == b[:past].tobytes()
    np.testing.assert_array_equal(a.mask[:past], b.mask[:past])
    centred = [Resampled(x, None, ratio)[:past].tobytes() for x in (values, other)]
    assert centred[0] != centred[1]


@pytest.mark.parametrize("ratio", RATIOS)
def test_what_lies_beyond_a_gap_changes_nothing_before_it(ratio):
    values, mask = np.random.default_rng(1).normal(size=(240, 1)), np.ones(240, bool)
    mask[120:124] = False
    future = values.copy()
    future[124:] += 100.0
    before = 119 * ratio.numerator // ratio.denominator + 1

    a, b = (Resampled(x, mask, ratio)[:before] for x in (values, future))

    assert a.tobytes() == b.tobytes()


def test_float32_stays_float32_and_integers_become_it():
    for dtype, expected in (("f4", "f4"), ("i2", "f4"), ("i4", "f8"), ("f8", "f8")):
        assert Resampled(np.ones((99, 1), dtype), None, Fraction(1, 3))[:].dtype == expected


def test_ratio_of_rates():
    assert ratio_of(128.0, 256.0, 10**6) == Fraction(1, 2)
    assert ratio_of(100.0, 19.999999999, 10**6) == 5
    assert ratio_of(30.0, 29.9976, 9000) is None  # a drifting camera: 0.7 frames in 5 minutes
