import numpy as np
import pytest

from neurofmx.evaluation import METRICS


def score(name, truth, prediction):
    metric = METRICS[name]
    return metric.value(metric.statistics(truth, prediction).sum(axis=0))


def test_r2_of_a_hand_computed_case_is_each_dimension_by_itself():
    truth = np.array([[1.0, 100.0], [2.0, 100.0], [3.0, 103.0]])
    prediction = np.array([[1.0, 101.0], [2.0, 101.0], [2.0, 101.0]])  # the mean of column 1

    # Column 0: residual 1, total 2. Column 1: 1 + 1 + 4 = its own total.
    np.testing.assert_allclose(score("r2", truth, prediction), [0.5, 0.0], atol=1e-12)


def test_r2_is_not_clipped_and_a_small_unit_costs_no_digits():
    truth = 1e-9 * np.array([[1.0], [2.0], [3.0]]) + 1e-6
    np.testing.assert_allclose(score("r2", truth, truth[::-1]), [-3.0], rtol=1e-6)


def test_r2_of_a_target_that_never_changes_is_undefined():
    assert np.isnan(score("r2", np.full((5, 1), 0.3), np.zeros((5, 1))))


def test_accuracies_of_a_hand_computed_case():
    truth = np.array([[0.0], [0.0], [0.0], [1.0]])
    prediction = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.2, 0.8, 0.0], [0.7, 0.2, 0.1]])

    assert score("accuracy", truth, prediction) == pytest.approx([0.5])
    assert score("balanced_accuracy", truth, prediction) == pytest.approx([(2 / 3 + 0) / 2])
