"""The stage: the same shards whatever the workers, bad recordings set aside, nothing leaks."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import yaml
from windows import card, recording

from neurofmx.data import store
from neurofmx.data.shards import Shards
from neurofmx.errors import DataError
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
    kept = [p for p in (folder / "storage" / "tokenize").rglob("*") if p.is_file()]
    return {p.name: p.read_bytes() for p in kept if p.name not in base.MEASUREMENTS}


def test_shards_do_not_depend_on_workers(tmp_path, monkeypatch):
    made = [recording("a"), recording("b", seed=1, units=4)]
    found = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        project(folder, monkeypatch, made)
        monkeypatch.setattr(base, "SPAWN_BYTES", 0)  # two workers are two processes
        run(workers=workers)
        found.append(files(folder))
    assert found[0] == found[1]
    assert "test-000000.tar" in found[0]
    assert not list(tmp_path.rglob(".parts"))


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
