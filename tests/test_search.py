"""Searches over made windows: every trial is a real training of a very small model."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from windows import card, recording, shards

from neurofmx import cli
from neurofmx.config import build, load_params, read_yaml
from neurofmx.errors import UserError
from neurofmx.project import NO_TELEMETRY
from neurofmx.search.space import SearchParams, check, text
from neurofmx.stages import base, pretrain

LR = "pretrain.fit.optimizer.lr"
MODEL = {"d_model": 32, "n_blocks": 1, "d_state": 8, "headdim": 16, "n_latents": 4}
MODEL |= {"latent_dim": 32, "n_layers": 1, "n_heads": 2}
# 60 steps and 6 looks: long enough to be stopped on the way.
FIT = {"epochs": 20, "batch_size": 8, "valid_every": 10, "checkpoint": {"every": 10}}
FIT |= {"objectives": {"decode": 1.0, "masked": 0.1, "forecast": 0.1}}
PARAMS = {"dataset": "made", "seed": 0, "pretrain": {"model": MODEL, "fit": FIT, "track": []}}


@pytest.fixture(scope="module")
def ray_here():
    """One Ray for all searches; its address."""
    import ray

    from neurofmx.search.run import running

    os.environ |= NO_TELEMETRY
    with running(SearchParams(keys={LR: {"log": [1e-4, 1e-2]}}, parallel=2), None):
        yield ray.get_runtime_context().gcs_address


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    """A project in which tokenize has just run."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "datasets").mkdir()
    content = card().model_dump(mode="json", exclude_none=True)
    (folder / "datasets" / "made.yaml").write_text(yaml.safe_dump(content))
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    before = os.getcwd()
    os.chdir(folder)
    shards(base.folder("tokenize"), [recording("a")], card())
    base.write_manifest("tokenize", "made", {"a": "a"})
    os.chdir(before)
    return folder


@pytest.fixture
def project(windows, monkeypatch):
    """The same as the working folder."""
    monkeypatch.chdir(windows)
    return windows


@pytest.fixture
def call(monkeypatch, capsys):
    """`neurofmx search` in this process, of a space that is written first: code, out, err."""

    def call(name, space, *words):
        with open(f"{name}.yaml", "w") as file:
            yaml.safe_dump(space, file)
        monkeypatch.setattr(sys, "argv", ["neurofmx", "search", f"{name}.yaml", *words])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        printed = capsys.readouterr()
        return stopped.value.code, printed.out, printed.err

    return call


def rows(name):
    with open(f"storage/search/{name}/results.csv", newline="") as file:
        return {row["trial"]: row for row in csv.DictReader(file)}


def history(name, trial, column="valid"):
    path = f"storage/search/{name}/{trial}/storage/pretrain/history.csv"
    with open(path, newline="") as file:
        return [float(row[column]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("pretrian.fit.epochs", {"integer": [1, 2]}, "pretrian.fit.epochs: unknown key"),
        (
            "pretrain.fit.optimzer.lr",
            {"log": [1e-4, 1e-2]},
            "fit.optimzer: unknown key. Did you mean 'optimizer'? Known keys: accumulate, ba",
        ),
        ("pretrain.fit.epochs", {"uniform": [1, 3]}, "pretrain.fit.epochs = 1.6 is not usable"),
        (LR, {"uniform": [0, 0.1]}, "fit.optimizer.lr: Input should be greater than 0"),
        ("pretrain.fit.epochs.x", {"choice": [1]}, "epochs is 20 in params.yaml and has no keys"),
        ("pretrain.fit.weighting", {"choice": ["fixed", "even"]}, "weighting = even is not usable"),
        ("tokenize.tokens", {"integer": [10, 20]}, "tokenize.tokens: it changes the windows"),
        ("seed", {"choice": [0, 1]}, "seed: it changes the windows"),
        ("pretrain.beside", {"choice": [["x"]]}, "pretrain.beside: it changes the windows"),
        ("adapt.adapter", {"choice": ["lora"]}, "adapt comes after pretrain"),
        ("pretrain.model.d_model", {"choice": [32]}, "pbt changes keys while a trial goes on"),
    ],
)
def test_a_key_that_cannot_be_searched_is_refused_before_any_trial(key, values, message):
    algorithm = "pbt" if key == "pretrain.model.d_model" else "random"
    params = SearchParams(keys={key: values}, algorithm=algorithm)
    with pytest.raises(UserError) as refused:
        check(params, PARAMS)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"log": [0, 1]}, "log begins above 0; it was 0.0"),
        ({"uniform": [2, 1]}, "the first number is to be the smaller; they were (2.0, 1.0)"),
        ({}, "give exactly one of uniform, log, integer, choice"),
        ({"choice": []}, "at least 1 item"),
        ({"normal": [0, 1]}, "normal: unknown key"),
    ],
)
def test_values_that_make_no_sense_are_refused(values, message):
    with pytest.raises(UserError) as refused:
        build(SearchParams, {"keys": {LR: values}}, "space.yaml")
    assert message in str(refused.value)


@pytest.mark.parametrize("value", [1e-5, None, True, "yes", "adamw", "", [], [1, {"a": 0.5}], 32])
def test_a_value_reads_back_from_its_line(value):
    assert "\n" not in text(value)
    assert yaml.safe_load(text(value)) == value


