"""Runs as trackers keep them, read back by their own readers."""

import json
import sqlite3
import subprocess
import sys

import pytest

from neurofmx.data.digests import file_digest
from neurofmx.errors import UserError
from neurofmx.training.tracking import flat, provenance, track, write_run

PARAMS = {"model": {"size": "tiny", "prior": None}, "from": {"engine": "ddp", "ranks": 2}, "x": {}}
FLAT = {"model.size": "tiny", "model.prior": None, "from.engine": "ddp", "from.ranks": 2, "x": {}}


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    """Nothing of a run is sent anywhere."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where MLflow makes its database once."""
    return tmp_path_factory.mktemp("storage")


def rows(folder, query, *values):
    with sqlite3.connect(folder / "mlflow" / "mlflow.db") as database:
        return database.execute(query, values).fetchall()


def status(folder, run):
    return rows(folder, "select status from runs where run_uuid = ?", run)[0][0]


def figures(folder, run):
    """Of each step, by name."""
    query = "select key, step, value from metrics where run_uuid = ? order by step"
    return {(key, step): value for key, step, value in rows(folder, query, run)}


def opened(folder, names, steps, runs=None, experiment="demo"):
    """A run that logs a loss of 1 / step at these steps; its ids."""
    with track(names, folder, experiment, PARAMS, runs) as tracked:
        for step in steps:
            tracked.log({"loss": 1 / step, "valid": 2.0}, step)
    return tracked.ids


def test_nested_parameters_are_joined_by_dots():
    assert flat(PARAMS) == FLAT


def test_mlflow_keeps_parameters_and_figures_in_sqlite(folder):
    run = opened(folder, ["mlflow"], [1, 2])["mlflow"]
    kept = dict(rows(folder, "select key, value from params where run_uuid = ?", run))
    assert kept == {name: str(value) for name, value in FLAT.items()}
    assert figures(folder, run) == {
        ("loss", 1): 1.0,
        ("loss", 2): 0.5,
        ("valid", 1): 2.0,
        ("valid", 2): 2.0,
    }
    assert status(folder, run) == "FINISHED"


def test_a_run_that_goes_on_is_the_same_and_has_the_figures_of_both_parts(folder):
    ids = opened(folder, ["mlflow"], [1, 2])
    assert opened(folder, ["mlflow"], [4, 5], runs=ids) == ids
    assert [step for name, step in figures(folder, ids["mlflow"]) if name == "loss"] == [1, 2, 4, 5]
    other = opened(folder, ["mlflow"], [1])
    assert other != ids
    assert set(figures(folder, other["mlflow"])) == {("loss", 1), ("valid", 1)}


def test_a_run_that_mlflow_does_not_know_begins_anew(folder):
    """As where the checkpoint was copied and the database was not."""
    found = opened(folder, ["mlflow"], [3], runs={"mlflow": "0" * 32})
    assert found["mlflow"] != "0" * 32
    assert ("loss", 3) in figures(folder, found["mlflow"])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_run_that_fails_is_marked_killed_and_can_go_on(folder, error):
    with pytest.raises(error), track(["mlflow"], folder, "demo", PARAMS) as tracked:
        raise error
    assert status(folder, tracked.ids["mlflow"]) == "KILLED"
    opened(folder, ["mlflow"], [2], runs=tracked.ids)
    assert status(folder, tracked.ids["mlflow"]) == "FINISHED"


def git(folder, *arguments):
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=folder, check=True
    )


def test_provenance_names_the_code_the_data_and_what_it_runs_on(tmp_path, monkeypatch):
    git(tmp_path, "init", "-q")
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    monkeypatch.chdir(tmp_path)
    found = provenance("fsdp", 4, "ab12")
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert found["git"] == head.stdout.strip()
    assert not found["git_changes"]
    assert found["dvc_lock"] == file_digest(tmp_path / "dvc.lock")
    assert (found["engine"], found["ranks"], found["index"]) == ("fsdp", 4, "ab12")
    assert found["cores"] > 0
    assert {"processor", "gpus", "torch", "python"} <= set(found)
    (tmp_path / "dvc.lock").write_text("changed")
    assert provenance("fsdp", 4, "ab12")["git_changes"]


