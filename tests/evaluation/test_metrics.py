import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn import metrics as sklearn

from neurofmx.evaluation import METRICS


def score(name, truth, prediction):
    return METRICS[name].score(truth, prediction)


def test_r2_of_a_hand_computed_case_is_each_dimension_by_itself():
    truth = np.array([[1.0, 100.0], [2.0, 100.0], [3.0, 103.0]])
    prediction = np.array([[1.0, 101.0], [2.0, 101.0], [2.0, 101.0]])  # the mean of column 1

    # Column 0: residual 1, total 2. Column 1: 1 + 1 + 4 = its own total.
    np.testing.assert_allclose(score("r2", truth, prediction), [0.5, 0.0], atol=1e-12)
    assert score("r2_weighted", truth, prediction) == pytest.approx([1 - 7 / 8])
    np.testing.assert_allclose(score("mse", truth, prediction), [1 / 3, 2.0])


def test_r2_is_not_clipped_and_a_small_unit_costs_no_digits():
    truth = 1e-9 * np.array([[1.0], [2.0], [3.0]]) + 1e-6
    np.testing.assert_allclose(score("r2", truth, truth[::-1]), [-3.0], rtol=1e-6)
    np.testing.assert_allclose(score("pearson", truth, truth[::-1]), [-1.0], rtol=1e-6)


def test_pearson_is_blind_to_what_r2_sees():
    truth = np.array([[0.0], [1.0], [2.0]])
    assert score("pearson", truth, 10 - 5 * truth[::-1]) == pytest.approx([1.0])
    assert score("r2", truth, 10 - 5 * truth[::-1])[0] < 0


def test_accuracies_of_a_hand_computed_case():
    truth = np.array([[0.0], [0.0], [0.0], [1.0]])
    prediction = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.2, 0.8, 0.0], [0.7, 0.2, 0.1]])

    assert score("accuracy", truth, prediction) == pytest.approx([0.5])
    assert score("balanced_accuracy", truth, prediction) == pytest.approx([(2 / 3 + 0) / 2])
    # Class 0: 2 of 3 answers and 2 of 3 queries. Class 1: none.
    assert score("f1", truth, prediction) == pytest.approx([2 * 2 / (3 + 3) / 2])
    # By chance: 3/4 · 3/4 + 1/4 · 1/4.
    assert score("kappa", truth, prediction) == pytest.approx([(0.5 - 0.625) / (1 - 0.625)])
    # Class 0 (0.9, 0.8, 0.2 against 0.7) wins 2 of 3, class 1 (0.2 against 0.1, 0.2, 0.8) 1.5.
    assert score("auc", truth, prediction) == pytest.approx([(2 / 3 + 1.5 / 3) / 2])


def test_circular_error_goes_the_shorter_way_round():
    truth = np.deg2rad([[359.0, 0.0], [10.0, 90.0]])
    prediction = np.deg2rad([[1.0, 180.0], [-10.0, -90.0]])
    np.testing.assert_allclose(score("circular_error", truth, prediction), [(2 + 20) / 2, 180])


def test_a_median_is_not_moved_by_one_wild_answer():
    truth, prediction = np.zeros((5, 1)), np.deg2rad([[1.0], [2.0], [3.0], [4.0], [170.0]])
    assert score("circular_median", truth, prediction) == pytest.approx([3.0])
    assert score("circular_median", truth[1:], prediction[1:]) == pytest.approx([3.5])
    assert score("circular_error", truth, prediction) == pytest.approx([36.0])


@pytest.mark.parametrize(
    ("name", "truth", "prediction"),
    [
        ("r2", np.full((5, 1), 0.3), np.zeros((5, 1))),
        ("r2", np.array([[1.0, 2.0], [2.0, 2.0]]), np.ones((2, 2))),  # one of two dimensions
        ("r2_weighted", np.full((5, 2), 0.3), np.zeros((5, 2))),
        ("pearson", np.arange(5.0)[:, None], np.full((5, 1), 0.3)),
        ("auc", np.ones((5, 1)), np.full((5, 2), 0.5)),
        ("kappa", np.ones((5, 1)), np.tile([0.0, 1.0], (5, 1))),
    ],
)
def test_undefined_raises_for_one_value_and_is_nan_among_draws(name, truth, prediction):
    with pytest.raises(ValueError, match=f"undefined over these {len(truth)} queries"):
        score(name, truth, prediction)
    found = METRICS[name].by_block(truth, prediction, np.arange(len(truth)))
    assert np.isnan(found.main(np.ones((3, len(truth))))).all()


