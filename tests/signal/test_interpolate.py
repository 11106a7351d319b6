import numpy as np
import pytest
from scipy.interpolate import CubicSpline, PchipInterpolator

from neurofmx.signal.interpolate import METHODS, Interpolated, check_method


def column(values):
    return np.asarray(values, float)[:, None]


def test_lines_of_a_hand_computed_case():
    rows = Interpolated(
        column([0, 2, 4]), np.array([0.0, 1.0, 3.0]), 0.0, 2.0, 7, "linear", max_gap=2.5
    )

    np.testing.assert_allclose(rows[:][:, 0], [0, 1, 2, 2.5, 3, 3.5, 4])
    assert rows.mask.all()


def test_held_and_nearest_samples_of_a_hand_computed_case():
    times, values = np.array([0.0, 1.0, 2.0]), column([5, 6, 7])

    held = Interpolated(values, times, 0.0, 4.0, 12, "previous", max_gap=1.0)
    near = Interpolated(values, times, 0.0, 4.0, 12, "nearest", max_gap=1.0)

    np.testing.assert_array_equal(held[:][:, 0], [5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7])
    np.testing.assert_array_equal(near[:][:, 0], [5, 5, 5, 6, 6, 6, 6, 7, 7, 0, 0, 0])
    assert held.mask.all()
    assert near.mask.sum() == 9  # nothing is known after the last sample


@pytest.mark.parametrize("method", METHODS)
def test_neighbours_beyond_the_limit_are_not_joined(method):
    times = np.array([0.0, 1.0, 5.0, 6.0])

    rows = Interpolated(column([1, 1, 9, 9]), times, 0.0, 1.0, 9, method, max_gap=2.0)

    held = method == "previous"  # for as long as neighbours may be apart, and no longer
    np.testing.assert_array_equal(rows.mask, [1, 1, held, held, 0, 1, 1, held, held])
    np.testing.assert_allclose(
        rows[:][rows.mask, 0], [1] * (4 if held else 2) + [9] * (4 if held else 2)
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_lost_sample_is_bridged_where_its_neighbours_are_close(method):
    values, mask = np.arange(20.0)[:, None], np.ones(20, bool)
    values[10], mask[10] = np.nan, False

    rows = Interpolated(values, (0.0, 10.0), 0.0, 10.0, 20, method, max_gap=0.2, mask=mask)
    apart = Interpolated(values, (0.0, 10.0), 0.0, 10.0, 20, method, max_gap=0.1, mask=mask)

    assert rows.mask.all()
    expected = {"previous": 9.0, "nearest": 9.0}.get(method, 10.0)
    assert rows[10:11][0, 0] == pytest.approx(expected)
    held = [] if method == "previous" else [10]
    np.testing.assert_array_equal(np.flatnonzero(~apart.mask), held)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("method", "peer"), [("pchip", PchipInterpolator), ("cubic", CubicSpline)])
def test_splines_are_those_of_scipy(method, peer, seed):
    rng = np.random.default_rng(seed)
    times, values = np.cumsum(rng.uniform(0.01, 0.06, 5000)), rng.normal(size=(5000, 3))
    at = times[0] + np.arange(40_000) / 250

    rows = Interpolated(values, times, times[0], 250.0, 40_000, method, max_gap=1.0)

    inside = at <= times[-1]
    np.testing.assert_array_equal(rows.mask, inside)
    np.testing.assert_allclose(rows[:][inside], peer(times, values)(at[inside]), atol=1e-9)


@pytest.mark.parametrize(("method", "peer"), [("pchip", PchipInterpolator), ("cubic", CubicSpline)])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_each_stretch_has_a_spline_of_its_own(method, peer, size):
    rng = np.random.default_rng(size)
    times = np.concatenate([k * 10.0 + np.arange(size) * 0.1 for k in range(3)])
    values = rng.normal(size=(len(times), 2))

    rows = Interpolated(values, times, 0.0, 80.0, 2400, method, max_gap=0.5)

    at = np.arange(2400) / 80.0
    for part in np.split(np.arange(len(times)), 3):
        inside = (at >= times[part[0]] - 1e-9) & (at <= times[part[-1]] + 1e-9)
        assert rows.mask[inside].all()
        if size > 1:
            truth = peer(times[part], values[part])(at[inside])
            np.testing.assert_allclose(rows[:][inside], truth, atol=1e-9)
    assert rows.mask.sum() == 3 * (8 * (size - 1) + 1)


