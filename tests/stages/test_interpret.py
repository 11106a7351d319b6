import json

import pandas as pd
import pytest
from stored import LEFT_OUT, PRETRAINED, make_storage, read_metrics

from neurofmx.interpretability import StudyParams
from neurofmx.interpretability.sae import SAEParams
from neurofmx.interpretability.tuning import TuningParams
from neurofmx.models import Known, NeuroFMX
from neurofmx.models.begun import begun
from neurofmx.stages import interpret

STUDY = StudyParams(sae=SAEParams(steps=40, k=4), tuning=TuningParams(bins=4, shifts=40))


def run(folder, monkeypatch, synthetic, **card):
    monkeypatch.chdir(folder)
    make_storage(folder, synthetic, **card)
    interpret.run(interpret.Params(dataset="made", study=STUDY))


def table(folder, name):
    return pd.read_parquet(folder / f"storage/interpret/{name}.parquet")


def test_each_analysis_stands_beside_its_controls(tmp_path, monkeypatch):
    run(tmp_path, monkeypatch, synthetic=True)

    sae = table(tmp_path, "sae").set_index("dictionary")
    assert list(sae.index) == ["neurofmx", "second seed", "frozen dictionary", "untrained"]
    assert sae["explained_variance"]["neurofmx"] > sae["explained_variance"]["frozen dictionary"]

    cka = table(tmp_path, "cka").set_index("signal")
    assert (cka["cka"] > 0.1).all()  # the same tokens
    assert (cka["cka_of_others"].abs() < 0.1).all()

    scores = table(tmp_path, "tuning")
    assert set(scores["kind"]) == {"unit", "feature"}
    best = scores[scores["kind"] == "unit"].nlargest(1, "r2")
    assert best["r2"].item() > max(0.1, best["null"].item())

    planted = table(tmp_path, "planted").groupby("source")["r2"].mean()
    assert set(planted.index) == {"neurofmx", "untrained", "smoothed counts"}
    assert planted["smoothed counts"] > 0.6
    clocks = table(tmp_path, "planted_clocks")
    assert clocks["error_ppm"].tolist() == pytest.approx([-0.1])
    assert clocks["recording"].tolist() == [PRETRAINED]


def test_weights_that_learnt_nothing_fail_the_checks_and_that_is_said(tmp_path, monkeypatch):
    run(tmp_path, monkeypatch, synthetic=True)
    failed = json.loads((tmp_path / "storage/interpret/failed.json").read_text())
    recovered = read_metrics("interpret")["planted_r2"]
    assert any("latents are recovered" in line for line in failed) == (recovered["neurofmx"] <= 0.8)


def test_two_equal_runs_write_the_same_and_real_data_has_no_planted_truth(tmp_path, monkeypatch):
    run(tmp_path, monkeypatch, synthetic=False)
    manifest = tmp_path / "storage/interpret/manifest.json"
    first = manifest.read_bytes()
    interpret.run(interpret.Params(dataset="made", study=STUDY))

    assert manifest.read_bytes() == first
    assert "planted.parquet" not in json.loads(first)["outputs"]


def test_where_other_recordings_are_tested_valid_is_looked_at(tmp_path, monkeypatch):
    split = {"by": "time", "train": 0.6, "valid": 0.2, "guard": 1.0, "test_on": [LEFT_OUT]}
    run(tmp_path, monkeypatch, False, split=split, adapt=[])
    assert set(table(tmp_path, "tuning")["recording"]) == {PRETRAINED}
    assert table(tmp_path, "cka")["tokens"].min() > 0


def test_a_model_that_knows_other_data_sets_too_is_studied_on_this_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_storage(tmp_path, synthetic=False)
    core = NeuroFMX.from_pretrained(tmp_path / "storage" / "pretrain")
    some = next(iter(core.sampled))
    signals = core.config.signals | {"elsewhere": core.config.signals[some]}
    config = core.config.model_copy(update={"signals": signals})
    wider = begun(core, config, core.vocabulary, seed=0)
    wider.extend({"elsewhere": Known([("other", unit) for unit in range(500)], [])})
    wider.save_pretrained(tmp_path / "storage" / "pretrain")

    interpret.run(interpret.Params(dataset="made", study=STUDY))

    studied = set(table(tmp_path, "cka")["signal"].str.split(" ").explode())
    assert some in studied
    assert "elsewhere" not in studied
