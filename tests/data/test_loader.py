"""Batches in planned order from wherever a run stands; workers, ranks and augmentation change none.

That a run survives kill −9 is in test_loader_killed.py, what plans hold to in test_order.py.
"""

import dataclasses
import json
import os
import threading
import time

import numpy as np
import pytest
import torch
from windows import recording, shards

from neurofmx.data.augment import AugmentParams
from neurofmx.data.collate import Collator
from neurofmx.data.loader import Loader
from neurofmx.data.mixture import Phase
from neurofmx.data.plan import Plan, in_order
from neurofmx.data.shards import Shards
from neurofmx.errors import DataError, UserError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return shards(tmp_path_factory.mktemp("made"), [recording("a"), recording("b", 1, units=4)])


def unknown(signal, keys, regions):
    return [0] * len(keys), [0] * len(keys)


TWICE = [Phase(epochs=2)]


def loader(made, phases=TWICE, seed=0, on_corrupt="error", **given):
    budget = {"batch_size": 10} if "tokens_per_step" not in given else {}
    budget |= {k: given.pop(k) for k in ("batch_size", "tokens_per_step") if k in given}
    plan = Plan(made, made.positions("train"), seed, phases, **budget)
    return Loader(plan, Collator(made, unknown, on_corrupt=on_corrupt), **given)


def windows(batches):
    return [batch.windows for batch in batches]


def same(one, other):
    """Whether two batches are bit-equal."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if dataclasses.is_dataclass(one):
        return all(same(a, vars(other)[n]) for n, a in vars(one).items())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(a, other[n]) for n, a in one.items())
    return one == other


@pytest.mark.parametrize("budget", [{"batch_size": 7}, {"tokens_per_step": 300}])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_ranks_together_hold_an_epoch_exactly_once(made, budget, world):
    ranks = [
        windows(loader(made, [Phase()], rank=rank, world=world, **budget)) for rank in range(world)
    ]
    assert len({len(steps) for steps in ranks}) == 1
    held = [window for steps in ranks for step in steps for window in step]
    assert sorted(held) == made.positions("train").tolist()
    alone = windows(loader(made, [Phase()], **budget))
    for number, step in enumerate(alone):
        assert sorted(step) == sorted(w for steps in ranks for w in steps[number])


def test_the_order_and_the_batches_do_not_depend_on_workers(made):
    none, some = (list(loader(made, workers=workers)) for workers in (0, 2))
    assert len(none) == len(some) == len(loader(made))
    assert all(map(same, none, some))


def test_workers_leave_to_the_parent_what_its_libraries_do_at_the_end(made):
    """As prefect's do: with the threads gone that they wait for, they fail."""
    parent = os.getpid()

    def only_in_the_parent():
        if os.getpid() != parent:
            time.sleep(0.2)  # until the parent waits for the worker: else it may not notice
            raise AssertionError

    threading._register_atexit(only_in_the_parent)
    assert windows(loader(made, workers=1)) == windows(loader(made))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_was_read_ahead_is_not_counted(made, workers):
    whole = windows(loader(made))
    stopped = loader(made, workers=workers)
    ahead = iter(stopped)
    first = [next(ahead).windows for _ in range(3)]
    state = json.loads(json.dumps(stopped.state()))
    assert (state["epoch"], state["cursor"], state["phase"]) == (0, 3, 0)
    again = loader(made)
    again.restore(state)
    assert first + windows(again) == whole


@pytest.mark.parametrize("stop", [4, 5, 9])
def test_a_run_goes_on_from_any_step_also_the_last_of_an_epoch(made, stop):
    """Of 5 steps an epoch, in phases of one epoch each."""
    phases = [Phase(), Phase(signals=["lfp"])]
    whole = list(loader(made, phases))
    assert len(whole) == 10
    stopped = loader(made, phases)
    for _, _batch in zip(range(stop), stopped, strict=False):
        state = stopped.state()
    again = loader(made, phases, workers=1)
    again.restore(state)
    rest = list(again)
    assert len(rest) == 10 - stop
    assert all(map(same, rest, whole[stop:]))
    assert rest[-1].signals.keys() == {"lfp"}
    assert again.state()["epoch"] == 1
    assert again.state()["phase"] == 1
    assert list(again) == []


