"""Order and packing: every window once, within the budget, for every rank, whatever the sizes."""

import itertools
import re

import numpy as np
import pytest
from weighed import Weighed

from neurofmx.data.mixture import Phase
from neurofmx.data.order import Packing, random_state, shuffled, window_seeds
from neurofmx.data.plan import Plan
from neurofmx.errors import UserError


def plan(tokens, seed=0, **budget):
    made = Weighed(tokens)
    return Plan(made, np.arange(len(made)), seed, [Phase(epochs=2)], **budget)


def planned(tokens, world, seed, setting, budget):
    """A plan that these ranks can share, with the budget that the error asks for if need be."""
    for _ in range(3):
        try:
            made = plan(tokens, seed, **{setting: budget})
            made.check(world)
            return made, budget
        except UserError as error:
            budget = int(re.search(r"set it to at least (\d+)", str(error))[1])
    raise AssertionError(f"the advice {budget} does not help")


def sizes(rng):
    """Tokens of windows as they come and as they should not: equal, ragged, two kinds, one huge."""
    windows = int(rng.integers(1, 60))
    return [
        np.full(windows, rng.integers(1, 50)),
        rng.integers(1, 50, windows),
        rng.integers(0, 2, windows) * 100 + 1,
        np.append(rng.integers(1, 10, windows), 200),
    ][rng.integers(4)]


@pytest.mark.parametrize("seed", range(80))
def test_every_window_is_taken_once_within_the_budget_and_by_one_rank(seed):
    """What all else rests on, over random sizes, budgets and worlds."""
    rng = np.random.default_rng(seed)
    tokens = sizes(rng)
    world = int(rng.integers(1, min(8, len(tokens)) + 1))
    if rng.integers(2):
        weights, budget = np.ones(len(tokens), int), ("batch_size", int(rng.integers(1, 30)))
    else:
        weights, budget = tokens, ("tokens_per_step", int(tokens.max() * rng.uniform(0.5, 12)))
    made, most = planned(tokens, world, seed, *budget)
    for number in range(2):
        epoch = made.epoch(number)
        steps = [epoch[step] for step in range(len(epoch))]
        assert len(steps) == made.steps(0)
        assert sorted(np.concatenate(steps)) == list(range(len(tokens)))
        for windows in steps:
            assert weights[windows].sum() <= most
            ranks = [made.share(number, windows, rank, world) for rank in range(world)]
            assert sorted(np.concatenate(ranks)) == sorted(windows)
            counts = list(map(len, ranks))
            assert min(counts) >= 1
            assert max(counts) - min(counts) <= 1


def test_steps_are_balanced_and_ranks_are():
    tokens = np.random.default_rng(0).integers(50, 150, 10_000)
    made = plan(tokens, tokens_per_step=5000)
    epoch = made.epoch(0)
    weights = np.add.reduceat(tokens[epoch.order], epoch.edges[:-1])
    assert np.ptp(weights) < 2 * 150
    assert len(epoch) == pytest.approx(tokens.sum() / 5000, rel=0.04)
    for step in range(len(epoch)):
        ranks = [made.share(0, epoch[step], rank, 4) for rank in range(4)]
        assert np.ptp([tokens[windows].sum() for windows in ranks]) < 150


def test_the_steps_of_a_hand_made_order():
    """Weights 3 1 1 3 2 in two steps of 5: windows that begin before 5 go to the first."""
    packing = Packing(budget=8, largest=3, tokens=np.array([3, 1, 1, 3, 2], np.int32))
    windows = np.arange(5)
    assert packing.total(windows) == 10
    assert packing.steps(10) == 2
    assert packing.edges(windows).tolist() == [0, 3, 5]
    # 3 and 3 are dealt to the right, 2 and 1 to the left, and the last to the right again.
    assert packing.deal(windows, 2).tolist() == [0, 0, 0, 1, 1]


def test_equal_windows_are_dealt_in_their_order():
    turn = [0, 1, 2, 3, 3, 2, 1, 0]
    assert Packing(budget=64).deal(np.arange(64), 4).tolist() == turn * 8


def test_windows_of_equal_size_fill_a_step_to_the_brim():
    made = plan([60] * 32, tokens_per_step=8 * 60 + 59)
    assert [len(made.epoch(0)[step]) for step in range(made.steps(0))] == [8] * 4


def test_a_window_larger_than_the_budget_is_named():
    with pytest.raises(UserError, match=r"per_step is 100, but window 'a-1' alone has 900 tokens"):
        plan([10, 900, 10], tokens_per_step=100)


def test_more_ranks_than_windows_are_refused():
    with pytest.raises(UserError, match="3 windows are too few for 4 ranks"):
        plan([1, 1, 1], batch_size=3).check(4)


def test_a_step_smaller_than_the_ranks_says_what_to_set():
    made = plan([1] * 9, batch_size=4)
    made.check(3)
    with pytest.raises(UserError, match=r"batch_size is 4, .*ranks \(4\): set it to at least 5"):
        made.check(4)


def test_the_order_differs_by_epoch_seed_and_index_and_repeats_for_the_same():
    other = Plan(Weighed([1] * 64, index_hash="cd34"), np.arange(64), 0, batch_size=8)
    same, smaller = plan([1] * 64, batch_size=8), plan([1] * 64, batch_size=4)
    orders = [
        same.epoch(0),
        same.epoch(1),
        plan([1] * 64, 1, batch_size=8).epoch(0),
        other.epoch(0),
    ]
    assert len({tuple(epoch.order) for epoch in orders}) == 4
    assert (smaller.epoch(0).order == same.epoch(0).order).all()


def test_the_order_is_the_same_on_every_machine_and_version():
    """Numbers of this version: another would train on other batches after a resume."""
    order = shuffled(np.arange(10), random_state(3, 1, "abcdef12"))
    assert order.tolist() == [8, 4, 6, 2, 3, 9, 1, 5, 7, 0]
    assert window_seeds(3, 1, [0, 5]).tolist() == [3048386730932558344, 3628951666090353749]


def test_every_order_is_as_likely_as_any_other():
    """The 24 orders of 4 windows in 4800 draws, by χ² with 23 degrees of freedom (p = 0.001)."""
    state = random_state(0)
    drawn = [tuple(shuffled(np.arange(4), state)) for _ in range(4800)]
    counts = [drawn.count(order) for order in itertools.permutations(range(4))]
    assert sum((count - 200) ** 2 / 200 for count in counts) < 49.7


def test_no_two_lists_of_entropy_are_one():
    drawn = [random_state(*e).randint(2**31) for e in ([1, 2], [2, 1], [1 + 2**32 * 2], [1, 2, 0])]
    assert len(set(drawn)) == 4


def test_the_seed_of_a_window_is_its_own():
    seeds = window_seeds(0, 3, [7, 1, 5])
    assert window_seeds(0, 3, [5])[0] == seeds[2]
    others = np.concatenate([window_seeds(0, 4, [7, 1, 5]), window_seeds(1, 3, [7, 1, 5])])
    assert len({*seeds, *others}) == 9
    many = window_seeds(0, 0, np.arange(10_000))
    assert len(np.unique(many)) == 10_000
    assert (many >= 0).all()
