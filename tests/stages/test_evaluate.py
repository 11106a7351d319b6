import json

import numpy as np
import pandas as pd
import pytest
from stored import LEFT_OUT, PRETRAINED, make_storage

from neurofmx.errors import DataError, UserError
from neurofmx.evaluation.table import COLUMNS
from neurofmx.stages import base, evaluate


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in which evaluate was run once. Not to be written to."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_storage(folder)
        evaluate.run(evaluate.Params(dataset="made", threads=1))
        yield folder


@pytest.fixture(scope="module")
def results(project):
    return pd.read_csv(project / "storage/evaluate/results.csv")


def test_every_method_has_a_row_for_every_figure_of_its_kind(results):
    assert list(results.columns) == list(COLUMNS)
    methods = results.groupby("metric")["method"].agg(set)
    always = {"neurofmx", "untrained", "mean", "shifted"}
    for metric in ("r2", "r2[0]", "r2[1]"):
        assert methods[metric] == always | {"ridge", "ridge_centred"}
    for metric in ("accuracy", "balanced_accuracy"):
        assert methods[metric] == always | {"logistic"}
    assert not results.duplicated(["recording", "task", "metric", "method"]).any()
    assert (results["level"] == "trial").all()


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


def test_two_equal_runs_differ_in_seconds_alone(project):
    manifest = project / "storage/evaluate/manifest.json"
    first = manifest.read_bytes()
    evaluate.run(evaluate.Params(dataset="made", threads=1))
    assert manifest.read_bytes() == first


def test_it_says_what_must_run_before(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_storage(tmp_path)
    (base.STORAGE / "pretrain" / "manifest.json").unlink()
    with pytest.raises(UserError, match="run `neurofmx pretrain`"):
        evaluate.run(evaluate.Params(dataset="made", threads=1))


def test_no_recording_with_a_model_is_an_error_of_the_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_storage(tmp_path)
    base.write_manifest("pretrain", "made", {}, recordings=[])
    with pytest.raises(DataError, match=f"(?s)no recording can be scored.*{LEFT_OUT}"):
        evaluate.run(evaluate.Params(dataset="made", threads=1))
