"""Distributions of answers against values worked out by hand, SciPy, and planted truths."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from neurofmx.objectives.likelihoods import BETA, LIKELIHOODS
from neurofmx.types import TaskKind

GAUSSIAN, CATEGORICAL, ORDINAL, CIRCULAR = LIKELIHOODS.values()


def params_of(kind, n, seed=0):
    """Parameters for n queries: of two dimensions, four classes, or two angles."""
    found = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))
    return found[:, :3].sort(-1).values if kind == "ordinal" else found


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_every_kind_answers_the_same_questions(kind):
    likelihood, params = LIKELIHOODS[kind], params_of(kind, 6).reshape(2, 3, -1).requires_grad_()
    values = torch.ones(2, 3, 2 if kind in ("regression", "circular") else 1)
    loss = likelihood.loss(params, values)
    loss.sum().backward()
    answer = likelihood.predict(params)

    assert loss.shape == likelihood.unexplained(params, values).shape == (2, 3)
    assert (
        likelihood.spread(params).shape == answer.shape == (2, 3, 2 if values.shape[-1] > 1 else 4)
    )
    assert (likelihood.spread(params) >= 0).all()
    assert params.grad.isfinite().all()
    assert (params.grad != 0).any()


def test_there_is_a_row_for_each_kind_of_task():
    assert set(LIKELIHOODS) == set(TaskKind.__args__)


def test_gaussian_loss_of_a_hand_computed_case():
    params = torch.tensor([[1.0, 0.0, math.log(4.0), 0.0]])  # means 1 and 0, deviations 2 and 1
    values = torch.tensor([[3.0, 3.0]])
    first = 4**BETA * (math.log(4.0) + 4 / 4)
    assert GAUSSIAN.loss(params, values).item() == pytest.approx((first + 9) / 2)
    assert GAUSSIAN.predict(params).tolist() == [[1, 0]]
    assert GAUSSIAN.spread(params).tolist() == [[2, 1]]
    assert GAUSSIAN.unexplained(params, values).item() == (4 + 9) / 2


def test_the_gradient_for_the_mean_is_that_of_the_squared_error_where_the_deviation_is_1():
    params = torch.tensor([[0.3, 0.0]], requires_grad=True)
    GAUSSIAN.loss(params, torch.tensor([[1.0]])).sum().backward()
    assert params.grad[0, 0].item() == pytest.approx(2 * (0.3 - 1.0))


def fit(likelihood, values, start, steps=400):
    """Parameters, the same for all values, that make the loss least."""
    params = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([params], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        likelihood.loss(params.expand(len(values), -1), values).mean().backward()
        optimizer.step()
    return params.detach()


def test_the_least_gaussian_loss_is_at_mean_and_deviation_of_the_values():
    values = torch.tensor(np.random.default_rng(0).normal(2.0, 0.3, (500, 1)), dtype=torch.float32)
    params = fit(GAUSSIAN, values, torch.zeros(1, 2))
    assert GAUSSIAN.predict(params).item() == pytest.approx(values.mean().item(), abs=1e-3)
    found = values.std(correction=0).item()
    assert GAUSSIAN.spread(params).item() == pytest.approx(found, rel=1e-2)


def test_classes_cost_their_cross_entropy():
    logits = torch.tensor([[0.0, math.log(3.0)]])  # class 1 has probability 3/4
    assert CATEGORICAL.loss(logits, torch.ones(1, 1)).item() == pytest.approx(math.log(4 / 3))
    np.testing.assert_allclose(CATEGORICAL.predict(logits), [[0.25, 0.75]], rtol=1e-6)
    np.testing.assert_allclose(CATEGORICAL.spread(logits), [[math.sqrt(3) / 4] * 2], rtol=1e-6)


def test_ordinal_probabilities_are_differences_of_the_cumulative_ones():
    c = params_of("ordinal", 50).double() * 3
    cumulative = np.hstack([np.zeros((50, 1)), stats.logistic.cdf(c.numpy()), np.ones((50, 1))])
    np.testing.assert_allclose(ORDINAL.predict(c), np.diff(cumulative, axis=1), atol=1e-12)


def test_ordinal_probabilities_far_out_sum_to_1_and_their_logarithms_stay_finite():
    c = torch.tensor([[-90.0, -89.0, -88.0], [88.0, 89.0, 90.0], [-60.0, 0.0, 60.0]])
    p = ORDINAL.predict(c)
    np.testing.assert_allclose(p.sum(-1), 1.0, rtol=1e-6)
    for k in range(4):
        assert ORDINAL.loss(c, torch.full((3, 1), float(k))).isfinite().all()
    # Between -89 and -90 lie e^-89 - e^-90, far less than float32 can tell apart near 1.
    expected = 89 - math.log(1 - math.exp(-1))
    assert ORDINAL.loss(c[:1], torch.ones(1, 1)).item() == pytest.approx(expected, rel=1e-6)


def test_a_higher_score_moves_ordinal_answers_up_and_never_back():
    thresholds = torch.tensor([-1.0, 0.5, 1.0])
    c = thresholds - torch.linspace(-6, 6, 101)[:, None]
    below = ORDINAL.predict(c).cumsum(-1)
    assert (below.diff(dim=0) <= 1e-6).all()
    median = ORDINAL.median(c)
    assert median[[0, -1]].tolist() == [0, 3]
    assert (median.diff() >= 0).all()


def test_two_ordinal_classes_are_logistic_regression():
    c = torch.randn(20, 1, generator=torch.Generator().manual_seed(0))
    two = torch.cat([c, torch.zeros_like(c)], dim=-1)
    for k in (0.0, 1.0):
        values = torch.full((20, 1), k)
        torch.testing.assert_close(ORDINAL.loss(c, values), CATEGORICAL.loss(two, values))
        unexplained = (ORDINAL.unexplained(c, values), CATEGORICAL.unexplained(two, values))
        torch.testing.assert_close(*unexplained)


@pytest.mark.parametrize("kappa", [0.0, 0.01, 1.0, 50.0, 2000.0])
def test_circular_loss_is_von_mises(kappa):
    mean, angles = 2.5, np.linspace(-np.pi, np.pi, 9)
    eta = kappa * torch.tensor([[math.cos(mean), math.sin(mean)]], dtype=torch.float64)
    loss = CIRCULAR.loss(eta.expand(9, 2), torch.tensor(angles)[:, None])
    if kappa == 0:
        np.testing.assert_allclose(loss, math.log(2 * math.pi))
        return
    np.testing.assert_allclose(loss, -stats.vonmises.logpdf(angles, kappa, mean), atol=1e-9)
    assert CIRCULAR.predict(eta).item() == pytest.approx(mean)


def test_circular_spread_is_that_of_many_draws():
    draws = stats.vonmises.rvs(4.0, loc=0.3, size=200_000, random_state=0)
    eta = 4.0 * torch.tensor([[math.cos(0.3), math.sin(0.3)]])
    assert CIRCULAR.spread(eta).item() == pytest.approx(stats.circstd(draws), rel=0.01)
    assert CIRCULAR.spread(torch.zeros(1, 2)).isinf().all()


def test_angles_on_both_sides_of_the_cut_are_near():
    eps = 0.01
    beside = 30.0 * torch.tensor([[math.cos(eps), math.sin(eps)]])
    there = torch.tensor([[2 * math.pi - eps]])
    assert CIRCULAR.loss(beside, there).item() == pytest.approx(
        CIRCULAR.loss(beside, torch.tensor([[3 * eps]])).item(), abs=1e-5
    )
    left = CIRCULAR.unexplained(beside, there).item()
    assert left == pytest.approx(1 - math.cos(2 * eps), abs=1e-6)
    values = torch.tensor(np.r_[[[eps]] * 10, [[2 * np.pi - eps]] * 10], dtype=torch.float32)
    assert abs(CIRCULAR.predict(fit(CIRCULAR, values, torch.zeros(1, 2))).item()) < 1e-3


def test_the_least_circular_loss_is_at_the_planted_concentration():
    draws = stats.vonmises.rvs(3.0, loc=-3.0, size=5000, random_state=0)[:, None]
    params = fit(CIRCULAR, torch.tensor(draws, dtype=torch.float32), torch.zeros(1, 2))
    assert params.norm().item() == pytest.approx(3.0, rel=0.05)
    assert CIRCULAR.predict(params).item() == pytest.approx(-3.0, abs=0.05)


def test_loss_and_gradient_are_finite_for_an_unsure_and_an_all_too_sure_angle():
    for eta in ([[0.0, 0.0]], [[1e6, -1e6]]):
        params = torch.tensor(eta, requires_grad=True)
        loss = CIRCULAR.loss(params, torch.tensor([[1.0]]))
        loss.sum().backward()
        assert loss.isfinite().all()
        assert params.grad.isfinite().all()


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_unexplained_is_0_for_knowing_and_1_for_knowing_nothing(kind):
    """Truths that are evenly spread: over 5 classes, around the circle, or N(0, 1)."""
    n, likelihood = 4000, LIKELIHOODS[kind]
    k = torch.arange(n) % 5
    if kind == "regression":
        values = torch.tensor(stats.norm.ppf((np.arange(n) + 0.5) / n))[:, None].float()
        known, nothing = torch.cat([values, values], -1), torch.zeros(n, 2)
    elif kind == "circular":
        values = torch.arange(n)[:, None] * (2 * math.pi / n)
        known = torch.cat([values.cos(), values.sin()], -1)
        nothing = torch.tensor([[0.3, -2.0]]).expand(n, 2)
    elif kind == "ordinal":
        values, thresholds = k[:, None].float(), torch.tensor([-3.0, -1.0, 1.0, 3.0])
        known, nothing = thresholds - 2 * (values - 2), thresholds.expand(n, 4)
    else:
        values, known = k[:, None].float(), torch.eye(5)[k]
        nothing = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0]).expand(n, 5)
    assert likelihood.unexplained(known, values).mean().item() == pytest.approx(0.0, abs=1e-6)
    assert likelihood.unexplained(nothing, values).mean().item() == pytest.approx(1.0, abs=2e-3)
