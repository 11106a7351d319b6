"""Order is a pure function of (seed, epoch, index); statistics come from train windows alone."""

import dataclasses

import numpy as np
import pytest
import torch
from windows import recording, shards

from neurofmx.data.loader import Collator, Plan


def test_an_epoch_holds_every_window_once_whatever_the_world():
    plan = Plan(list(range(100, 132)), batch_size=8, seed=3, index_hash="abcdef12")
    for world in (1, 2, 4):
        seen = [
            position
            for step in range(plan.steps_per_epoch)
            for rank in range(world)
            for position in plan.batch(step, rank, world)
        ]
        assert sorted(seen) == plan.positions


def test_ranks_share_the_global_batch():
    plan = Plan(list(range(64)), batch_size=8, seed=0, index_hash="abcdef12")
    for step in (0, 5, 11):
        parts = [set(plan.batch(step, rank, 4)) for rank in range(4)]
        assert set.union(*parts) == set(plan.batch(step))
        assert sum(len(part) for part in parts) == 8


def test_the_order_differs_by_epoch_seed_and_index_and_repeats_for_the_same():
    plan = Plan(list(range(64)), batch_size=64, seed=0, index_hash="abcdef12")
    orders = [
        plan.batch(0),
        plan.batch(1),
        dataclasses.replace(plan, seed=1).batch(0),
        dataclasses.replace(plan, index_hash="12abcdef").batch(0),
    ]
    assert len({tuple(order) for order in orders}) == 4
    assert plan.batch(1) == dataclasses.replace(plan).batch(1)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    made = [recording("a", units=6), recording("b", seed=1, units=4)]
    return shards(tmp_path_factory.mktemp("two"), made)


def collated(two, vocabulary=None):
    vocabulary = vocabulary or {("a", "spikes", c): c + 1 for c in range(6)}
    positions = [two.positions("train", ["a"])[0], two.positions("train", ["b"])[0]]
    return Collator(two, vocabulary)([two[p] for p in positions])


def test_ragged_channels_are_padded_and_unknown_ones_are_row_0(two):
    spikes = collated(two).signals["spikes"]
    assert spikes.channel_mask.sum(1).tolist() == [6, 4]
    assert spikes.channel_ids.tolist() == [[1, 2, 3, 4, 5, 6], [0] * 6]
    assert (spikes.values[1, :, 4:] == 0).all()


def test_train_channels_have_mean_0_and_a_shrunk_deviation(two):
    positions = two.positions("train", ["a"])
    batch = Collator(two, {})([two[p] for p in positions])
    spikes = batch.signals["spikes"]
    values = spikes.values[spikes.mask].numpy().astype(float)
    raw = np.concatenate([two[p].arrays["spikes.values"] for p in positions])

    np.testing.assert_allclose(values.mean(0), 0, atol=1e-5)
    scale = np.sqrt(0.5 * (raw.var(0) + raw.var(0).mean()))
    np.testing.assert_allclose(values.std(0), raw.std(0) / scale, rtol=1e-4)


def test_test_windows_have_no_part_in_the_statistics(tmp_path):
    made = recording()
    hand = made.signals["hand"]
    wild = np.array(hand.values)
    wild[round(0.8 * len(wild)) :] *= 1000  # the last 20 % are test
    changed = dataclasses.replace(
        made, signals=made.signals | {"hand": dataclasses.replace(hand, values=wild)}
    )
    assert shards(tmp_path / "a", [made]).tasks == shards(tmp_path / "b", [changed]).tasks


def test_targets_are_scaled_by_the_train_split(two):
    batch = collated(two)
    sample = two[two.positions("train", ["a"])[0]]
    target, spec = batch.targets["velocity"], two.tasks["velocity"]
    restored = target.values[0] * torch.tensor(spec["scale"]) + torch.tensor(spec["mean"])
    length = len(sample.arrays["velocity.target"])
    np.testing.assert_allclose(restored[:length], sample.arrays["velocity.target"], atol=1e-5)
    assert batch.targets["cue"].kind == "classification"
