import numpy as np
import pytest

from neurofmx.evaluation import (
    METRICS,
    block_bootstrap,
    contiguous_blocks,
    hierarchical_bootstrap,
)
from neurofmx.evaluation.metrics import BlockScore
from neurofmx.evaluation.seeds import seed_variance
from neurofmx.evaluation.statistics import Recorded, numbered


def correlated(rng, n, a=0.98):
    x = rng.normal(size=n)
    for k in range(1, n):
        x[k] = a * x[k - 1] + np.sqrt(1 - a**2) * x[k]
    return x


def interval(truth, prediction, blocks, draws=1000):
    score = METRICS["r2"].by_block(truth, prediction, numbered(blocks))
    return block_bootstrap(score, draws, np.random.default_rng(0))


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


def test_blocks_are_numbered_without_gaps():
    np.testing.assert_array_equal(numbered(np.array([7, 3, 7, 9])), [1, 0, 1, 2])


def test_a_draw_that_leaves_the_figure_undefined_takes_its_interval():
    truth = np.zeros((8, 1))
    truth[0] = 1.0  # a class in one block, which some draws lack
    p = np.tile([0.6, 0.4], (8, 1))
    blocks = np.arange(8)
    found = block_bootstrap(
        METRICS["auc"].by_block(truth, p, blocks), 200, np.random.default_rng(0)
    )
    assert found[""].value == 0.5
    assert np.isnan(found[""].low)


def mean_of(values: np.ndarray) -> BlockScore:
    """The mean of one number a block."""
    return BlockScore(len(values), lambda counts: (counts @ values / counts.sum(-1))[..., None])


def recorded(animal, values):
    return Recorded(animal, len(values), mean_of(np.array(values)).main)


def drawn_again(rng, truth=0.0, animals=5, recordings=4, blocks=10, spread=(1.0, 0.5, 2.0)):
    """Blocks of recordings of animals about a truth, each level with its own spread."""
    found = []
    for animal in range(animals):
        of_animal = truth + spread[0] * rng.normal()
        for _ in range(recordings):
            of_recording = of_animal + spread[1] * rng.normal()
            found.append(
                recorded(f"animal-{animal}", of_recording + spread[2] * rng.normal(size=blocks))
            )
    return found


def test_hierarchical_value_is_the_mean_over_recordings_however_long():
    short, long = recorded("a", [1.0] * 5), recorded("a", [3.0] * 50)
    found = hierarchical_bootstrap([short, long], 500, np.random.default_rng(0))
    assert found.value == 2.0
    # Two recordings drawn of two: 1, 2 or 3, the ends a quarter of the time each.
    assert (found.low, found.high) == (1.0, 3.0)


def test_hierarchical_interval_covers_the_truth_that_blocks_alone_miss():
    rng, hits, naive_hits = np.random.default_rng(4), 0, 0
    for _ in range(100):
        given = drawn_again(rng, animals=12)
        found = hierarchical_bootstrap(given, 200, rng)
        alone = [Recorded(str(k), r.n_blocks, r.score) for k, r in enumerate(given)]
        naive = hierarchical_bootstrap(alone, 200, rng)  # as if each were another animal
        hits += found.low <= 0 <= found.high
        naive_hits += naive.low <= 0 <= naive.high
    assert hits >= 85  # of 95 wanted; 12 animals are few
    assert naive_hits < hits - 10


def test_hierarchical_spread_is_that_of_the_three_levels():
    """Var = A / animals + R / recordings + B / blocks, of the values themselves."""
    rng = np.random.default_rng(5)
    values = (
        rng.normal(size=(6, 3, 8)) + rng.normal(size=(6, 3, 1)) + 2 * rng.normal(size=(6, 1, 1))
    )
    given = [recorded(str(a), values[a, r]) for a in range(6) for r in range(3)]
    found = hierarchical_bootstrap(given, 4000, rng)
    of_recording = values.mean(axis=2)
    expected = (
        of_recording.mean(axis=1).var() / 6
        + of_recording.var(axis=1).mean() / 18
        + values.var(axis=2).mean() / 144
    )
    assert (found.high - found.low) / 3.92 == pytest.approx(np.sqrt(expected), rel=0.06)


def test_an_undefined_recording_is_left_out_and_one_alone_has_no_mean():
    nothing = Recorded("a", 3, lambda counts: np.full(len(counts), np.nan))
    one, other = recorded("a", [1.0] * 5), recorded("b", [2.0] * 5)
    rng = np.random.default_rng(0)
    assert hierarchical_bootstrap([one, other, nothing], 200, rng).value == 1.5
    assert np.isnan(hierarchical_bootstrap([one, nothing], 200, rng).value)


def test_variance_over_seeds_is_told_from_that_over_recordings():
    rng, found = np.random.default_rng(6), []
    for _ in range(400):
        seeds, recordings = rng.normal(size=(5, 1)), 3 * rng.normal(size=(1, 8))
        v = seed_variance(seeds + recordings + 0.5 * rng.normal(size=(5, 8)))
        found.append((v.seed, v.recording, v.rest))
    np.testing.assert_allclose(np.mean(found, axis=0), [1.0, 9.0, 0.25], rtol=0.1)


def test_variances_by_hand():
    # Rows differ by 2, columns by 4, nothing is left.
    found = seed_variance(np.array([[0.0, 4.0], [2.0, 6.0]]))
    assert (found.seed, found.recording, found.rest) == (2.0, 8.0, 0.0)
    with pytest.raises(ValueError, match="1 seeds"):
        seed_variance(np.ones((1, 4)))
