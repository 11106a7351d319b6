import numpy as np
import pytest

from neurofmx.signal.quality import quality, segment_length

RATE = 250.0  # Hz


def noise(seconds=40, channels=5, seed=0):
    """Brown-ish noise in volts, in which nothing repeats."""
    rng = np.random.default_rng(seed)
    white = rng.normal(size=(round(seconds * RATE), channels))
    return 1e-5 * (white + 0.2 * white.cumsum(axis=0))


def hum(n, hertz, power):
    """A line whose power is that many times that of unit white noise in 1 Hz."""
    density = 2 / RATE  # of unit white noise, one-sided
    return np.sqrt(2 * power * density) * np.sin(2 * np.pi * hertz * np.arange(n) / RATE)


def test_saturation_of_a_hand_worked_case():
    # Channel 0 is three times at its largest value and three times at its smallest.
    values = np.array([[3, 0], [3, 1], [1, 2], [-2, 3], [-2, 4], [-2, 5], [0, 6], [3, 7]], np.int16)

    assert quality(values, RATE).saturation == (2 + 2) / 16


def test_half_of_one_channel_clipped_is_an_eighth_of_four():
    values = noise(channels=4)
    values[:, 2] = np.minimum(np.sin(0.01 * np.arange(len(values))), 0.0)

    assert quality(values, RATE).saturation == pytest.approx(1 / 8, abs=0.01)


def test_a_channel_that_never_moves_is_flat_and_not_saturated():
    values = noise()
    values[:, 3] = -0.1

    found = quality(values, RATE)

    assert found.flat.tolist() == [False, False, False, True, False]
    assert not found.dead.any()
    assert found.saturation == 0.0


def test_a_dead_channel_is_found_in_spite_of_its_artefacts():
    values = noise()
    values[:, 1] *= 0.02  # 4e-4 of the power
    values[[100, 5000], 1] += 1.0
    values[:, 4] *= 0.1  # weak, but alive

    found = quality(values, RATE)

    assert found.dead.tolist() == [False, True, False, False, False]
    assert not found.flat.any()


def test_a_lone_channel_is_never_dead():
    assert not quality(noise(channels=1) * 1e-9, RATE).dead.any()


@pytest.mark.parametrize("hertz", [50.0, 60.0, 100.0])
def test_planted_hum_is_found_with_its_power_and_its_frequency(hertz):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(100_000, 3)) + hum(100_000, hertz, 100.0)[:, None]

    decibels, line = quality(values, RATE).line_noise

    spread = 8 * RATE / segment_length(RATE)  # Hz; 8 bins lie within 1 Hz of the line
    assert decibels == pytest.approx(10 * np.log10(1 + 100 / spread), abs=0.2)
    assert line == hertz


def test_noise_and_a_rhythm_of_the_brain_are_no_hum():
    rhythm = noise() + 1e-4 * hum(10_000, 20.0, 100.0)[:, None]

    assert abs(quality(noise(), RATE).line_noise[0]) < 2
    assert abs(quality(rhythm, RATE).line_noise[0]) < 2


def test_hum_of_one_bad_channel_is_not_that_of_the_recording():
    values = noise()
    values[:, 0] += hum(len(values), 50.0, 100.0)

    assert quality(values, RATE).line_noise[0] < 2


def test_a_slow_signal_has_no_line_noise():
    assert np.isnan(quality(noise(), 100.0).line_noise[0])


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
def test_blocks_add_up_to_the_whole(dtype):
    values = noise(channels=3) * 2e6
    values = np.clip(values, -60, 60).astype(dtype)
    values[:, 1] = 7
    cut = 4 * segment_length(RATE)

    whole = quality(values, RATE)
    parts = quality(values[:cut], RATE) + quality(values[cut : 2 * cut], RATE)
    parts += quality(values[2 * cut :], RATE)

    assert parts.n == whole.n
    assert parts.saturation == whole.saturation > 0.01
    assert parts.flat.tolist() == whole.flat.tolist() == [False, True, False]
    np.testing.assert_array_equal(parts.spread, whole.spread)
    assert parts.line_noise == pytest.approx(whole.line_noise)


def test_figures_do_not_depend_on_the_unit():
    stored = np.round(noise() * 1e6).astype(np.int16)
    volts = stored * 1.9e-7 + 3e-4

    of_stored, of_volts = quality(stored, RATE), quality(volts, RATE)

    assert of_stored.saturation == of_volts.saturation
    assert of_stored.line_noise == pytest.approx(of_volts.line_noise, abs=1e-3)


def test_nan_is_left_out():
    values = noise()
    values[:300, 0] = np.nan
    values[:, 2] = np.nan

    found = quality(values, RATE)

    assert not found.flat.any()
    assert found.dead.tolist() == [False, False, True, False, False]
    assert np.isfinite(found.line_noise).all()


def test_fewer_samples_than_a_segment_are_one():
    found = quality(noise(seconds=2), RATE)

    assert found.spread.shape == (1, 5)
    assert np.isfinite(found.line_noise[0])
