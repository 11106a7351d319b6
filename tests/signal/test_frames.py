import numpy as np
import pytest

from neurofmx.signal.clocks import fit_clock
from neurofmx.signal.frames import recover_frames

RATE = 30.0


def camera(seed, drift=0.0, jitter=2e-3, drop=0.01, gap=3.0, seconds=3600.0):
    """Number, true time and stamp of each frame of a camera that drifts, drops and pauses."""
    rng = np.random.default_rng(seed)
    number = np.arange(int(seconds * RATE))
    true = 0.013 + number / RATE
    seen = (rng.random(len(number)) > drop) & ~(
        (true > 0.4 * seconds) & (true < 0.4 * seconds + gap)
    )
    stamps = to_device(true, drift) + rng.normal(0, jitter, len(true))
    return number[seen], true[seen], np.sort(stamps[seen])


def to_device(times, drift):
    return (times - 0.3) / (1 + drift * 1e-6)


def pulses(seed, drift, seconds=3600.0):
    """A pulse every 2 s, ± 0.1 ms on each side, of which each side misses 5%."""
    rng = np.random.default_rng(seed + 1000)
    true = np.arange(1.0, seconds, 2.0)
    device, reference = (x + rng.normal(0, 1e-4, len(x)) for x in (to_device(true, drift), true))
    return device[rng.random(len(true)) > 0.05], reference[rng.random(len(true)) > 0.05]


def wrong(found, number):
    """Frames whose number is not that of the rest of their segment."""
    lead = found.index - number
    parts = [lead[found.segment == k] for k in range(found.segment[-1] + 1)]
    return sum(int((part != np.median(part)).sum()) for part in parts)


DRIFTS = [-200.0, 200.0, -80.0, 80.0, -20.0, 20.0]  # ppm


@pytest.mark.parametrize(("seed", "drift"), list(enumerate(DRIFTS)))
def test_an_hour_of_video_is_placed_to_a_tenth_of_a_millisecond(seed, drift):
    jitter, drop = [(2e-3, 0.01), (3e-3, 0.02)][seed in (0, 1, 3)]
    number, true, stamps = camera(seed, drift, jitter, drop)

    found, clock = recover_frames(stamps), fit_clock(*pulses(seed, drift))

    assert clock.drift == pytest.approx(drift, abs=0.1)  # the gate is 1 ppm
    assert clock.later == ()
    assert np.quantile(np.abs(clock(found.times) - true), 0.99) < 1e-4  # the gate is 1 ms
    np.testing.assert_array_equal(found.index, number - number[0])
    cut = int(np.argmax(np.diff(true))) + 1
    np.testing.assert_array_equal(found.segment, np.arange(len(true)) >= cut)
    lost = [part[-1] - part[0] + 1 - len(part) for part in np.split(number, [cut])]
    assert found.dropped == sum(lost)
    assert found.rate == pytest.approx(RATE * (1 + drift * 1e-6), rel=1e-6)
    assert found.residual == pytest.approx(jitter, rel=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_heavy_jitter_and_many_drops_leave_few_numbers_wrong(seed):
    drift = [-200.0, -20.0, 80.0][seed]
    number, true, stamps = camera(seed, drift, jitter=5e-3, drop=0.05)

    found, clock = recover_frames(stamps), fit_clock(*pulses(seed, drift))

    assert wrong(found, number) < 2e-4 * len(number)  # the gate is 2e-3
    assert np.quantile(np.abs(clock(found.times) - true), 0.99) < 2e-4  # the gate is 1 ms
    assert (np.diff(found.index) > 0).all()


def test_frames_of_a_hand_computed_case():
    times = np.array([5.0, 5.1, 5.2, 5.4, 5.5, 7.75, 7.85, 7.95])

    found = recover_frames(times, rate=10.0)

    np.testing.assert_array_equal(found.index, [0, 1, 2, 4, 5, 27, 28, 29])  # 22.5 frames on
    np.testing.assert_array_equal(found.segment, [0] * 5 + [1] * 3)
    np.testing.assert_allclose(found.times, times, atol=1e-12)
    assert found.dropped == 1  # those of the gap are not counted
    assert (found.rate, found.residual) == (pytest.approx(10.0), pytest.approx(0.0, abs=1e-9))


def test_a_short_segment_has_the_period_of_the_longest():
    rng = np.random.default_rng(0)
    true = np.concatenate([np.arange(9000) / RATE, 302.7 + np.arange(20) / RATE])

    found = recover_frames(true + rng.normal(0, 4e-3, len(true)))

    assert np.diff(found.times[-20:]) == pytest.approx(1 / RATE, rel=1e-5)
    assert np.abs(found.times - true)[-20:].max() < 3e-3


@pytest.mark.parametrize("shift", [-4096.0, 1.7e9])
def test_a_shift_of_the_clock_shifts_the_times_alone(shift):
    _, _, stamps = camera(3, seconds=300.0)

    here, there = recover_frames(stamps), recover_frames(stamps + shift)

    np.testing.assert_array_equal(here.index, there.index)
    np.testing.assert_allclose(there.times - shift, here.times, atol=1e-6)
    assert there.dropped == here.dropped


def test_a_card_that_knows_the_rate_about_right_helps_where_half_of_the_frames_are_lost():
    number, true, stamps = camera(0, jitter=1e-3, drop=0.5, seconds=600.0)

    found = recover_frames(stamps, rate=29.9)

    assert wrong(found, number) == 0
    np.testing.assert_allclose(found.times, to_device(true, 0.0), atol=1e-4)


def test_a_lone_late_stamp_moves_nothing_else():
    _, _, stamps = camera(1, seconds=60.0, gap=0.0)
    late = stamps.copy()
    late[700] = late[701] - 1e-4

    found, clean = recover_frames(late), recover_frames(stamps)

    np.testing.assert_array_equal(found.index, clean.index)
    np.testing.assert_allclose(found.times, clean.times, atol=1e-4)


def test_a_gap_shorter_than_the_period_is_refused():
    with pytest.raises(ValueError, match=r"every 2 s, so an interval of 1 s is no gap"):
        recover_frames(np.arange(100) * 2.0)


def test_one_frame_has_no_rate():
    with pytest.raises(ValueError, match="a rate needs 2 different times"):
        recover_frames(np.array([1.0]))
