import numpy as np
import pytest

from neurofmx.signal.clocks import fit_clock, fit_pulses, grid, nominal_rate
from neurofmx.signal.match import match_events
from neurofmx.types import Clock, Piece


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


def stepped(seed, height, irregular, gap=5.0, drift=80.0):
    """Pulses every 2 s for an hour; in a gap at 1700 s the device's clock jumps by `height`."""
    rng = np.random.default_rng(seed)
    true = 1.0 + np.arange(1800) * 2.0 + (rng.uniform(-0.4, 0.4, 1800) if irregular else 0.0)
    device = (true - 0.1) / (1 + drift * 1e-6) + rng.normal(0, 1e-4, 1800)
    device = device + np.where(true > 1700.0 + gap / 2, height, 0.0)
    seen = (rng.random(1800) > 0.05) & ~((true > 1700.0) & (true < 1700.0 + gap))
    return device[seen], true[rng.random(1800) > 0.05]


@pytest.mark.parametrize(
    ("height", "irregular"),
    [(0.04, False), (-0.04, False), (0.04, True), (0.7, True), (-0.7, True)],
)
def test_a_clock_that_stepped_in_a_gap_has_a_line_on_each_side(height, irregular):
    for seed in range(2):
        device, reference = stepped(seed, height, irregular)

        clock = fit_clock(device, reference)

        (piece,) = clock.later
        assert clock.drift == pytest.approx(80.0, abs=1.0)
        assert piece.drift == pytest.approx(80.0, abs=1.0)
        assert clock.offset == pytest.approx(0.1, abs=1e-4)
        assert piece.offset == pytest.approx(0.1 - height * (1 + 80e-6), abs=1e-3)
        assert 1699.0 < piece.start < 1706.0
        assert clock.residual < 2e-4
        after = device >= piece.start
        truth = 0.1 + (1 + 80e-6) * (device - np.where(after, height, 0.0))
        assert np.abs(clock(device) - truth).max() < 1e-3


def test_a_clock_that_was_restarted_in_a_gap_is_matched_on_each_side():
    for seed in range(3):
        device, reference = stepped(seed, 100.0, irregular=True)

        clock = fit_clock(device, reference)

        assert [p.offset for p in clock.later] == pytest.approx(
            [0.1 - 100.0 * (1 + 80e-6)], abs=1e-3
        )
        assert clock.n_events > 1580


@pytest.mark.parametrize("irregular", [False, True])
def test_a_clock_without_a_step_stays_one_line(irregular):
    for seed in range(3):
        assert fit_clock(*stepped(seed, 0.0, irregular)).later == ()


def test_a_step_below_the_scatter_is_left_alone():
    for seed in range(5):
        device, reference = stepped(seed, 2e-4, irregular=True)

        assert fit_clock(device, reference).later == ()


def test_the_pulses_of_a_fit_come_with_what_it_left():
    device, reference = pulses(1, 40.0, 7.0)
    device = np.sort(np.append(device, device[100] + 0.013))

    fit = fit_pulses(device, reference)

    assert fit.clock == fit_clock(device, reference)
    assert np.isin(fit.device, device).all()
    assert np.isin(fit.reference, reference).all()
    np.testing.assert_allclose(fit.reference - fit.clock(fit.device), fit.residual, atol=1e-9)
    assert fit.used.sum() == fit.clock.n_events
    assert np.sqrt((fit.residual[fit.used] ** 2).mean()) == pytest.approx(fit.clock.residual)


def test_a_shift_of_the_device_shifts_the_offset_alone():
    device, reference = pulses(4, 40.0, 7.0)

    here, there = fit_clock(device, reference), fit_clock(device + 4096.0, reference)

    assert there.drift == pytest.approx(here.drift, abs=1e-6)
    np.testing.assert_allclose(there(device + 4096.0), here(device), atol=1e-9)


def test_each_piece_of_a_clock_holds_from_its_start_and_time_never_runs_backwards():
    clock = Clock(offset=1.0, later=(Piece(10.0, 3.0, 0.0), Piece(20.0, 2.5, 1e5)))

    np.testing.assert_allclose(clock(np.array([0.0, 9.9, 10.0, 19.0])), [1.0, 10.9, 13.0, 22.0])
    np.testing.assert_allclose(clock(np.array([20.0, 30.0])), [24.5, 35.5])
    back = Clock(later=(Piece(10.0, -0.5, 0.0),))  # the device jumped ahead by half a second
    np.testing.assert_allclose(back(np.array([9.0, 9.4, 9.7, 10.0])), [9.0, 9.4, 9.5, 9.5])


def test_pulses_between_two_gaps_go_to_the_line_that_they_fit():
    for seed in range(3):
        device, reference = stepped(seed, 0.7, irregular=True)
        device = device[(device < 1660.0) | (device > 1675.0)]  # a wider gap, without a step

        clock = fit_clock(device, reference)

        assert [1699.0 < piece.start < 1706.0 for piece in clock.later] == [True]


def test_a_long_run_of_pulses_that_fits_no_line_is_refused():
    device, reference = stepped(0, 0.0, irregular=True)
    scrambled = device > 2500.0
    device[scrambled] += np.random.default_rng(0).uniform(-0.7, 0.7, scrambled.sum())
    device = np.sort(device[(device < 2490.0) | (device > 2510.0)])

    with pytest.raises(ValueError, match=r"from 2\d{3}.* do not meet the reference's"):
        fit_clock(device, reference)


def test_a_device_that_outlives_the_reference_is_fitted_where_both_ran():
    device, reference = stepped(0, 0.0, irregular=True)

    clock = fit_clock(device, reference[reference < 2200.0])

    assert clock.later == ()
    assert clock.offset == pytest.approx(0.1, abs=1e-4)
