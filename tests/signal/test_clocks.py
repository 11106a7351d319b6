import numpy as np
import pytest

from neurofmx.signal.clocks import fit_clock, grid, match_events, nominal_rate


def pulses(seed, drift, offset, t0=0.0, irregular=True, missed=0.05, jitter=50e-6):
    """Pulses each second for 300 s on a device's clock and on the reference's, with losses."""
    rng = np.random.default_rng(seed)
    true = t0 + np.arange(300.0) + (rng.uniform(-0.1, 0.1, 300) if irregular else 0.0)
    device = (true - offset) / (1.0 + drift * 1e-6) + rng.normal(0, jitter, 300)
    return device[rng.random(300) > missed], true[rng.random(300) > missed]


@pytest.mark.parametrize("drift", [-500.0, -80.0, 0.0, 3.0, 200.0, 500.0])
@pytest.mark.parametrize(("offset", "t0"), [(0.0, 0.0), (-12.7, 0.0), (5000.0, 0.0), (3.2, 1.7e9)])
def test_planted_drift_is_found_to_a_part_per_million(drift, offset, t0):
    for seed in range(3):
        device, reference = pulses(seed, drift, offset, t0)

        clock = fit_clock(device, reference)

        truth = offset + (1.0 + drift * 1e-6) * device
        assert clock.drift == pytest.approx(drift, abs=1.0)
        assert np.abs(clock(device) - truth).max() < 300e-6  # mostly the planted jitter
        assert 30e-6 < clock.residual < 70e-6
        assert clock.n_events > 250


def test_even_pulses_fit_where_the_clocks_started_together():
    device, reference = pulses(0, 80.0, 0.3, irregular=False)

    assert fit_clock(device, reference).drift == pytest.approx(80.0, abs=1.0)
    assert fit_clock(device, reference).offset == pytest.approx(0.3, abs=1e-3)


def test_even_pulses_fit_at_any_offset_where_none_was_missed():
    device, reference = pulses(0, 80.0, -4321.3, irregular=False, missed=0.0)

    assert fit_clock(device, reference).offset == pytest.approx(-4321.3, abs=1e-3)


def test_even_pulses_with_losses_and_an_unknown_offset_are_not_guessed():
    device, reference = pulses(0, 80.0, 5000.0, irregular=False)

    with pytest.raises(ValueError, match=r"evenly spaced \(1 s\), so shifts of .* fit equally"):
        fit_clock(device, reference)


def test_events_are_paired_with_their_own_counterpart():
    reference = np.array([0.0, 1.0, 2.5, 3.1, 5.0, 6.7, 8.0])
    device = reference[[0, 1, 2, 4, 5, 6]] + 100.0  # the device missed the fourth

    pairs = match_events(device, np.delete(reference, 5))  # the reference the sixth

    np.testing.assert_array_equal(pairs, [[0, 0], [1, 1], [2, 2], [3, 4], [5, 5]])


def test_a_stray_pulse_changes_nothing():
    device, reference = pulses(1, 40.0, 7.0)
    clean = fit_clock(device, reference)
    stray = fit_clock(np.sort(np.append(device, device[100] + 0.013)), reference)

    assert stray.drift == pytest.approx(clean.drift, abs=0.05)


def test_a_device_that_ran_for_a_part_of_the_session_is_found_in_it():
    device, reference = pulses(2, -60.0, 11.0)

    assert fit_clock(device[120:180], reference).offset == pytest.approx(11.0, abs=1e-3)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_pulses_are_refused(n):
    with pytest.raises(ValueError, match=f"needs 3 shared pulses; the device has {n}"):
        fit_clock(np.arange(float(n)), np.arange(9.0))


@pytest.mark.parametrize("n", [40, 300])
def test_pulses_that_share_nothing_are_refused(n):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        device, reference = (np.cumsum(rng.uniform(0.5, 1.5, n)) for _ in range(2))

        with pytest.raises(ValueError, match="less than half fit one clock"):
            fit_clock(device, reference)


def test_nominal_rate_ignores_gaps_and_millisecond_rounding():
    times = np.round(np.arange(3000) / 30.0, 3)  # steps of 33 and 34 ms, median 33

    assert nominal_rate(times) == pytest.approx(30.0, rel=1e-4)
    assert nominal_rate(np.concatenate([times, times + 500.0])) == pytest.approx(30.0, rel=1e-4)


def test_grid_places_each_stretch_and_leaves_the_gap_empty():
    times = np.array([5.0, 5.1, 5.2, 6.04, 6.14])

    placed = grid(times, 10.0)

    np.testing.assert_array_equal(placed.index, [0, 1, 2, 10, 11])
    assert placed.size == 12
    assert placed.error == pytest.approx(0.04)
