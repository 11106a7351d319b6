"""Phases of a run: epochs and weights by hand, and which signals of a window are shown."""

import pytest
import torch
from pydantic import ValidationError
from scipy import stats

from neurofmx.batches import Batch, EventBatch, SignalBatch
from neurofmx.objectives.draws import Draws
from neurofmx.training.curriculum import Curriculum, CurriculumPhase, Lot, shown

N = 6000  # windows


def curriculum(*phases, epochs=8, objectives=None, steps=None):
    """Phases, of so many steps each or as many as they have epochs."""
    given = [CurriculumPhase(**phase) for phase in phases]
    made = Curriculum(given, epochs, objectives or {"decode": 1.0, "masked": 0.1})
    made.measure(steps or [count for _, count in made.parts])
    return made


def epochs(*shares, epochs):
    parts = curriculum(*({"name": str(k), "share": x} for k, x in enumerate(shares)), epochs=epochs)
    return {phase.name: count for phase, count in parts.parts}


def test_shares_become_epochs():
    assert epochs(1, 1, 2, epochs=20) == {"0": 5, "1": 5, "2": 10}
    assert epochs(0.5, 0.25, 0.25, epochs=8) == {"0": 4, "1": 2, "2": 2}
    assert epochs(1, 2, epochs=10) == {"0": 3, "1": 7}


@pytest.mark.parametrize("total", range(1, 30))
def test_phases_share_out_every_epoch(total):
    found = epochs(1, 1, 2, 0.1, epochs=total)
    assert sum(found.values()) == total
    assert min(found.values()) > 0


def test_a_run_of_fewer_epochs_than_phases_leaves_the_first_ones_out():
    assert epochs(1, 1, 2, epochs=2) == {"1": 1, "2": 1}
    assert epochs(1, 1, 2, epochs=1) == {"2": 1}


def test_without_phases_there_is_one_of_everything():
    made = curriculum(epochs=3)
    assert [(p.epochs, p.weights, p.signals) for p in made.windows] == [(3, None, None)]
    assert made.at(2) == Lot("all", made.at(0).objectives, (None, None), 0.0)
    assert made.at(0).live == ["decode", "masked"]


def test_windows_of_a_phase_are_drawn_as_it_says():
    made = curriculum({"weights": {"a": 1.0}, "until": {"a": 0.5, "b": 0.5}, "signals": ["lfp"]})
    (phase,) = made.windows
    assert (phase.weights, phase.until) == ({"a": 1.0}, {"a": 0.5, "b": 0.5})
    assert (phase.signals, phase.epochs) == (["lfp"], 8)
    with pytest.raises(ValidationError, match="give both, or neither"):
        CurriculumPhase(until={"a": 1.0})


def test_objectives_that_a_phase_does_not_name_keep_their_weight():
    made = curriculum(
        {"objectives": {"masked": 0.5, "crossing": 0.2}}, {"objectives": {"decode": 0}}
    )
    first, second = made.at(0).objectives, made.at(7).objectives
    assert first == {"decode": 1.0, "masked": 0.5, "crossing": 0.2}
    assert second == {"decode": 0.0, "masked": 0.1, "crossing": 0.0}
    assert made.at(7).live == ["masked"]
    assert made.names == made.named == ["decode", "masked", "crossing"]


def test_objectives_of_phases_that_are_left_out_are_named_all_the_same():
    made = curriculum({"objectives": {"mmd": 1.0}}, {}, epochs=1)
    assert made.names == ["decode", "masked"]
    assert made.named == ["decode", "masked", "mmd"]


def test_weights_go_over_into_the_next_phase_over_its_blend():
    """Of 10 steps the first 4 blend: a quarter more of the new weights at each."""
    phases = (
        {"name": "old", "at_once": 1, "objectives": {"masked": 0.4}},
        {
            "name": "new",
            "blend": 0.4,
            "objectives": {"masked": 0.8, "crossing": 0.2},
        },
    )
    made = curriculum(*phases, steps=[5, 10])
    for step, share in ((4, 0.0), (5, 0.0), (6, 0.25), (8, 0.75), (9, 1.0), (14, 1.0)):
        lot = made.at(step)
        assert lot.phase == ("old" if step < 5 else "new")
        assert lot.objectives["masked"] == pytest.approx(0.4 + 0.4 * share)
        assert lot.objectives["crossing"] == pytest.approx(0.2 * share)
        assert lot.objectives["decode"] == 1.0
        assert lot.at_once == ((1, 1) if step < 5 else (None, 1))
        assert lot.old == pytest.approx(0 if step < 5 else 1 - share)
    assert "crossing" not in made.at(5).live


