import dataclasses
import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sources import ROOT, closure
from stored import LEFT_OUT, PRETRAINED, make_storage
from windows import tiny_model

from neurofmx.config import build
from neurofmx.data.shards import Shards
from neurofmx.errors import DataError, TransientError, UserError
from neurofmx.evaluation import BASELINES, METRICS, BaselineParams
from neurofmx.evaluation.comparisons import NULLS, TESTS
from neurofmx.evaluation.table import COLUMNS, OVERALL
from neurofmx.models import vocabulary_of
from neurofmx.models.adapter_files import save_adapter
from neurofmx.models.adapters import AdapterOptions, adapt
from neurofmx.stages import base, evaluate, fits

BOTH = [PRETRAINED, LEFT_OUT]


class Counted:
    """A baseline that counts how often it is fitted."""

    def __init__(self, baseline):
        self.baseline, self.times = baseline, 0

    def __getattr__(self, name):
        return getattr(self.baseline, name)

    def fit(self, *given):
        self.times += 1
        return self.baseline.fit(*given)


def full_disk(*given):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in which evaluate was run once. Not to be written to."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_storage(folder)
        evaluate.run(evaluate.Params(dataset="made", workers=1))
        yield folder


@pytest.fixture(scope="module")
def results(project):
    return pd.read_csv(project / "storage/evaluate/results.csv")


def test_every_method_has_a_row_for_every_figure_of_its_kind(results):
    assert list(results.columns) == list(COLUMNS)
    methods = results.groupby("metric")["method"].agg(set)
    always = {"neurofmx", "probe", "untrained", "mean", "shifted"}
    for metric in ("r2", "r2[0]", "r2[1]", "r2_weighted", "pearson", "mse"):
        lines = {"ridge", "ridge_centred", "wiener_cascade", "kalman"}
        assert methods[metric] == always | lines | {"psth"}
    for metric in ("accuracy", "balanced_accuracy", "auc", "f1", "kappa"):
        spatial = {"csp", "tangent", "mdm"}
        assert methods[metric] == always | spatial | {"logistic", "lda"}
    assert not results.duplicated(["recording", "task", "metric", "method"]).any()
    assert (results["level"] == "trial").all()


def test_pages_hold_what_the_table_holds(project, results):
    folder = project / "storage/evaluate"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {"results.json", "results.html", "results.tex"} < set(manifest["outputs"])
    found = pd.DataFrame(json.loads((folder / "results.json").read_text()))
    numbers = dict.fromkeys(("value", "low", "high"), float)
    pd.testing.assert_frame_equal(found.astype(numbers), results.astype(numbers))
    page, tabulars = ((folder / f"results.{kind}").read_text() for kind in ("html", "tex"))
    for value in results["value"][results["metric"].isin(["r2", "balanced_accuracy"])]:
        assert f">{value:.3f}<" in page
        assert f"{value:.3f}" in tabulars


def test_intervals_hold_their_value(results):
    known = results.dropna(subset=["low", "high"])
    assert (known["low"] <= known["value"] + 1e-6).all()
    assert (known["value"] <= known["high"] + 1e-6).all()


def test_ridge_beats_weights_that_learnt_nothing_and_chance_is_chance(results):
    value = results[results["metric"] == "r2"].set_index("method")["value"]
    assert value["ridge"] > 0.7 > value["neurofmx"]
    assert value["mean"] <= 0


def test_the_picture_shows_what_was_scored(project, results):
    table = pd.read_parquet(project / "storage/evaluate/predictions.parquet")
    x = table[(table["task"] == "velocity") & (table["dim"] == 0)]
    error, total = x["truth"] - x["ridge"], x["truth"] - x["truth"].mean()
    chosen = results[(results["metric"] == "r2[0]") & (results["method"] == "ridge")]
    np.testing.assert_allclose(
        1 - (error**2).sum() / (total**2).sum(), chosen["value"].item(), rtol=1e-4
    )
    assert set(table["task"]) == {"velocity", "cue"}


def test_a_recording_without_a_model_is_left_out_with_its_reason(project, results):
    manifest = json.loads((project / "storage/evaluate/manifest.json").read_text())
    assert set(results["recording"]) == {PRETRAINED}
    assert "adapt left no model" in manifest["left_out"][LEFT_OUT]


