"""Poisson regression of many units, on rates that are planted."""

import numpy as np
import pandas as pd
import pytest

from neurofmx.evaluation.benchmarks import glm
from neurofmx.evaluation.benchmarks.nlb import _ahead
from neurofmx.evaluation.benchmarks.nlb_trials import Trials
from neurofmx.evaluation.metrics.spikes import bits_per_spike

WEIGHT = np.array([[0.8, 0.0, -0.5], [0.0, 0.6, 0.5]])
TRIALS = Trials(pd.DataFrame(), np.arange(120.0), 10, 0.02, np.zeros(120))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_planted_weights_are_found(rng):
    x = rng.normal(size=(300, 20, 2)) * [3.0, 0.1]  # the scale of a feature is of no matter
    rates = np.exp(x / [3.0, 0.1] @ WEIGHT - 1)
    readout = glm.fit({"x": x}, rng.poisson(rates).astype(float))
    np.testing.assert_allclose(readout.weight, WEIGHT, atol=0.06)
    np.testing.assert_allclose(np.median(readout({"x": x}) / rates, axis=(0, 1)), 1, atol=0.06)


def test_what_was_not_counted_is_not_fitted(rng):
    x = rng.normal(size=(200, 20, 2))
    counts = rng.poisson(np.exp(x @ WEIGHT - 1)).astype(float)
    counts[:, ::2] = np.nan
    wrong = np.where(np.isnan(counts), 50.0, counts)
    readout = glm.fit({"x": x}, counts)
    np.testing.assert_allclose(readout.weight, WEIGHT, atol=0.1)
    assert np.abs(glm.fit({"x": x}, wrong).weight - WEIGHT).max() > 0.3


def test_the_kind_of_features_that_tells_more_is_chosen_and_noise_is_held_down(rng):
    x, noise = rng.normal(size=(60, 10, 2)), rng.normal(size=(60, 10, 80))
    counts = rng.poisson(np.exp(x @ WEIGHT - 1)).astype(float)
    assert glm.fit({"noise": noise, "x": x}, counts).kind == "x"
    blind = glm.fit({"noise": noise}, counts)
    other = rng.normal(size=(60, 10, 80))
    assert -0.05 < bits_per_spike(blind({"noise": other}), counts) < 0.02


def test_a_silent_unit_stays_silent_and_rates_are_bounded(rng):
    x = rng.normal(size=(50, 10, 2))
    counts = rng.poisson(np.exp(x @ WEIGHT - 1)).astype(float)
    counts[..., 1] = 0
    rates = glm.fit({"x": x}, counts)({"x": 1e3 * x})
    assert (rates[..., 1] == glm.LEAST).all()
    assert (rates.max(axis=(0, 1)) <= counts.max(axis=(0, 1)).clip(glm.LEAST)).all()


def test_a_trend_is_carried_into_the_bins_ahead(rng):
    """ln rate = z0 + z1 h: from what the last bin knows of level and slope."""
    z = rng.normal(size=(120, 1, 2)) * np.ones((1, 10, 1))
    h = (np.arange(10)[:, None] + 0.5) / 10
    rates = np.exp(z[:, :, [0]] + z[:, :, [1]] * h)
    counts = rng.poisson(rates).astype(float)
    ahead = {"z": _ahead(z, TRIALS)}
    readout = glm.fit(ahead, counts)
    truth = bits_per_spike(rates, counts)
    assert bits_per_spike(readout(ahead), counts) == pytest.approx(truth, abs=0.03)
    flat = glm.fit({"z": z}, counts)
    assert bits_per_spike(flat({"z": z}), counts) < truth - 0.03