def test_a_state_of_other_windows_seed_or_plan_is_refused(made, tmp_path):
    state = loader(made).state()
    other = shards(tmp_path, [recording("a"), recording("b", 2, units=4)])
    with pytest.raises(UserError, match=r"the windows have changed.*index_hash was [0-9a-f]+ and "):
        loader(other).restore(state)
    with pytest.raises(UserError, match=r"the seed has changed .* was 0 and is 1; set it back"):
        loader(made, seed=1).restore(state)
    with pytest.raises(UserError, match=r"batch_size, .* or phases have changed"):
        loader(made, batch_size=9).restore(state)
    with pytest.raises(UserError, match=r"batch_size, .* or phases have changed"):
        loader(made, [Phase(epochs=3)]).restore(state)
    for wrong in ({"cursor": 8}, {"epoch": 2}, {"phase": 1}, {"cursor": -1}):
        with pytest.raises(UserError, match="is no place in this run of 2 epochs"):
            loader(made).restore(state | wrong)
    loader(made, world=3, rank=2, workers=1).restore(state)


NOISY = AugmentParams(noise=0.5, channel_dropout=0.3, warp=0.1, time_masks=1)


def by_window(part):
    """Spikes of each window by (epoch, position), without padding."""
    found = {}
    for batch in part:
        for row, window in enumerate(batch.windows):
            units = 6 if batch.recordings[row] == "a" else 4
            found[part.epoch, window] = batch.signals["spikes"].values[row, :, :units]
    return found


def test_augmentation_is_that_of_the_window_and_epoch_wherever_it_is_made(made):
    alone = by_window(loader(made, augmentation=NOISY))
    both = {}
    for rank in range(2):
        both |= by_window(loader(made, augmentation=NOISY, rank=rank, world=2, workers=rank))
    assert len(alone) == 2 * len(made.positions("train"))
    assert alone.keys() == both.keys()
    assert all(torch.equal(both[place], values) for place, values in alone.items())
    assert not torch.equal(alone[0, 0], alone[1, 0])


def test_augmentation_goes_on_where_a_run_does(made):
    whole = list(loader(made, augmentation=NOISY))
    stopped = loader(made, augmentation=NOISY, workers=1)
    for _, _batch in zip(range(4), stopped, strict=False):
        state = stopped.state()
    again = loader(made, augmentation=NOISY)
    again.restore(state)
    rest = list(again)
    assert len(rest) == len(whole) - 4
    assert all(map(same, rest, whole[4:]))


def test_no_augmentation_leaves_the_batch_as_it_is(made):
    plain, off = (list(loader(made, augmentation=a)) for a in (None, AugmentParams()))
    assert all(map(same, plain, off))


def test_mixup_takes_partners_of_the_same_recording_and_gives_back_the_windows(made):
    mixed = list(loader(made, augmentation=AugmentParams(mixup=1.0)))
    plain = list(loader(made))
    assert windows(mixed) == windows(plain)
    assert not same(mixed[0].signals, plain[0].signals)
    assert all(map(same, mixed, loader(made, augmentation=AugmentParams(mixup=1.0), workers=2)))


def test_loading_draws_nothing_from_the_global_random_numbers(made):
    before = torch.get_rng_state()
    list(loader(made, augmentation=NOISY))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def damaged(tmp_path):
    """Data with one wrong byte in a train window, and the position of that window."""
    found = shards(tmp_path, [recording("a")])
    bad = int(found.positions("train")[5])
    tar = tmp_path / "train-000000.tar"
    content = bytearray(tar.read_bytes())
    content[int(found.index["offset"][bad]) + 700] ^= 1
    tar.write_bytes(content)
    return Shards(tmp_path), bad


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_window_stops_the_run_and_is_named(damaged, workers):
    made, _ = damaged
    with pytest.raises(DataError) as caught:
        list(loader(made, workers=workers))
    assert str(caught.value).startswith(str(made.folder / "train-000000.tar at offset "))
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("augmentation", [None, NOISY, AugmentParams(mixup=1.0)])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_window_can_be_left_out_and_is_told_every_time(damaged, workers, augmentation):
    made, bad = damaged
    found = list(loader(made, on_corrupt="skip", workers=workers, augmentation=augmentation))
    told = [message for batch in found for message in batch.skipped]
    own = [message for message in told if f"a-{bad:06d}" in message]
    assert len(own) >= 2  # once an epoch, and, with mixup, as a partner
    assert len(told) == len(own)
    held = [window for batch in found for window in batch.windows]
    missing = 2 * len(made.positions("train")) - len(held)
    assert missing == len(told)
    assert bad not in held


def test_to_look_at_windows_are_taken_as_they_stand(made):
    positions = made.positions("valid")
    steps = in_order(made, positions, batch_size=5)
    assert np.concatenate(steps).tolist() == positions.tolist()
    assert max(map(len, steps)) <= 5
    packed = in_order(made, positions, tokens_per_step=200)
    assert np.concatenate(packed).tolist() == positions.tolist()
    assert max(made.tokens[step].sum() for step in packed) <= 200
    assert in_order(made, positions[:0], batch_size=5) == []
