"""What is told of inputs is scored as the formulas say, and only what was hidden or lies ahead."""

import numpy as np
import pytest
from windows import card, recording, shards, tiny_model

from neurofmx.evaluation.metrics.spikes import bits_per_spike
from neurofmx.evaluation.tasks import SELF_KINDS
from neurofmx.evaluation.told import Told, _stretches, _turns, told_by, told_by_line

ALPHAS = (1.0, 10.0, 100.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return shards(tmp_path_factory.mktemp("made") / "shards", [recording(trials=80)], card())


@pytest.fixture(scope="module")
def positions(made):
    return {split: made.positions(split).tolist() for split in ("train", "valid", "test")}


@pytest.fixture(scope="module")
def model(made):
    return tiny_model(made, ["made-1"])


def one_block(told):
    return told.score(np.zeros(len(told.truth), int)).value


def test_bits_are_those_of_the_benchmark():
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.5, size=(4, 5, 3, 2)).astype(float)
    rates = rng.uniform(0.1, 1.0, counts.shape)
    asked = np.broadcast_to(rng.random((4, 5, 1, 1)) < 0.7, counts.shape)
    told = Told(counts, asked, rates, True)
    flat = [np.moveaxis(x, 2, -1).reshape(-1, 3) for x in (rates, np.where(asked, counts, np.nan))]

    assert one_block(told) == pytest.approx(bits_per_spike(*flat), abs=1e-9)


@pytest.mark.parametrize("kind", SELF_KINDS)
@pytest.mark.parametrize("signal", ["spikes", "lfp"])
def test_what_is_told_does_not_see_what_is_asked(made, positions, model, kind, signal):
    told = told_by(model, made, positions["test"], kind, signal)
    assert told.metric == ("bits_per_spike" if signal == "spikes" else "r2")
    assert told.asked.any()
    assert np.isfinite(told.told[told.asked]).all()
    if kind == "forecasting":
        assert not told.asked[:, 0].any()
    else:
        assert told.asked.mean() > 0.9  # in turns, everything is asked for


def test_every_channel_and_token_is_hidden_once():
    for turns, n in ((_turns(12), 12), (_stretches(17), 17)):
        assert np.sum(turns, axis=0).tolist() == [1] * n


@pytest.mark.parametrize("kind", SELF_KINDS)
def test_lines_tell_traces_that_follow_one_hand(made, positions, model, kind):
    told = told_by_line(model, made, positions, kind, "lfp", ALPHAS)
    assert one_block(told) > 0.3


def test_a_line_tells_a_unit_from_the_others(made, positions, model):
    told = told_by_line(model, made, positions, "co_smoothing", "spikes", ALPHAS)
    assert one_block(told) > 0.05
    flat = Told(told.truth, told.asked, np.full_like(told.told, told.truth.mean()), True)
    assert one_block(flat) <= 0  # each unit's own mean is the null