def test_outside_a_repository_provenance_says_so_by_what_is_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = provenance("local", 1, "ab12")
    assert (found["git"], found["git_changes"], found["dvc_lock"]) == ("", False, "")


def test_mlflow_keeps_where_a_run_comes_from(folder):
    facts = provenance("ddp", 2, "ab12")
    with track(["mlflow"], folder, "demo", {"from": facts}) as tracked:
        pass
    run = tracked.ids["mlflow"]
    kept = dict(rows(folder, "select key, value from params where run_uuid = ?", run))
    for name in ("git", "dvc_lock", "index", "engine", "ranks", "torch"):
        assert kept[f"from.{name}"] == str(facts[name])


def test_what_a_run_is_called_lies_beside_its_files(tmp_path):
    write_run(tmp_path / "run.json", {"mlflow": "f00"}, {"engine": "local"})
    said = json.loads((tmp_path / "run.json").read_text())
    assert said == {"runs": {"mlflow": "f00"}, "engine": "local"}


def scalars(folder, run):
    """Of each step, by name, as TensorBoard reads its files."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(folder / "tensorboard" / run)).Reload()
    names = events.Tags()["scalars"]
    return {(name, e.step): e.value for name in names for e in events.Scalars(name)}


def test_tensorboard_reads_the_figures_of_both_parts_of_a_run(tmp_path):
    pytest.importorskip("tensorboard")
    ids = opened(tmp_path, ["tensorboard"], [1, 2])
    assert opened(tmp_path, ["tensorboard"], [4], runs=ids) == ids
    run = ids["tensorboard"]
    losses = {step: x for (name, step), x in scalars(tmp_path, run).items() if name == "loss"}
    assert losses == {1: 1.0, 2: 0.5, 4: 0.25}
    (other,) = opened(tmp_path, ["tensorboard"], [7]).values()
    assert {step for _, step in scalars(tmp_path, other)} == {7}


def test_a_new_run_of_tensorboard_never_falls_into_the_folder_of_another(tmp_path):
    pytest.importorskip("tensorboard")
    first, second = (opened(tmp_path, ["tensorboard"], [k])["tensorboard"] for k in (1, 2))
    for path in (tmp_path / "tensorboard" / first).iterdir():
        path.unlink()
    (tmp_path / "tensorboard" / first).rmdir()  # as someone does who has seen enough of it
    third = opened(tmp_path, ["tensorboard"], [3])["tensorboard"]
    assert third != second
    assert {step for _, step in scalars(tmp_path, second)} == {2}


def test_wandb_offline_leaves_a_folder_to_be_sent(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name))
    ids = opened(tmp_path, ["wandb"], [1, 2])
    wandb.teardown()  # as at the end of the process: its service has written everything
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    assert run.name.endswith(ids["wandb"])
    (kept,) = run.glob("*.wandb")
    assert b"model.size" in kept.read_bytes()
    assert b"loss" in kept.read_bytes()


def test_several_trackers_keep_the_same_run(folder):
    pytest.importorskip("tensorboard")
    ids = opened(folder, ["mlflow", "tensorboard"], [1, 2])
    in_one, in_other = figures(folder, ids["mlflow"]), scalars(folder, ids["tensorboard"])
    assert in_one == pytest.approx(in_other)


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_tracker_that_is_not_installed_is_refused_and_leaves_no_run_open(
    folder, name, monkeypatch
):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    message = rf"the tracker {name} is not installed: pip install 'neurofmx\[track\]'"
    with pytest.raises(UserError, match=message):
        opened(folder, ["mlflow", name], [1])
    last = rows(folder, "select status from runs order by start_time desc limit 1")
    assert last == [("KILLED",)]
    assert opened(folder, ["mlflow"], [1])  # which another that is open would not let be
