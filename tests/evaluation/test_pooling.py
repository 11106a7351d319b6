"""Recordings behind each other: what is shared keeps its meaning, and nothing else is there."""

import dataclasses

import numpy as np
import pytest
from windows import RATE, card, recording, shards

from neurofmx.evaluation.baselines import BASELINES, BaselineParams
from neurofmx.evaluation.baselines.readouts import window_features
from neurofmx.evaluation.pooling import GAP, partners, pooled
from neurofmx.evaluation.problems import problem
from neurofmx.types import Events, Intervals

SIGNALS = card().model_dump(mode="json")["signals"]
SAME = {name: SIGNALS[name] | {"same": "^[ab]-"} for name in ("spikes", "lfp")}
SPEC = card(signals=SIGNALS | SAME, split={"test_on": ["*-2"], "guard": 0.0, "by": "trial"})


def shuffled(made, seed):
    """The same recording with its units in another order, and one more that nobody else has."""
    spikes = made.signals["spikes"]
    order = np.random.default_rng(seed).permutation(len(spikes.units))
    units = spikes.units.iloc[order].reset_index(drop=True)
    units.loc[len(units)] = [900 + seed]
    index = np.argsort(order)[spikes.index]
    moved = Events(spikes.times, index, units)
    return dataclasses.replace(made, signals=made.signals | {"spikes": moved})


def half(made, name, first):
    """20 of 40 trials, on a clock that begins anew."""
    start, stop = (0.0, 25.0) if first else (25.0, 50.0)
    spikes, trials = made.signals["spikes"], made.signals["trials"]
    inside = (spikes.times >= start) & (spikes.times < stop)
    signals = {"spikes": Events(spikes.times[inside] - start, spikes.index[inside], spikes.units)}
    for key in ("lfp", "hand"):
        rows = slice(round(start * RATE), round(stop * RATE))
        signals[key] = dataclasses.replace(made.signals[key], values=made.signals[key].values[rows])
    rows = (trials.start >= start) & (trials.start < stop)
    table = trials.columns[rows].reset_index(drop=True)
    signals["trials"] = Intervals(trials.start[rows] - start, trials.stop[rows] - start, table)
    return dataclasses.replace(made, id=name, signals=signals)


@pytest.fixture(scope="module")
def days():
    """Two days of one animal, and another animal."""
    whole = recording("a")
    made = [half(whole, "a-1", True), half(whole, "a-2", False), recording("b-1", 3)]
    return {m.id: shuffled(m, seed) for seed, m in enumerate(made)}


@pytest.fixture(scope="module")
def made(days, tmp_path_factory):
    return shards(tmp_path_factory.mktemp("made") / "shards", list(days.values()), SPEC)


def test_partners_are_trained_on_and_have_the_same_channels(made):
    assert partners("a-2", SPEC, made) == ["a-1"]


def test_where_nobody_has_the_same_channels_those_worn_alike_serve(made):
    worn = {name: SAME[name] | {"same": "^[ab]-[1]", "region": "label"} for name in SAME}
    spec = card(signals=SIGNALS | worn, split={"test_on": ["a-2"], "guard": 0.0, "by": "trial"})
    assert partners("a-2", spec, made) == ["a-1", "b-1"]
    bare = {name: SIGNALS[name] | {"same": "^[ab]-[1]"} for name in SAME}
    assert (
        partners(
            "a-2", spec.model_copy(update={"signals": card(signals=SIGNALS | bare).signals}), made
        )
        == []
    )


def test_shared_units_are_found_by_their_labels(days):
    whole = pooled([days["a-1"], days["a-2"]], SPEC, "velocity")
    spikes = whole.recording.signals["spikes"]
    assert sorted(spikes.units["id"]) == [0, 1, 2, 3, 4, 5]
    later = whole.offset["a-2"]
    for day in ("a-1", "a-2"):
        own = days[day].signals["spikes"]
        for unit in range(6):
            times = own.times[own.units["id"].to_numpy()[own.index] == unit] + whole.offset[day]
            row = spikes.units["id"].tolist().index(unit)
            here = spikes.times[spikes.index == row]
            here = here[here >= later] if day == "a-2" else here[here < later]
            np.testing.assert_allclose(here, times)


def test_samples_and_trials_lie_behind_each_other_with_a_gap(days):
    whole = pooled([days["a-1"], days["a-2"]], SPEC, "velocity")
    hand, own = whole.recording.signals["hand"], days["a-2"].signals["hand"]
    assert hand.mask.sum() == 2 * len(own)
    np.testing.assert_allclose(hand.values[-len(own) :], own.values, rtol=1e-6)
    np.testing.assert_allclose(hand.clock[-len(own)], whole.offset["a-2"] + own.t0, atol=1e-6)
    assert np.diff(hand.clock[hand.mask]).max() == pytest.approx(GAP, abs=0.05)
    trials = whole.recording.signals["trials"]
    assert (np.diff(trials.start) > 0).all()
    assert (
        trials.columns["cue"].tolist() == 2 * days["a-1"].signals["trials"].columns["cue"].tolist()
    )


def test_what_is_learnt_on_one_day_holds_on_the_next(days, made):
    posed = problem("a-2", "velocity", SPEC, made, days.__getitem__)
    answer = BASELINES["ridge"].fit(posed, BaselineParams()).values
    truth = posed.queries["test"].truth
    assert 1 - ((truth - answer) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum() > 0.7


def test_a_window_is_described_by_the_units_that_all_have(days, made):
    posed = problem("a-2", "cue", SPEC, made, days.__getitem__)
    ids = posed.recording.signals["spikes"].units["id"].tolist()
    for split, day in (("train", "a-1"), ("test", "a-2")):
        spikes = days[day].signals["spikes"]
        own = spikes.units["id"].to_numpy()[spikes.index]
        row = made.index.iloc[posed.positions[split][0]]
        inside = (spikes.times >= row["start"]) & (spikes.times < row["stop"])
        rate = [(own[inside] == unit).sum() / 20 for unit in ids]  # of 20 bins
        np.testing.assert_allclose(window_features(posed, split)[0, -6:], rate, rtol=1e-6)


def test_a_recording_without_partners_has_nothing_to_be_fitted_to(days, tmp_path):
    spec = card(split={"test_on": ["*-2"], "guard": 0.0, "by": "trial"})
    made = shards(tmp_path / "shards", list(days.values()), spec)
    assert list(problem("a-2", "velocity", spec, made, days.__getitem__).queries) == ["test"]
    assert problem("a-1", "velocity", spec, made, days.__getitem__) is None  # nothing is tested
