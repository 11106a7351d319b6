"""Decode heads: what holds of every kind, and truths that are planted in their targets."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import stats

from neurofmx.models.heads import HEADS
from neurofmx.objectives.likelihoods import LIKELIHOODS

WIDTH, OUTPUTS = 16, 5


def head(kind, width=WIDTH, outputs=OUTPUTS):
    torch.manual_seed(0)
    return HEADS[kind](width, outputs)


@pytest.mark.parametrize("kind", LIKELIHOODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_head_tells_its_likelihood_all_it_asks(kind, dtype, tmp_path):
    made, likelihood = head(kind).to(dtype), LIKELIHOODS[kind]
    answers = torch.randn(2, 7, WIDTH, generator=torch.Generator().manual_seed(0)).to(dtype)
    values = torch.ones(2, 7, OUTPUTS if kind in ("regression", "circular") else 1)
    params = made(answers)
    likelihood.loss(params, values).mean().backward()

    assert params.dtype == torch.float32
    assert likelihood.predict(params).shape == (2, 7, OUTPUTS)
    assert likelihood.spread(params).isfinite().all()
    assert all(p.grad.isfinite().all() and (p.grad != 0).any() for p in made.parameters())
    assert made(answers[:, :0]).shape == (2, 0, params.shape[-1])
    save_file(made.state_dict(), tmp_path / "head.safetensors")
    again = HEADS[kind](WIDTH, OUTPUTS).to(dtype)
    again.load_state_dict(load_file(tmp_path / "head.safetensors"))
    assert torch.equal(again(answers), params)


def test_a_new_head_gives_the_targets_own_deviation_and_every_class_its_share():
    nothing = torch.zeros(1, 1, WIDTH)
    regression = LIKELIHOODS["regression"].spread(head("regression")(torch.randn(1, 9, WIDTH)))
    ordinal = head("ordinal")
    torch.nn.init.zeros_(ordinal.readout.bias)
    shares = LIKELIHOODS["ordinal"].predict(ordinal(nothing))
    assert (regression == 1).all()
    torch.testing.assert_close(shares, torch.full((1, 1, OUTPUTS), 1 / OUTPUTS))


def test_thresholds_stay_in_order_whatever_is_learnt():
    made = head("ordinal")
    torch.nn.init.constant_(made.steps, -1e3)
    params = made(torch.randn(3, 4, WIDTH))
    assert (params.diff(dim=-1) > 0).all()
    assert LIKELIHOODS["ordinal"].loss(params, torch.ones(3, 4, 1)).isfinite().all()


@pytest.mark.parametrize("far", [-1e6, 1e6])
def test_a_variance_can_neither_vanish_nor_explode(far):
    made = head("regression", outputs=1)
    params = made(torch.full((1, 1, WIDTH), 1.0)).detach()
    torch.nn.init.constant_(made.readout.bias, far)
    spread = LIKELIHOODS["regression"].spread(made(torch.zeros(1, 1, WIDTH)))
    assert math.exp(-5) * 0.999 <= spread.item() <= math.exp(5) * 1.001
    assert params.isfinite().all()


def learn(kind, x, values, outputs, steps=500, lr=0.02):
    """Parameters that a small network with the head gives each row, after training on them."""
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Linear(x.shape[-1], 64), torch.nn.SiLU())
    made = torch.nn.Sequential(body, HEADS[kind](64, outputs))
    optimizer = torch.optim.AdamW(made.parameters(), lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        LIKELIHOODS[kind].loss(made(x), values).mean().backward()
        optimizer.step()
        schedule.step()
    return made(x).detach()


def test_the_variance_of_heteroscedastic_data_is_recovered_and_its_intervals_hold():
    """Deviation 0.1 on the left to 0.9 on the right, about a sine."""
    rng = np.random.default_rng(0)
    at = rng.uniform(-1, 1, (2500, 1))
    planted = 0.5 + 0.4 * at
    y = np.sin(3 * at) + planted * rng.normal(size=at.shape)
    x, values = (torch.tensor(a, dtype=torch.float32)[None] for a in (at, y))
    params = learn("regression", x, values, 1)
    mean, spread = (
        f(params)[0].numpy()
        for f in (LIKELIHOODS["regression"].predict, LIKELIHOODS["regression"].spread)
    )

    inside = np.abs(at) < 0.9
    np.testing.assert_allclose(spread[inside], planted[inside], rtol=0.15)
    np.testing.assert_allclose(mean[inside], np.sin(3 * at)[inside], atol=0.12)
    for side in (at < 0, at >= 0):  # intervals hold on both sides, not only on average
        covered = (np.abs(y - mean) < 1.96 * spread)[side].mean()
        assert covered == pytest.approx(0.95, abs=0.02)


def test_a_heading_is_followed_round_the_circle_with_its_concentration():
    """Through the cut at ±π; surer where the second input says so."""
    rng = np.random.default_rng(0)
    mean, kappa = rng.uniform(-np.pi, np.pi, 4000), np.where(np.arange(4000) % 2, 20.0, 2.0)
    y = torch.tensor(stats.vonmises.rvs(kappa, mean, random_state=0), dtype=torch.float32)
    columns = (np.cos(mean), np.sin(mean), kappa == 20)
    x = torch.tensor(np.stack(columns, axis=1), dtype=torch.float32)
    params = learn("circular", x[None], y[None, :, None], 1)[0]
    error = LIKELIHOODS["circular"].predict(params)[:, 0].numpy() - mean
    assert np.abs((error + np.pi) % (2 * np.pi) - np.pi).max() < 0.35
    found = params.norm(dim=-1)
    for planted in (2.0, 20.0):
        assert found[kappa == planted].median().item() == pytest.approx(planted, rel=0.15)


def test_planted_thresholds_are_found_and_probabilities_are_calibrated():
    """Classes of an unseen score with logistic noise: spacing of thresholds, in units of slope."""
    rng = np.random.default_rng(0)
    score, cuts = rng.normal(size=6000) * 2, np.array([-2.0, -1.5, 1.0])
    k = np.searchsorted(cuts, score + rng.logistic(size=6000))
    x = torch.tensor(score, dtype=torch.float32)[None, :, None]
    made = HEADS["ordinal"](1, 4)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.05)
    values = torch.tensor(k, dtype=torch.float32)[None, :, None]
    for _ in range(300):
        optimizer.zero_grad()
        LIKELIHOODS["ordinal"].loss(made(x), values).mean().backward()
        optimizer.step()
    at_zero = made(torch.zeros(1, 1, 1))[0, 0].detach().numpy()
    np.testing.assert_allclose(at_zero, cuts, atol=0.15)
    slope = at_zero - made(torch.ones(1, 1, 1))[0, 0].detach().numpy()
    np.testing.assert_allclose(slope, 1.0, atol=0.08)


def test_the_mean_is_learnt_as_well_as_with_squared_error():
    """Noise that is ten times as strong on one half: held-out error, squared error beside ours."""
    rng = np.random.default_rng(1)
    at = rng.uniform(-1, 1, (1500, 1))
    truth = np.sin(4 * at)
    y = truth + np.where(at > 0, 0.6, 0.06) * rng.normal(size=at.shape)
    x, values = (torch.tensor(a, dtype=torch.float32)[None] for a in (at, y))
    ours = learn("regression", x, values, 1, steps=400)[0, :, :1].numpy()
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Linear(1, 64), torch.nn.SiLU(), torch.nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.02, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    for _ in range(400):
        optimizer.zero_grad()
        (plain(x) - values).square().mean().backward()
        optimizer.step()
        schedule.step()
    squared = plain(x)[0].detach().numpy()
    error = [float(((f - truth) ** 2).mean()) for f in (ours, squared)]
    assert error[0] <= 1.05 * error[1], error
