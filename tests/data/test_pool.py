"""Several data sets behave as one, or are refused."""

import numpy as np
import pytest
from weighed import Weighed
from windows import card, recording, shards

from neurofmx.data.collate import Collator
from neurofmx.data.pool import Pool, by_dataset, stretches
from neurofmx.errors import UserError


def rows(signal, keys, regions):
    return [0] * len(keys), [0] * len(keys)


def named(folder, name, made, **changes):
    found = shards(folder / name, [made], card(**changes))
    found.name = name
    return found


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    first = named(folder, "one", recording("a", trials=60))
    return [first, named(folder, "two", recording("b", seed=1, units=4, trials=30))]


@pytest.fixture(scope="module")
def pool(parts):
    return Pool(parts)


def test_windows_of_the_second_come_behind_those_of_the_first(pool, parts):
    one, two = parts
    assert len(pool) == len(one) + len(two)
    for position in (0, len(one) - 1, len(one), len(pool) - 1):
        part, own = (one, position) if position < len(one) else (two, position - len(one))
        assert pool[position].key == part[own].key == pool.keys([position])[0]
        assert pool.tokens[position] == part.tokens[own]
    train = pool.positions("train")
    assert train.tolist() == [*one.positions("train"), *(two.positions("train") + len(one))]
    assert pool.positions("train", ["b"]).tolist() == train[train >= len(one)].tolist()
    split = by_dataset(pool, train)
    assert list(split) == ["one", "two"]
    assert split["two"].tolist() == train[train >= len(one)].tolist()
    assert pool.index["recording"].tolist() == [pool[p].info["recording"] for p in range(len(pool))]


def test_tasks_are_scaled_by_the_targets_of_all(pool, parts):
    targets = np.concatenate(
        [
            sample.arrays["velocity.target"][sample.arrays["velocity.asked"]]
            for sample in map(pool.__getitem__, pool.positions("train").tolist())
        ]
    ).astype(float)
    spec = pool.tasks["velocity"]
    np.testing.assert_allclose(spec["mean"], targets.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(spec["scale"], targets.std(axis=0), rtol=1e-5)
    assert spec["count"] == len(targets)
    assert spec["mean"] != parts[0].tasks["velocity"]["mean"]


def test_a_batch_may_hold_windows_of_several_data_sets(pool, parts):
    collate = Collator(pool, rows)
    first, last = 0, len(pool) - 1
    batch = collate([first, last])
    alone = [Collator(parts[0], rows)([0]), Collator(parts[1], rows)([len(parts[1]) - 1])]
    for name, signal in batch.signals.items():
        for row, other in enumerate(alone):
            values = other.signals[name].values[0]
            t, c = values.shape
            assert (signal.values[row, :t, :c] == values).all()


def test_a_task_that_a_data_set_lacks_asks_nothing_there(tmp_path, parts):
    tasks = {"cue": card().model_dump(mode="json")["tasks"]["cue"]}
    other = named(tmp_path, "third", recording("c", seed=2), tasks=tasks)
    pool = Pool([parts[0], other])
    batch = Collator(pool, rows)([0, len(pool) - 1])
    velocity = batch.targets["velocity"]
    assert velocity.mask.any(1).tolist() == [True, False]
    lone = Collator(pool, rows)([len(pool) - 1]).targets["velocity"]
    assert lone.values.shape == (1, 0, 2)


def test_the_hash_changes_with_any_part_and_their_order(parts):
    one, two = parts
    hashes = {Pool(p).index_hash for p in ([one, two], [two, one], [one])}
    assert len(hashes) == 3
    assert Pool([one, two]).index_hash in hashes


def test_runs_of_one_recording_and_split_are_told_apart(pool, parts):
    edges = stretches(pool)
    table = pool.index
    labels = list(zip(table["recording"], table["split"], strict=True))
    starts = [p for p in range(len(pool)) if p == 0 or labels[p] != labels[p - 1]]
    assert edges.tolist() == [*starts, len(pool)]


def test_names_that_stand_for_two_are_refused(tmp_path, parts):
    with pytest.raises(UserError, match=r"pooled data sets .* but one stands for several"):
        Pool([parts[0], parts[0]])
    twin = named(tmp_path, "twin", recording("a", seed=5))
    with pytest.raises(UserError, match=r"pooled recordings .* but a stands for several"):
        Pool([parts[0], twin])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"windows": {"duration": 1.0, "step": 0.5, "bin_width": 0.025, "within": "trials"}},
            r"signal 'spikes' cannot be pooled: its dt is 0.05 in one and 0.025 in other",
        ),
        (
            {"tasks": {"velocity": {"kind": "regression", "signal": "hand", "columns": [0]}}},
            r"task 'velocity' .*number of dimensions is 2 in one and 1 in other",
        ),
        (
            {
                "tasks": {
                    "velocity": {"kind": "classification", "signal": "trials", "column": "cue"},
                    "cue": {"kind": "classification", "signal": "trials", "column": "cue"},
                }
            },
            r"task 'velocity' cannot be pooled: its kind is 'regression' in one and 'classi",
        ),
    ],
)
def test_what_has_one_name_and_is_two_things_is_refused(tmp_path, parts, changes, message):
    other = named(tmp_path, "other", recording("c", seed=2), **changes)
    with pytest.raises(UserError, match=message):
        Pool([parts[0], other])


def test_one_data_set_is_its_own_only_part():
    assert list(by_dataset(Weighed([1, 2]), np.arange(2))) == ["a"]
