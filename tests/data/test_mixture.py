"""Mixtures keep what an epoch of all windows has, and the shares that were asked for."""

import numpy as np
import pytest
from pydantic import ValidationError
from weighed import Weighed

from neurofmx.data.mixture import Phase, choose, mixed, shares
from neurofmx.data.plan import Plan
from neurofmx.data.pool import Pool
from neurofmx.errors import UserError

SIZES = {"small": 20, "middle": 100, "large": 480}


@pytest.fixture(scope="module")
def pool():
    rng = np.random.default_rng(0)
    return Pooled([Weighed(rng.integers(5, 15, n), name) for name, n in SIZES.items()])


class Pooled(Pool):
    """Of data sets that have no tables."""

    def __init__(self, parts):
        self.parts, self.starts = parts, np.cumsum([0, *map(len, parts)]).tolist()
        self.index_hash, self.signals, self.tasks = "ab12", parts[0].signals, {}


def planned(pool, *phases, **budget):
    return Plan(pool, np.arange(len(pool)), 0, phases, **(budget or {"batch_size": 24}))


def of(pool, windows):
    """How many windows of each data set."""
    return np.bincount(np.searchsorted(pool.starts, windows, side="right") - 1, minlength=3)


def test_without_weights_an_epoch_holds_every_window_of_every_data_set_once(pool):
    epoch = planned(pool, Phase()).epoch(0)
    assert sorted(epoch.order) == list(range(600))


def test_shares_follow_the_weights_within_a_window_per_step(pool):
    weights = {"small": 1.0, "middle": 2.0, "large": 1.0}
    epoch = planned(pool, Phase(weights=weights), batch_size=24, sets_per_step=24).epoch(0)
    wanted = 24 * np.array([0.25, 0.5, 0.25])
    error = [np.abs(of(pool, epoch[step]) - wanted) for step in range(len(epoch))]
    assert np.mean(error) < 1
    assert np.max(error) < 4
    assert len(epoch.order) == len(pool)


def test_a_step_is_of_one_data_set_and_the_steps_follow_the_weights(pool):
    phase = Phase(weights={"small": 1.0, "middle": 2.0, "large": 1.0})
    epoch = planned(pool, phase).epoch(0)
    counts = np.array([of(pool, epoch[step]) for step in range(len(epoch))])
    assert (counts.max(1) == 24).all()
    assert np.abs((counts > 0).sum(0) - len(epoch) * np.array([0.25, 0.5, 0.25])).max() <= 1


def test_a_step_is_of_as_many_data_sets_as_are_asked_for(pool):
    phase = Phase(weights={"small": 1.0, "middle": 1.0, "large": 1.0})
    epoch = planned(pool, phase, batch_size=24, sets_per_step=3).epoch(0)
    counts = np.array([of(pool, epoch[step]) for step in range(len(epoch))])
    assert (counts % 8 == 0).all()
    assert (counts > 0).sum(1).mean() > 2


def test_weights_that_change_do_so_step_by_step_over_the_whole_phase(pool):
    phase = Phase(epochs=3, weights={"small": 1.0, "large": 0.0}, until={"small": 0, "large": 1})
    plan = planned(pool, phase, batch_size=24, sets_per_step=24)
    counts = [of(pool, e[k]) for n in range(3) for e in [plan.epoch(n)] for k in range(len(e))]
    middle = (np.arange(len(counts)) + 0.5) / len(counts)
    wanted = 25 * np.stack([1 - middle, 0 * middle, middle], axis=1)
    assert np.abs(np.array(counts) - wanted).mean() < 1


def test_no_window_comes_again_before_all_of_its_data_set_have_come(pool):
    epoch = planned(pool, Phase(weights={"small": 1.0, "middle": 1.0, "large": 1.0})).epoch(0)
    for number, (start, size) in enumerate(zip(pool.starts, SIZES.values(), strict=False)):
        own = epoch.order[(epoch.order >= start) & (epoch.order < start + size)]
        laps = [own[k : k + size] for k in range(0, len(own), size)]
        assert len(own) == pytest.approx(200, abs=24)
        assert all(len(set(lap)) == len(lap) for lap in laps), number
    small = epoch.order[epoch.order < 20]
    assert small[:20].tolist() != small[20:40].tolist()


