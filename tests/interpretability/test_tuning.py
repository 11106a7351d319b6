import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from neurofmx.interpretability import tuning
from neurofmx.interpretability.tuning import TuningParams, tuning_curves


def slow(rng, n):
    x = gaussian_filter1d(rng.normal(size=n), 20)
    return x / x.std()


@pytest.fixture(scope="module")
def curves():
    """Unit 0 follows the behaviour, units 1 to 20 follow something as slow as it."""
    rng = np.random.default_rng(0)
    behaviour, responses = {}, {}
    for split, n in (("train", 4000), ("test", 2000)):
        behaviour[split] = slow(rng, n)
        others = [slow(rng, n) for _ in range(20)]
        responses[split] = np.stack([behaviour[split] ** 2, *others], axis=1)
        responses[split] += 0.1 * rng.normal(size=responses[split].shape)
    return tuning_curves(behaviour, responses, TuningParams(), np.random.default_rng(1))


def test_a_planted_curve_is_found_on_data_that_it_was_not_made_from(curves):
    scores = tuning.score_table(curves)
    assert scores["r2"][0] > 0.7  # the outer bins are wide
    assert scores["q"][0] < 0.15  # 200 shifts of 21 units allow no less than 0.1
    centre = (curves.edges[:-1] + curves.edges[1:]) / 2
    np.testing.assert_allclose(curves.test[2:-2, 0], centre[2:-2] ** 2, atol=0.15)


def test_slow_drift_alone_is_not_taken_for_tuning(curves):
    p = tuning.score_table(curves)["p"][1:]
    assert (p < 0.05).mean() <= 0.15
    assert (curves.r2[1:] < 0.1).all()


def test_r2_of_a_curve_equals_that_of_its_predictions_laid_out():
    rng = np.random.default_rng(2)
    curve, place, r = rng.normal(size=(5, 3)), rng.integers(0, 5, 200), rng.normal(size=(200, 3))
    slow_way = 1 - ((r - curve[place]) ** 2).sum(0) / ((r - r.mean(0)) ** 2).sum(0)
    np.testing.assert_allclose(tuning._explained(curve, place, r), slow_way)


def test_a_silent_unit_scores_nothing():
    silent = np.zeros((100, 1))
    assert tuning._explained(np.zeros((4, 1)), np.arange(100) % 4, silent) == [0.0]


def test_each_unit_has_a_row_per_bin(curves):
    table = tuning.curve_table(curves)
    assert len(table) == 21 * 10
    np.testing.assert_array_equal(table[table["unit"] == 3]["train"], curves.train[:, 3])