def test_weighted_r2_leaves_out_a_dimension_that_never_changes_as_scikit_learn_does():
    truth = np.array([[1.0, 2.0], [2.0, 2.0], [4.0, 2.0]])
    prediction = np.array([[1.0, 9.0], [2.0, 9.0], [3.0, 9.0]])
    theirs = sklearn.r2_score(truth, prediction, multioutput="variance_weighted")
    assert score("r2_weighted", truth, prediction) == pytest.approx([theirs])


def repeated(n_blocks=7, n=200):
    """Blocks of queries and three draws of them, with what scikit-learn calls sample weights."""
    rng = np.random.default_rng(3)
    blocks = np.sort(np.concatenate([np.arange(n_blocks), rng.integers(0, n_blocks, n - n_blocks)]))
    counts = rng.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=3).astype(float)
    return rng, blocks, counts


WEIGHTED = {
    "r2": lambda y, p, w: sklearn.r2_score(y, p, sample_weight=w, multioutput="raw_values"),
    "r2_weighted": lambda y, p, w: sklearn.r2_score(
        y, p, sample_weight=w, multioutput="variance_weighted"
    ),
    "mse": lambda y, p, w: sklearn.mean_squared_error(
        y, p, sample_weight=w, multioutput="raw_values"
    ),
    "accuracy": lambda y, p, w: sklearn.accuracy_score(y, p.argmax(1), sample_weight=w),
    "balanced_accuracy": lambda y, p, w: sklearn.balanced_accuracy_score(
        y, p.argmax(1), sample_weight=w
    ),
    "f1": lambda y, p, w: sklearn.f1_score(y, p.argmax(1), sample_weight=w, average="macro"),
    "kappa": lambda y, p, w: sklearn.cohen_kappa_score(y, p.argmax(1), sample_weight=w),
    "auc": lambda y, p, w: sklearn.roc_auc_score(
        y, p if p.shape[1] > 2 else p[:, 1], sample_weight=w, multi_class="ovr"
    ),
}


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("name", WEIGHTED)
def test_it_agrees_with_scikit_learn_under_any_counts(name, n_classes):
    rng, blocks, counts = repeated()
    if "regression" in METRICS[name].kinds:
        truth = rng.normal(size=(len(blocks), 3)) * [1.0, 5.0, 0.1]
        prediction = truth + rng.normal(size=truth.shape) * [0.5, 9.0, 0.01]
    else:
        truth = rng.integers(0, n_classes, (len(blocks), 1)).astype(float)
        raw = rng.random((len(blocks), n_classes)) + (truth == np.arange(n_classes))
        prediction = np.round(raw / raw.sum(axis=1, keepdims=True), 1)  # so that there are ties
        prediction[:, -1] = 1 - prediction[:, :-1].sum(axis=1)
    ours = METRICS[name].by_block(truth, prediction, blocks)
    for draw in counts:
        theirs = WEIGHTED[name](truth, prediction, draw[blocks])
        np.testing.assert_allclose(ours(draw), np.atleast_1d(theirs), rtol=1e-9)


def test_pearson_agrees_with_scipy():
    rng = np.random.default_rng(0)
    truth, prediction = rng.normal(size=(2, 50, 2))
    theirs = pearsonr(truth, prediction).statistic
    np.testing.assert_allclose(score("pearson", truth, prediction), theirs, rtol=1e-9)


def answers(metric, rng, n):
    if "regression" in metric.kinds:
        truth = rng.normal(size=(n, 2))
        return truth, truth + rng.normal(size=(n, 2))
    if "circular" in metric.kinds:
        return tuple(rng.uniform(-np.pi, np.pi, (2, n, 2)))
    truth = rng.integers(0, 3, (n, 1)).astype(float)
    raw = rng.random((n, 3)) + (truth == np.arange(3))
    return truth, raw / raw.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("name", METRICS)
def test_counting_a_block_is_repeating_its_queries(name):
    rng, blocks, counts = repeated()
    truth, prediction = answers(METRICS[name], rng, len(blocks))
    found = METRICS[name].by_block(truth, prediction, blocks)
    for draw, figures in zip(counts, found(counts), strict=True):
        again = np.repeat(np.arange(len(blocks)), draw[blocks].astype(int))
        np.testing.assert_allclose(figures, score(name, truth[again], prediction[again]))
    np.testing.assert_allclose(found.whole(), score(name, truth, prediction))
    assert found.value == pytest.approx(found.whole().mean())


@pytest.mark.parametrize("name", METRICS)
def test_neither_the_order_of_queries_nor_the_numbers_of_blocks_matter(name):
    rng, blocks, counts = repeated()
    truth, prediction = answers(METRICS[name], rng, len(blocks))
    order, renamed = rng.permutation(len(blocks)), rng.permutation(7)
    one = METRICS[name].by_block(truth, prediction, blocks)
    other = METRICS[name].by_block(truth[order], prediction[order], renamed[blocks][order])
    np.testing.assert_allclose(other(counts), one(counts[:, renamed]))