def test_a_data_set_that_is_named_alone_makes_an_epoch_of_its_own_length(pool):
    epoch = planned(pool, Phase(weights={"middle": 3.0})).epoch(0)
    assert sorted(epoch.order) == list(range(20, 120))


def test_phases_follow_each_other_and_each_epoch_has_its_own_order(pool):
    phases = Phase(epochs=2, weights={"small": 1.0}), Phase(), Phase(signals=["lfp"])
    plan = planned(pool, *phases)
    assert [plan.phase(epoch) for epoch in range(4)] == [0, 0, 1, 2]
    assert plan.epochs == 4
    assert [len(plan.epoch(epoch).order) for epoch in range(4)] == [20, 20, 600, 300]
    assert plan.epoch(0).order.tolist() != plan.epoch(1).order.tolist()


def test_windows_without_the_signals_of_a_phase_are_left_out(pool):
    epoch = planned(pool, Phase(signals=["lfp"])).epoch(0)
    assert sorted(epoch.order) == [p for p in range(600) if p % 2 == 1]  # every part begins even


def test_mixtures_in_tokens_keep_the_budget_and_say_how_many_steps_they_make(pool):
    phase = Phase(epochs=3, weights={"small": 5.0, "middle": 1.0, "large": 1.0})
    plan = planned(pool, phase, tokens_per_step=200)
    plan.check(8)
    for number in range(3):
        epoch = plan.epoch(number)
        assert len(epoch) == plan.steps(number)
        for step in range(len(epoch)):
            assert pool.tokens[epoch[step]].sum() <= 200
            assert len(epoch[step]) >= 8


def test_an_order_does_not_depend_on_what_was_planned_before(pool):
    phase = Phase(epochs=2, weights={"small": 1.0, "large": 1.0})
    one, other = (planned(pool, phase, tokens_per_step=300) for _ in range(2))
    other.check(2)
    other.epoch(0)
    assert (one.epoch(1).order == other.epoch(1).order).all()
    assert (one.epoch(1).edges == other.epoch(1).edges).all()


def test_any_run_of_slots_holds_each_data_set_in_its_share():
    rng = np.random.default_rng(0)
    for seed in range(20):
        share = rng.dirichlet(np.ones(3))
        chosen = choose(5000, share, share, seed)
        for number in range(3):
            ahead = np.cumsum((chosen == number) - share[number])
            assert np.ptp(ahead) < 5


def test_a_data_set_without_a_share_is_never_chosen():
    for share in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]):
        parts = [np.arange(5), np.arange(5, 10), np.arange(10, 15)]
        empty = [part if s else part[:0] for part, s in zip(parts, share, strict=True)]
        order = mixed(empty, np.array(share), np.array(share), 0)
        assert sorted(order) == parts[share.index(1.0)].tolist()


def test_weights_are_shares_in_any_unit():
    assert shares({"b": 30.0, "a": 10.0}, ["a", "b", "c"]).tolist() == [0.25, 0.75, 0.0]


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        (Phase(weights={"smal": 1.0}), "name data sets that are not there: smal; choose from sm"),
        (Phase(signals=["lpf"]), "name signals that are not there: lpf; choose from spikes, lfp"),
    ],
)
def test_what_is_not_there_is_named(pool, phase, message):
    with pytest.raises(UserError, match=message):
        planned(pool, phase)


def test_a_data_set_with_a_share_but_no_window_is_named(pool):
    phase = Phase(weights={"small": 1.0, "large": 1.0})
    with pytest.raises(UserError, match="small has no window to train on"):
        Plan(pool, np.arange(50, 600), 0, [phase], batch_size=8)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"until": {"a": 1.0}}, "give both, or neither"),
        ({"weights": {"a": -1.0, "b": 2.0}}, "finite weights"),
        ({"weights": {"a": 0.0}}, "one of them positive"),
        ({"weights": {"a": float("nan")}}, "finite weights"),
        ({"weights": {}}, "one of them positive"),
        ({"signals": []}, "names none"),
    ],
)
def test_an_impossible_phase_is_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        Phase(**fields)