def test_a_method_that_does_not_apply_says_why(project):
    tuned = json.loads((project / "storage/evaluate/tuned.json").read_text())[PRETRAINED]
    assert "frequencies such as 13Hz" in tuned["cue"]["cca"]["left_out"]
    assert "left_out" not in tuned["cue"]["csp"]
    assert "cca" not in tuned["velocity"]


def test_two_equal_runs_differ_in_seconds_alone(project):
    manifest = project / "storage/evaluate/manifest.json"
    first = manifest.read_bytes()
    evaluate.run(evaluate.Params(dataset="made", workers=1))
    assert manifest.read_bytes() == first


def test_processes_share_the_fits_and_change_nothing(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_storage(tmp_path)
    params = {"dataset": "made", "methods": ("mean", "lda", "ridge")}
    evaluate.run(evaluate.Params(**params, workers=2))
    shared = Path("storage/evaluate/manifest.json").read_bytes()
    shutil.rmtree("storage/evaluate")
    evaluate.run(evaluate.Params(**params, workers=1))
    assert Path("storage/evaluate/manifest.json").read_bytes() == shared


def test_baselines_are_fitted_once_whatever_becomes_of_the_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_storage(tmp_path)
    params = evaluate.Params(dataset="made", methods=("mean", "ridge"), workers=1)
    evaluate.run(params)
    model = tiny_model(Shards(base.STORAGE / "tokenize"), [PRETRAINED], 2)
    model.save_pretrained(base.folder("pretrain"))
    first, counted = pd.read_csv("storage/evaluate/results.csv"), Counted(BASELINES["ridge"])
    monkeypatch.setitem(BASELINES, "ridge", counted)

    evaluate.run(params)
    second = pd.read_csv("storage/evaluate/results.csv")
    assert counted.times == 0
    ours = [t[t["method"] == "neurofmx"]["value"].tolist() for t in (first, second)]
    ridge = [t[t["method"] == "ridge"].reset_index(drop=True) for t in (first, second)]
    assert ours[0] != ours[1]
    pd.testing.assert_frame_equal(*ridge)

    evaluate.run(params.model_copy(update={"baselines": BaselineParams(alphas=(10.0,))}))
    assert counted.times == 1


def test_a_fit_that_fails_leaves_those_before_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_storage(tmp_path)
    params = evaluate.Params(dataset="made", methods=("ridge", "mean"), workers=1)
    counted = Counted(BASELINES["ridge"])
    monkeypatch.setitem(BASELINES, "ridge", counted)
    with monkeypatch.context() as patch:
        patch.setitem(BASELINES, "mean", dataclasses.replace(BASELINES["mean"], fit=full_disk))
        with pytest.raises(TransientError, match=r"made-1\.\w+\.mean: .*No space left"):
            evaluate.run(params)
    evaluate.run(params)
    assert counted.times == 1


def test_the_key_of_a_fit_covers_all_code_that_it_runs():
    packages = [ROOT / "neurofmx" / "evaluation" / n for n in ("problems.py", "baselines")]
    files = [f for p in packages for f in ([p] if p.is_file() else p.glob("*.py"))]
    needed = set().union(*map(closure, files))
    covered = {
        f
        for path in (ROOT / "neurofmx" / module for module in fits.CODE)
        for f in ([path] if path.is_file() else path.glob("*.py"))
    }
    assert {str(path.relative_to(ROOT)) for path in needed - covered} == set()


def test_methods_are_chosen_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_storage(tmp_path)
    evaluate.run(evaluate.Params(dataset="made", methods=("mean", "ridge"), workers=1))
    found = pd.read_csv("storage/evaluate/results.csv")["method"]
    assert set(found) & set(BASELINES) == {"mean", "ridge"}
    assert "neurofmx" in set(found)


def test_a_method_that_is_none_is_named_with_the_choices():
    with pytest.raises(UserError, match=r"methods: .*no method 'rigde'; choose from ridge, .*all"):
        build(evaluate.Params, {"dataset": "made", "methods": ["rigde"]}, "evaluate")


def test_it_says_what_must_run_before(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_storage(tmp_path)
    (base.STORAGE / "pretrain" / "manifest.json").unlink()
    with pytest.raises(UserError, match="run `neurofmx pretrain`"):
        evaluate.run(evaluate.Params(dataset="made", workers=1))


def test_no_recording_with_a_model_is_an_error_of_the_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_storage(tmp_path)
    base.write_manifest("pretrain", "made", {}, recordings=[])
    with pytest.raises(DataError, match=f"(?s)no recording can be scored.*{LEFT_OUT}"):
        evaluate.run(evaluate.Params(dataset="made", workers=1))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Storage of evaluate where pretraining saw both recordings."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_storage(folder)
        model = tiny_model(Shards(base.STORAGE / "tokenize"), BOTH, 1)
        model.save_pretrained(base.folder("pretrain"))
        base.write_manifest("pretrain", "made", {"model.safetensors": "hash"}, recordings=BOTH)
        evaluate.run(evaluate.Params(dataset="made", workers=1))
    return folder / "storage" / "evaluate"


def test_two_recordings_have_rows_of_both_together(two):
    results = pd.read_csv(two / "results.csv")
    single, together = (results[(results["recording"] == OVERALL) == k] for k in (False, True))
    mean = single.groupby(["task", "metric", "method"])["value"].mean()
    assert set(together["metric"]) == {
        m for m, row in METRICS.items() if "circular" not in row.kinds
    }
    assert (together["level"] == "trial").all()
    for row in together.dropna(subset="value").itertuples():
        assert row.value == pytest.approx(mean[row.task, row.metric, row.method], rel=1e-4)
    summary = json.loads((two / "metrics.json").read_text())
    assert summary["recordings"] == 2
    median = summary["median_over_recordings"]["velocity"]["r2"]["ridge"]
    assert median == pytest.approx(mean["velocity", "r2", "ridge"], abs=1e-4)  # of two


def test_two_recordings_are_tested_in_pairs(two):
    tests = pd.read_csv(two / "tests.csv")
    assert tuple(tests.columns) == TESTS
    row = tests.set_index(["metric", "method"]).loc[("r2", "ridge")]
    results = pd.read_csv(two / "results.csv").set_index(["recording", "metric", "method"])["value"]
    gains = [results[r, "r2", "neurofmx"] - results[r, "r2", "ridge"] for r in BOTH]
    assert row["n"] == 2
    assert row["difference"] == pytest.approx(np.mean(gains), rel=1e-3)
    assert row["effect"] == -1.0  # the model has learnt nothing
    assert row["p"] == 0.5  # two recordings cannot say more
    assert tests["q"].between(tests["p"], 1).all()


def test_ours_is_held_against_nulls(project, two):
    alone, both = (pd.read_csv(f / "nulls.csv") for f in (project / "storage/evaluate", two))
    assert tuple(alone.columns) == NULLS
    assert set(alone["null"]) == {"linear_shift"}
    assert set(both["null"]) == {"linear_shift", "pseudo_session"}
    assert set(both["recording"]) == set(BOTH)
    assert both["p"].between(0, 1).all()


def test_one_recording_is_tested_against_nothing(project):
    tests = pd.read_csv(project / "storage/evaluate/tests.csv")
    assert tests.empty
    assert tuple(tests.columns) == TESTS


def test_another_animal_is_held_out_as_such(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_storage(tmp_path)
    core = tiny_model(Shards(base.STORAGE / "tokenize"), [PRETRAINED], 1)
    known = vocabulary_of(Shards(base.STORAGE / "tokenize"), [LEFT_OUT])
    target, options = base.folder("adapt") / LEFT_OUT, AdapterOptions()
    target.mkdir()
    save_adapter(target, adapt(core, known, "unit_id", 0, options), core, "unit_id", options)
    base.write_manifest("adapt", "made", {LEFT_OUT: "hash"})
    path = base.STORAGE / "validate" / "recordings.parquet"
    base.write_table(path, pd.read_parquet(path).assign(subject=["made", "other"]))
    evaluate.run(evaluate.Params(dataset="made", workers=1))
    results = pd.read_csv(base.STORAGE / "evaluate" / "results.csv")
    levels = results.groupby("recording")["level"].unique().str[0].to_dict()
    assert levels == {PRETRAINED: "trial", LEFT_OUT: "animal"}  # no mean over two levels


def test_another_species_is_none_where_a_set_beside_may_hold_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_storage(tmp_path)
    path = base.STORAGE / "validate" / "recordings.parquet"
    table = pd.read_parquet(path).assign(
        subject=["a", "b"], species=["Mus musculus", "Homo sapiens"]
    )
    base.write_table(path, table)
    seen = {"recordings": [PRETRAINED], "beside": {}}
    assert evaluate.held_out(LEFT_OUT, seen, "made") == "species"
    assert evaluate.held_out(LEFT_OUT, seen | {"beside": {"x": "other"}}, "made") == "animal"
