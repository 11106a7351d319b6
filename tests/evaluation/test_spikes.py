import numpy as np
import pytest

from neurofmx.evaluation.metrics.spikes import (
    bits_per_spike,
    co_bps,
    psth,
    psth_r2,
    unit_bits_per_spike,
)


@pytest.fixture
def nlb():
    reason = "the oracle is had by `pip install --no-deps nlb_tools`"
    return pytest.importorskip("nlb_tools.evaluation", reason=reason)


def made(seed=0, trials=20, time=30, units=5):
    rng = np.random.default_rng(seed)
    rates = rng.gamma(2.0, 0.2, (trials, time, units))
    return rates, rng.poisson(rates).astype(float)


def test_bits_per_spike_of_a_hand_computed_case():
    counts = np.array([[0], [2]])  # mean: 1 spike per bin
    rates = np.array([[0.5], [1.5]])  # same total, so only the logarithm differs
    assert bits_per_spike(rates, counts) == pytest.approx(np.log2(1.5))


def test_the_null_is_worth_nothing_and_units_add_up_by_their_spikes():
    rates, counts = made()
    mean = np.broadcast_to(counts.mean(axis=(0, 1)), counts.shape)
    assert bits_per_spike(mean, counts) == pytest.approx(0, abs=1e-12)
    each = unit_bits_per_spike(rates, counts)
    pooled = np.average(each, weights=counts.sum(axis=(0, 1)))
    assert bits_per_spike(rates, counts) == pytest.approx(pooled)


def test_a_silent_unit_has_no_figure_of_its_own():
    rates, counts = made()
    counts[..., 2] = 0
    np.testing.assert_array_equal(np.isnan(unit_bits_per_spike(rates, counts)), np.arange(5) == 2)


def test_what_is_no_rate_or_has_no_spike_is_refused():
    rates, counts = made()
    with pytest.raises(ValueError, match="hold none"):
        bits_per_spike(rates, np.zeros_like(counts))
    with pytest.raises(ValueError, match="negative or NaN"):
        bits_per_spike(np.log(rates), counts)
    with pytest.raises(ValueError, match="none of 5"):
        co_bps(rates, counts, np.zeros(5, bool))


def test_bits_per_spike_is_that_of_nlb_tools(nlb):
    rates, counts = made()
    rates[0, :3] = 0.0  # taken as 1e-9
    counts[..., 1] = 0.0  # silent, so its null is 0
    counts[3:5, 10:] = np.nan
    held_out = np.array([False, True, False, True, True])
    theirs = nlb.bits_per_spike(rates.copy(), counts.copy())
    co = nlb.bits_per_spike(rates[..., held_out].copy(), counts[..., held_out].copy())

    assert bits_per_spike(rates, counts) == pytest.approx(theirs, rel=1e-10)
    assert co_bps(rates, counts, held_out) == pytest.approx(co, rel=1e-10)
    for unit in (0, 2):
        one = nlb.bits_per_spike(rates[..., [unit]].copy(), counts[..., [unit]].copy())
        assert unit_bits_per_spike(rates, counts)[unit] == pytest.approx(one, rel=1e-10)


def test_psth_is_the_smoothed_mean_of_a_conditions_trials():
    counts = np.zeros((3, 5, 1))
    counts[0, 2], counts[1, 2] = 2, 4
    found = psth(counts, np.array([0, 0, 1]), np.array([0.25, 0.5, 0.25]))
    np.testing.assert_allclose(found[0, :, 0], [0, 0.75, 1.5, 0.75, 0])
    assert (found[1] == 0).all()


def test_psth_r2_is_that_of_nlb_tools(nlb):
    rates, counts = made(trials=24)
    condition = np.arange(24) % 4
    truth = psth(counts, condition, np.full(5, 0.2))
    truth[1, 25:] = np.nan  # a shorter condition
    condition[condition == 3] = 0  # one without a trial
    trials = [np.flatnonzero(condition == k) for k in range(4)]
    theirs = nlb.eval_psth(truth, rates, trials)
    assert psth_r2(rates, truth, condition) == pytest.approx(theirs, rel=1e-10)
    assert psth_r2(truth[[0, 1]], truth, np.array([0, 1])) == pytest.approx(1.0)


def test_psth_r2_of_a_unit_that_never_changes_is_undefined():
    rates, counts = made(trials=4)
    truth = psth(counts, np.arange(4), np.ones(1))
    truth[..., 3] = 0.5
    with pytest.raises(ValueError, match=r"units \[3\]"):
        psth_r2(rates, truth, np.arange(4))