def test_without_a_blend_a_phase_begins_at_once():
    made = curriculum(
        {"objectives": {"masked": 0.4}}, {"objectives": {"masked": 0.8}}, steps=[3, 3]
    )
    assert [made.at(k).objectives["masked"] for k in range(6)] == [0.4] * 3 + [0.8] * 3
    assert {made.at(k).old for k in range(6)} == {0.0}


def signal(here):
    """A signal of one sample and two channels that these windows have."""
    n = len(here)
    return SignalBatch(
        torch.ones(n, 1, 2),
        torch.zeros(n, dtype=torch.float64),
        0.01,
        here[:, None].clone(),
        torch.ones(n, 2, dtype=torch.long),
        here[:, None].repeat(1, 2),
    )


def units(here):
    """One event of one unit that these windows have."""
    n, start = len(here), torch.zeros(len(here), dtype=torch.float64)
    one = torch.ones(n, 1, dtype=torch.long)
    here = here[:, None].clone()
    return EventBatch(torch.zeros(n, 1), 0 * one, start, start + 1, here, one, here)


def windows(has):
    """Of each signal, whether a window has it; the last are units."""
    *sampled, last = torch.as_tensor(has).unbind(1)
    signals = {f"s{k}": signal(here) for k, here in enumerate(sampled)}
    n = len(has)
    return Batch(signals, {}, ["r"] * n, list(range(n)), {"units": units(last)})


def left(has, at_once, before=None, old=0.0):
    """Of each signal, whether a window is shown it."""
    lot = Lot("phase", {}, (at_once, before), old)
    batch = shown(windows(has), lot, Draws(torch.arange(len(has))))
    given = [*batch.signals.values(), *batch.events.values()]
    for one in given:
        assert torch.equal(one.mask.any(1), one.channel_mask.any(1))
    return torch.stack([one.mask.any(1) for one in given], 1)


def test_as_many_signals_are_shown_as_the_phase_says_and_no_more_than_a_window_has():
    g = torch.Generator().manual_seed(0)
    has = torch.rand(200, 4, generator=g) < 0.5
    for at_once in (1, 2, 3):
        found = left(has, at_once)
        assert not (found & ~has).any()
        assert torch.equal(found.sum(1), has.sum(1).clamp(max=at_once))
    assert torch.equal(left(has, None), has)
    assert torch.equal(left(has, 9), has)


@pytest.mark.parametrize("at_once", [1, 2])
def test_signals_are_drawn_alike_often(at_once):
    found = left(torch.ones(N, 4, dtype=torch.bool), at_once)
    sets = (found * 2 ** torch.arange(4)).sum(1).bincount()
    assert stats.chisquare(sets[sets > 0]).pvalue > 0.01
    assert (sets > 0).sum() == (4 if at_once == 1 else 6)


def test_a_window_is_shown_the_same_whatever_its_neighbours():
    has = torch.ones(20, 3, dtype=torch.bool)
    together, lot = left(has, 1, 2, 0.5), Lot("phase", {}, (1, 2), 0.5)
    for k in range(20):
        batch = shown(windows(has[:1]), lot, Draws(torch.tensor([k])))
        given = [*batch.signals.values(), *batch.events.values()]
        assert torch.equal(torch.cat([one.mask.any(1) for one in given]), together[k])


@pytest.mark.parametrize(("at_once", "before"), [(2, 1), (None, 1), (1, None)])
def test_the_share_of_windows_shown_as_before_falls_over_a_blend(at_once, before):
    has = torch.ones(N, 3, dtype=torch.bool)
    for old in (1.0, 0.75, 0.25, 0.0):
        number = left(has, at_once, before, old).sum(1)
        assert (number == (before or 3)).float().mean() == pytest.approx(old, abs=0.02)
        assert set(number.tolist()) <= {at_once or 3, before or 3}


def test_what_is_not_shown_has_no_valid_sample_channel_or_event_left():
    has = torch.ones(50, 2, dtype=torch.bool)
    batch = shown(windows(has), Lot("phase", {}, (1, 1), 0.0), Draws(torch.arange(50)))
    sampled, events = batch.signals["s0"], batch.events["units"]
    assert torch.equal(sampled.mask[:, 0], ~events.mask[:, 0])
    assert torch.equal(sampled.channel_mask, (~events.channel_mask).repeat(1, 2))
