import numpy as np

from neurofmx.evaluation import METRICS, block_bootstrap, contiguous_blocks


def correlated(rng, n, a=0.98):
    x = rng.normal(size=n)
    for k in range(1, n):
        x[k] = a * x[k - 1] + np.sqrt(1 - a**2) * x[k]
    return x


def interval(truth, prediction, blocks, draws=1000):
    metric, rng = METRICS["r2"], np.random.default_rng(0)
    return block_bootstrap(metric, metric.statistics(truth, prediction), blocks, draws, rng)


def test_windows_fall_into_blocks_of_enough_seconds():
    start = np.array([0.0, 2.0, 4.0, 6.0])
    np.testing.assert_array_equal(contiguous_blocks(start, start + 2.0, 4.0), [0, 0, 1, 1])
    np.testing.assert_array_equal(contiguous_blocks(start, start + 2.0, 0.5), [0, 1, 2, 3])


def test_overlapping_windows_stay_in_one_block():
    start, stop = np.array([0.0, 0.4, 5.0]), np.array([2.0, 2.4, 7.0])
    np.testing.assert_array_equal(contiguous_blocks(start, stop, 0.1), [0, 0, 1])


def test_blocks_hold_the_spread_that_samples_hide():
    # 40 recordings of one process: their scores spread as far as an interval should be wide.
    rng, n = np.random.default_rng(1), 2000
    scores, by_block, by_sample = [], [], []
    for _ in range(40):
        truth = correlated(rng, n)[:, None]
        prediction = truth + correlated(rng, n)[:, None]
        blocked = interval(truth, prediction, np.arange(n) // 200)[""]
        single = interval(truth, prediction, np.arange(n))[""]
        scores.append(blocked.value)
        by_block.append(blocked.high - blocked.low)
        by_sample.append(single.high - single.low)
    spread = np.quantile(scores, 0.975) - np.quantile(scores, 0.025)

    assert np.median(by_sample) < 0.4 * spread
    assert np.median(by_block) > 0.6 * spread


def test_several_figures_have_their_mean_and_the_seed_decides():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=(300, 2))
    prediction = truth + [0.5, 1.0] * rng.normal(size=(300, 2))
    found = interval(truth, prediction, np.arange(300) // 10)

    assert list(found) == ["", "[0]", "[1]"]
    assert found[""].value == np.mean([found["[0]"].value, found["[1]"].value])
    assert all(f.low < f.value < f.high for f in found.values())
    assert found == interval(truth, prediction, np.arange(300) // 10)


def test_too_few_blocks_have_no_interval():
    truth = np.arange(8.0)[:, None]
    found = interval(truth, truth, np.arange(8) // 2)[""]
    assert found.value == 1.0
    assert np.isnan(found.low)
    assert np.isnan(found.high)
