"""Kill −9 and go on: every rank gets what it would have got, at any world size, by any workers."""

from itertools import chain

import pytest
import ranks
from windows import card, recording, shards

from neurofmx.data.mixture import Phase


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two data sets, the second with windows of another size."""
    folder = tmp_path_factory.mktemp("two")
    fewer = {"windows": {"duration": 1.0, "step": 1.0, "bin_width": 0.05, "within": "trials"}}
    signals = card().model_dump(mode="json")["signals"]
    signals["lfp"] |= {"optional": True}
    second = recording("b", seed=1, trials=30)
    second.signals.pop("lfp")
    shards(folder / "one", [recording("a", trials=40)])
    shards(folder / "two", [second], card(signals=signals, **fewer))
    return [folder / "one", folder / "two"]


ONE = {"phases": [Phase(epochs=2)], "budget": {"batch_size": 9}}
MIXED = {
    "phases": [
        Phase(weights={"one": 1.0, "two": 1.0}, until={"one": 0.0, "two": 1.0}, epochs=2),
        Phase(signals=["spikes"]),
    ],
    "budget": {"tokens_per_step": 280},
}


def uninterrupted(run):
    """The keys of every step's windows, in the order of the plan."""
    plan = run.loader().plan
    found = {}
    for number in range(plan.epochs):
        epoch = plan.epoch(number)
        for step in range(len(epoch)):
            found[number, step + 1] = plan.shards.keys(epoch[step].tolist())
    return found


@pytest.mark.parametrize("kind", ["one data set", "a mixture in phases"])
@pytest.mark.parametrize(
    "parts", [[(1, 0), (2, 1), (4, 0)], [(4, 1), (2, 0), (1, 2)]], ids=["growing", "shrinking"]
)
def test_a_run_that_is_killed_twice_sees_what_an_uninterrupted_one_sees(
    folders, tmp_path, kind, parts
):
    """Ranks and workers change at each kill; steps after the last checkpoint are made again."""
    one = kind == "one data set"
    run = ranks.Run(folders[:1] if one else folders, **(ONE if one else MIXED), work=tmp_path)
    plan, wanted = run.loader().plan, uninterrupted(run)
    kills = [len(wanted) // 3, 2 * len(wanted) // 3, None]
    made = []
    for number, ((world, workers), kill_at) in enumerate(zip(parts, kills, strict=True)):
        codes = ranks.start(run, str(number), world, workers, kill_at)
        assert codes == [0 if kill_at is None else -9] * world
        found = ranks.seen(run, str(number))
        made += found
        for (epoch, step), by_rank in found.items():
            windows = plan.epoch(epoch)[step - 1]
            shared = [plan.share(epoch, windows, rank, world).tolist() for rank in range(world)]
            assert [by_rank[rank] for rank in range(world)] == list(map(plan.shards.keys, shared))
            assert sorted(chain(*by_rank.values())) == sorted(wanted[epoch, step])
    assert set(made) == set(wanted)
    again = len(made) - len(wanted)
    assert again == sum(kill % ranks.SAVE_EVERY for kill in kills[:2])
