"""What `inspect` counts is what is in the shards."""

import numpy as np
import pytest
from windows import card, recording, shards

from neurofmx.data import contents
from neurofmx.errors import UserError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    signals = card().model_dump(mode="json")["signals"]
    signals["events"] = {"path": "units", "modality": "spikes", "tokenizer": "spikes"}
    several = [recording("a"), recording("b", seed=1, units=4)]
    for each in several:
        each.signals["events"] = each.signals["spikes"]
    folder = tmp_path_factory.mktemp("shards")
    return shards(folder, several, card(signals=signals), world_size=2)


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([(0, 1), (0.5, 1.5), (1, 2)], 2.0),  # overlapping
        ([(5, 6), (0, 1)], 2.0),  # apart, and not in order
        ([(0, 10), (1, 2), (9, 11)], 11.0),  # one inside another
    ],
)
def test_time_that_windows_share_counts_once(spans, seconds):
    start, stop = np.array(spans, float).T
    assert contents.covered(start, stop) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("task", "answers"),
    [
        ({"kind": "regression", "mean": [1.0], "scale": [0.5]}, "1 ± 0.5"),
        ({"kind": "circular", "mean": [0.0, 0.0], "scale": [1.0, 1.0]}, "an angle, an angle"),
        ({"kind": "classification", "classes": ["a", "b"]}, "a, b"),
        ({"kind": "ordinal", "classes": ["low", "high"]}, "low < high"),
    ],
)
def test_a_task_says_what_it_asks(task, answers):
    assert contents._task("t", task)["answers"] == answers


def test_splits_are_counted(made):
    table = contents.tables(made)[f"{made.name}: windows"].set_index("split")
    assert table.index.tolist() == ["train", "valid", "test", "all"]
    assert table.loc["all", "windows"] == str(len(made))
    assert table.loc["test", "windows"] == str(len(made.positions("test")))
    assert set(table["recordings"]) == {"2"}
    assert table.loc["train", "shards"] == "2"
    assert table.loc["all", "tokens"] == f"{made.tokens.sum():,}"
    size = sum(path.stat().st_size for path in made.folder.glob("*.tar")) / 1e6
    assert float(table.loc["all", "MB"]) == pytest.approx(size, abs=0.1)
    # Windows of a trial each, which do not overlap.
    index = made.index[made.index["split"] == "valid"]
    hours = (index["stop"] - index["start"]).sum() / 3600
    assert float(table.loc["valid", "hours (overlap once)"]) == pytest.approx(hours, rel=0.01)


def test_signals_are_described_and_their_tokens_add_up(made):
    table = contents.tables(made)["signals"].set_index("signal")
    assert table.loc["lfp", ["rate", "token", "channels"]].tolist() == ["50 Hz", "0.1 s", "3"]
    assert table.loc["events", ["rate", "token", "channels"]].tolist() == ["", "an event", "4 to 6"]
    tokens = {name: int(text.replace(",", "")) for name, text in table["tokens"].items()}
    events = [made[p].arrays["events.events"].size for p in range(len(made))]
    units = {"a": 6, "b": 4}
    ends = [2 * units[recording] for recording in made.index["recording"]]
    assert tokens["events"] == sum(events) + sum(ends)
    assert sum(tokens.values()) == made.tokens.sum()


def test_tasks_and_arrays_are_listed(made):
    tasks = contents.tables(made)["tasks"].set_index("task")
    assert tasks.loc["cue", "answers"] == "left, right"
    assert "±" in tasks.loc["velocity", "answers"]
    table = contents.arrays(made[0]).set_index("array")
    values = made[0].arrays["lfp.values"]
    assert table.loc["lfp.values", "shape"] == f"{len(values)} × 3"
    assert table.loc["lfp.values", "range"] == f"{values.min():.4g} to {values.max():.4g}"


def test_a_window_is_found_by_its_key(made):
    assert contents.find(made, None) == made.positions("train")[0]
    assert contents.find(made, made.keys([30])[0]) == 30
    with pytest.raises(UserError, match=r"no window 'x' .* such as 'a-000000'"):
        contents.find(made, "x")