def test_the_reference_values_of_the_design_are_met():
    """30 → 1000 Hz, content up to 8 Hz: hold 0.69, nearest 0.92, linear 0.987, … cubic 0.9999."""
    rng = np.random.default_rng(0)
    tones = rng.uniform(0, 8, 60), rng.uniform(0, 2 * np.pi, 60), rng.normal(size=60)
    frequency, phase, size = tones

    def signal(t):
        return (size * np.sin(2 * np.pi * t[:, None] * frequency + phase)).sum(axis=1)

    truth = signal(np.arange(120_000) / 1000.0)
    frames = signal(np.arange(3601) / 30.0)[:, None]

    score = {}
    for method in METHODS:
        rows = Interpolated(frames, (0.0, 30.0), 0.0, 1000.0, 120_000, method, max_gap=0.1)
        score[method] = 1 - ((rows[:][:, 0] - truth) ** 2).mean() / truth.var()

    assert sorted(METHODS, key=score.get) == list(METHODS)
    bounds = {"previous": 0.69, "nearest": 0.92, "linear": 0.987, "pchip": 0.995, "cubic": 0.9999}
    for method, bound in bounds.items():
        assert 0.3 < (1 - score[method]) / (1 - bound) < 1.1, method


@pytest.mark.parametrize("seed", range(3))
def test_the_future_never_changes_the_past_in_causal_mode(seed):
    rng = np.random.default_rng(seed)
    times, values = np.cumsum(rng.uniform(0.01, 0.05, 800)), rng.normal(size=(800, 2))
    mask = rng.random(800) > 0.1
    now = int(rng.integers(300, 500))
    later, other, seen = times.copy(), values.copy(), mask.copy()
    later[now:] = times[now - 1] + np.cumsum(rng.uniform(0.01, 0.3, 800 - now))
    other[now:], seen[now:] = 1e6, rng.random(800 - now) > 0.5
    past = int((times[now - 1] + 0.01) * 500)

    def rows(times, values, mask):
        return Interpolated(values, times, 0.0, 500.0, 8000, "previous", 0.1, mask, causal=True)

    a, b = rows(times, values, mask), rows(later, other, seen)
    assert a[:past].tobytes() == b[:past].tobytes()
    np.testing.assert_array_equal(a.mask[:past], b.mask[:past])
    assert a[:].tobytes() != b[:].tobytes()


@pytest.mark.parametrize("method", METHODS[1:])
def test_methods_that_read_the_next_sample_are_refused_in_causal_mode(method):
    with pytest.raises(ValueError, match="choose 'previous'"):
        Interpolated(column([1, 2]), (0.0, 1.0), 0.0, 1.0, 2, method, 1.0, causal=True)
    check_method(method, causal=False)


def test_an_unknown_method_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"no interpolation 'spline'; choose one of \('previous'"):
        check_method("spline", causal=False)


@pytest.mark.parametrize("method", METHODS)
def test_a_shift_of_all_clocks_shifts_the_times_alone(method):
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.integers(1, 8, 600)) / 128.0  # a binary fraction: the shift is exact
    values, mask = rng.normal(size=(600, 2)), rng.random(600) > 0.05

    def rows(shift):
        return Interpolated(values, times + shift, shift, 512.0, 9000, method, 0.1, mask)

    assert rows(0.0)[:].tobytes() == rows(4096.0)[:].tobytes()
    np.testing.assert_array_equal(rows(0.0).mask, rows(4096.0).mask)


@pytest.mark.parametrize("method", METHODS)
def test_epoch_sized_times_lose_nothing_that_shows(method):
    times, values = np.arange(300) / 30.0, np.sin(np.arange(300.0) / 5)[:, None]

    near = Interpolated(values, times, 0.0, 100.0, 990, method, 0.1)
    far = Interpolated(values, times + 1.7e9, 1.7e9, 100.0, 990, method, 0.1)

    np.testing.assert_allclose(
        near[5:980], far[5:980], atol=0.25 if method in METHODS[:2] else 1e-5
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_on_the_grid_is_itself(method):
    values = np.random.default_rng(0).normal(size=(900, 2)).astype("f4")

    rows = Interpolated(values, (0.3, 30.0), 0.3, 300.0, 8991, method, 0.1)

    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows[:][::10], values, rtol=1e-5, atol=1e-6)
