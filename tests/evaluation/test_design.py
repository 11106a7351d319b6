import numpy as np
import pandas as pd

from neurofmx.evaluation import design
from neurofmx.types import Intervals, Samples


def test_traces_are_averaged_in_the_targets_bins():
    fast = Samples(np.arange(8.0)[:, None], "V", rate=4.0, t0=0.0)
    means = design.bin_means(fast, design.Grid(0.0, 2.0, 5))
    np.testing.assert_allclose(means[:4, 0], [0.5, 2.5, 4.5, 6.5])
    assert np.isnan(means[4, 0])  # beyond the trace


def test_a_slow_trace_holds_while_its_sample_lasts_and_a_gap_stays_a_gap():
    mask = np.array([True, True, False, True])
    slow = Samples(np.array([[1.0], [2.0], [0.0], [4.0]]), "V", rate=1.0, t0=0.0, mask=mask)
    means = design.bin_means(slow, design.Grid(0.0, 2.0, 8))[:, 0]
    np.testing.assert_array_equal(means, [1, 1, 2, 2, np.nan, np.nan, 4, 4])


def test_lags_read_the_past_and_never_another_stretch():
    values = np.arange(1.0, 7.0, dtype=np.float32)[:, None]
    grid = design.Grid(0.0, 1.0, 6)
    stretches = Intervals(np.array([0.0, 3.0]), np.array([3.0, 6.0]), pd.DataFrame())
    rows = np.array([0, 3, 5])

    across = design.lagged(values, rows, [0, 1], design.stretch_of(grid, None))
    within = design.lagged(values, rows, [0, 1], design.stretch_of(grid, stretches))

    np.testing.assert_array_equal(across, [[1, 0], [4, 3], [6, 5]])
    np.testing.assert_array_equal(within, [[1, 0], [4, 0], [6, 5]])


def test_a_nearly_silent_cell_is_not_blown_up():
    counts = np.zeros((1000, 2), np.float32)
    counts[::2, 0] = 1.0
    counts[10, 1] = 1.0  # once in train
    scaled = design.standardised([counts], np.arange(500))
    assert scaled[10, 1] < 5.0  # by its own deviation it would stand at 22
    assert abs(scaled[:500].mean()) < 1e-6


def test_smoothing_keeps_gaps_and_constants():
    values = np.full((50, 1), 3.0, np.float32)
    values[20:25] = np.nan
    smooth = design.smooth([values], 2.0)[0]
    assert np.isnan(smooth[20:25]).all()
    np.testing.assert_allclose(np.delete(smooth, range(20, 25)), 3.0, rtol=1e-5)