def test_without_ray_the_user_is_told_what_to_install(project, call, monkeypatch):
    monkeypatch.delitem(sys.modules, "neurofmx.search.run", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = call("none", {"keys": {LR: {"log": [1e-4, 1e-2]}}})
    assert code == 2
    assert "pip install 'neurofmx[search]'" in err


# Drawn in this order: 0.006, which learns, and 6e-7, which does not.
SPACE = {"keys": {LR: {"log": [1e-7, 1e-2]}}, "trials": 2, "seed": 10, "grace": 1}


def test_a_killed_search_goes_on_and_stops_the_hopeless_one(project, ray_here, call):
    (project / "lr.yaml").write_text(yaml.safe_dump(SPACE | {"algorithm": "asha"}))
    command = [sys.executable, "-m", "neurofmx", "search", "lr.yaml", "--address", ray_here]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while "1/2 trial-000  finished" not in process.stdout.readline():
        assert process.poll() is None
    deadline = time.monotonic() + 60
    while "trial-001" not in rows("lr"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = rows("lr")
    assert [row["state"] for row in before.values()] == ["finished", "running"]

    code, out, err = call("lr", SPACE | {"algorithm": "asha", "parallel": 2})
    assert code == 0, err
    after = rows("lr")
    # The first was not trained again, and yet the second was held against it.
    assert after["trial-000"] == before["trial-000"]
    assert out.lstrip().startswith("2/2 trial-001  stopped")
    assert after["trial-001"][LR] == before["trial-001"][LR]
    assert after["trial-001"]["state"] == "stopped"
    assert int(after["trial-001"]["looks"]) < int(after["trial-000"]["looks"]) == 6
    assert not (project / "storage/search/lr/ray").exists()


def test_the_rate_that_learns_is_the_best_and_the_table_is_that_of_the_runs(project, call):
    code, out, _ = call("lr", SPACE | {"algorithm": "asha"})
    assert code == 0
    found = rows("lr")
    good, hopeless = found.values()
    assert float(good[LR]) > 1e-3 > float(hopeless[LR])
    assert float(good["valid"]) < 0.5 < float(hopeless["valid"])
    for trial, row in found.items():
        assert float(row["valid"]) == min(history("lr", trial))
        assert int(row["looks"]) == len(history("lr", trial))
    assert f"To take it: neurofmx run -S {LR}={good[LR]}" in out
    page = (project / "storage/search/lr/plot.html").read_text()
    assert all(name in page for name in ("fit.optimizer.lr", "trial-000", "trial-001"))


def test_the_patch_applied_gives_the_loss_of_the_best_trial(project, call):
    code, out, _ = call("lr", SPACE | {"algorithm": "asha"}, "--apply")
    assert code == 0
    best = rows("lr")["trial-000"]
    assert f"params.yaml: {LR}: None → {best[LR]}" in out
    patch = read_yaml(project / "storage/search/lr/best.yaml")
    assert patch == {"pretrain": {"fit": {"optimizer": {"lr": float(best[LR])}}}}
    assert load_params("pretrain", pretrain.Params).fit.optimizer.lr == float(best[LR])
    assert not (project / "storage" / "pretrain").exists()

    subprocess.run([sys.executable, "-m", "neurofmx", "pretrain"], check=True)
    with open("storage/pretrain/history.csv", newline="") as file:
        assert min(float(row["valid"]) for row in csv.DictReader(file)) == float(best["valid"])


def test_other_parameters_are_no_part_of_the_same_search(project, call):
    content = read_yaml(project / "params.yaml")
    content["pretrain"]["fit"]["batch_size"] = 4
    (project / "params.yaml").write_text(yaml.safe_dump(content))
    code, _, err = call("lr", SPACE | {"trials": 4})
    (project / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    assert code == 2
    assert "holds trials with other parameters" in err
    assert "give this search another --name" in err


def test_in_a_population_the_worse_goes_on_from_the_better_ones_weights(project, ray_here, call):
    code, _, err = call("pbt", SPACE | {"algorithm": "pbt", "parallel": 2, "grace": 3})
    assert code == 0, err
    first, second = rows("pbt").values()
    # The second began at 6e-7; it left its three looks for those of the first, then went its way.
    assert float(first[LR]) > 1e-3
    assert float(second[LR]) > 1e-3
    assert second[LR] != first[LR]
    better, worse = history("pbt", "trial-000"), history("pbt", "trial-001")
    assert worse[:3] == better[:3]
    assert all(x != y for x, y in zip(worse[3:], better[3:], strict=True))
    assert max(worse[3:]) < 0.5 < float(rows("lr")["trial-001"]["valid"])
    assert float(second["valid"]) == worse[-1]


def test_a_trial_that_fails_says_why_and_the_others_go_on(project, ray_here, call):
    weight = "pretrain.fit.objectives.codes"  # which the model has not, so a weight above 0 fails
    space = {"keys": {weight: {"choice": [0, 0.1]}, LR: {"log": [1e-3, 1e-2]}}, "seed": 1}
    code, out, err = call("codes", space | {"trials": 2, "parallel": 2, "algorithm": "optuna"})
    assert code == 0, err
    states = {row[weight]: row["state"] for row in rows("codes").values()}
    assert states == {"0": "finished", "0.1": "failed"}
    [failed] = [row for row in rows("codes").values() if row["state"] == "failed"]
    assert "the objective codes needs model.codes" in failed["reason"]
    assert "failed" in out
