"""The stage: the same shards whatever the workers, bad recordings set aside, nothing leaks."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import yaml
from windows import card, recording

from neurofmx.data import parts, store
from neurofmx.data.shards import Shards
from neurofmx.errors import DataError, UserError
from neurofmx.stages import base, tokenize


def project(folder, monkeypatch, recordings, **changes):
    """A project in which align has just run."""
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    (folder / "datasets").mkdir()
    content = card(**changes).model_dump(mode="json", exclude_none=True)
    (folder / "datasets" / "made.yaml").write_text(yaml.safe_dump(content))
    for made in recordings:
        store.write(made, base.folder("align") / f"{made.id}.zarr", key=made.id)
    base.write_manifest("align", "made", {made.id: made.id for made in recordings})


def never_moving(name):
    """A recording whose hand was never seen."""
    made = recording(name)
    hand = made.signals["hand"]
    unseen = dataclasses.replace(hand, mask=np.zeros(len(hand), bool))
    return dataclasses.replace(made, signals=made.signals | {"hand": unseen})


def run(**changes):
    tokenize.run(tokenize.Params(dataset="made", **changes))


def files(folder):
    kept = [p for p in (folder / "storage" / "tokenize").iterdir() if p.is_file()]
    return {p.name: p.read_bytes() for p in kept if p.name not in base.MEASUREMENTS}


def test_shards_do_not_depend_on_workers(tmp_path, monkeypatch):
    made = [recording("a"), recording("b", seed=1, units=4), recording("c", seed=2)]
    found = []
    monkeypatch.setattr(base, "SPAWN_BYTES", 0)  # workers are processes, whatever the size
    for workers in (1, 2, 3):
        folder = tmp_path / str(workers)
        project(folder, monkeypatch, made)
        run(workers=workers, shard_mb=0.05)
        found.append(files(folder))
    assert found[0] == found[1] == found[2]
    kinds = {name.rpartition("-")[0] or name for name in found[0]}
    tables = {"index.parquet", "channels.parquet"}
    texts = {"layouts.json", "signals.json", "tasks.json", "manifest.json"}
    assert kinds == {"train", "valid", "test"} | tables | texts
    assert not list(tmp_path.rglob(".parts"))
    assert not list(tmp_path.rglob(".new"))


def test_the_manifest_lists_what_was_written_and_the_metrics_count_it(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch, [recording("a"), recording("b", seed=1, units=4)])
    run(world_size=4, tokens=10)
    folder = base.folder("tokenize")
    made, hashes = Shards(folder), base.read_manifest("tokenize")["files"]
    assert hashes == {name: base.file_digest(folder / name) for name in hashes}
    assert {*made.index["shard"], "index.parquet", "layouts.json", "signals.json"} < hashes.keys()
    assert made.index.groupby("split")["shard"].nunique().min() >= 4
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["windows"] == made.index["split"].value_counts().to_dict()
    assert metrics["tokens"] == made.index["tokens"].sum()
    assert made.signals["lfp"]["patch"] == 5  # 50 samples in 10 tokens
    assert made.name == "made"


def test_a_stage_killed_before_the_end_leaves_the_old_shards(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch, [recording("a")])
    run()
    before = files(tmp_path)
    base.write_manifest("align", "made", {"a": "changed"})
    monkeypatch.setattr(parts, "join_parts", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tokens=5)
    before.pop("manifest.json")  # nobody is to take them for those of the new recordings
    assert files(tmp_path) == before


@pytest.mark.parametrize("moved", [0, 5, 10])
def test_a_stage_killed_while_it_swaps_leaves_no_index(tmp_path, monkeypatch, moved):
    project(tmp_path, monkeypatch, [recording("a")])
    run(world_size=1)
    base.write_manifest("align", "made", {"a": "changed"})
    calls, rename = [], tokenize.os.replace

    def some(source, target):
        if source.parent.name == ".new":
            calls.append(source)
            if len(calls) > moved:
                killed()
        rename(source, target)

    monkeypatch.setattr(tokenize.os, "replace", some)
    with pytest.raises(KeyboardInterrupt):
        run(world_size=2, tokens=5)
    with pytest.raises(UserError, match="run `neurofmx tokenize` first"):
        Shards(base.folder("tokenize"))
    monkeypatch.setattr(tokenize.os, "replace", rename)
    run(world_size=2, tokens=5)
    again = files(tmp_path)
    project(tmp_path / "fresh", monkeypatch, [recording("a")])
    base.write_manifest("align", "made", {"a": "changed"})
    run(world_size=2, tokens=5)
    assert again == files(tmp_path / "fresh")


def killed(*_, **__):
    raise KeyboardInterrupt


def test_a_recording_that_cannot_be_cut_is_set_aside(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch, [recording("good"), never_moving("short")])
    run()
    manifest = base.read_manifest("tokenize")
    assert list(manifest["outputs"]) == ["good"]
    assert "no instant at which a task can be asked" in manifest["quarantined"]["short"]
    status = pd.read_parquet("storage/tokenize/status.parquet").set_index("recording")
    assert status.loc["short", "outcome"] == "quarantined"
    assert set(Shards(base.folder("tokenize")).index["recording"]) == {"good"}


def test_no_usable_recording_is_an_error_with_the_reasons(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch, [never_moving("short")])
    with pytest.raises(DataError, match=r"no recording is usable\n  short: .*no instant at which"):
        run()
    assert not (base.folder("tokenize") / "manifest.json").exists()


def test_classes_are_those_of_all_recordings(tmp_path, monkeypatch):
    other = recording("b", seed=1)
    trials = other.signals["trials"]
    renamed = dataclasses.replace(trials, columns=trials.columns.replace({"cue": {"left": "up"}}))
    other = dataclasses.replace(other, signals=other.signals | {"trials": renamed})
    project(tmp_path, monkeypatch, [recording("a"), other])
    run()
    tasks = json.loads((base.folder("tokenize") / "tasks.json").read_text())
    assert tasks["cue"]["classes"] == ["left", "right", "up"]


def test_targets_of_recordings_kept_for_adapt_do_not_set_the_scale(tmp_path, monkeypatch):
    loud = recording("loud")
    hand = loud.signals["hand"]
    scaled = dataclasses.replace(hand, values=hand.values * 100)
    loud = dataclasses.replace(loud, signals=loud.signals | {"hand": scaled})
    scales = []
    for name, made in (("alone", [recording("a")]), ("both", [recording("a"), loud])):
        project(tmp_path / name, monkeypatch, made, adapt=["loud"])
        run()
        tasks = json.loads((base.folder("tokenize") / "tasks.json").read_text())
        scales.append(tasks["velocity"]["scale"])
    assert scales[0] == scales[1]
