"""pretrain and adapt: a recording kept for adapt has no part in pretraining."""

import json

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tokenized_project import FIT, MODEL, project
from windows import card, recording, shards, tiny_model

from neurofmx.data.loader import LoaderParams
from neurofmx.data.pool import Pool
from neurofmx.data.shards import Shards
from neurofmx.errors import UserError
from neurofmx.models import Known, NeuroFMX
from neurofmx.models.adapter_files import load_adapter
from neurofmx.stages import adapt, base, pretrain
from neurofmx.training.fit import Fit
from neurofmx.training.optim import OptimizerParams
from neurofmx.training.recipe import FitParams


def test_a_recording_kept_for_adapt_changes_nothing_in_pretraining(tmp_path, monkeypatch):
    weights = []
    for seed, adapter in ((1, "unit_id"), (2, "lora")):
        project(tmp_path / str(seed), monkeypatch, seed)
        pretrain.run(pretrain.Params(dataset="made", model=MODEL, fit=FIT))
        assert {r for r, _ in pretrained().vocabulary["spikes"].keys} == {"a"}
        history = (base.folder("pretrain") / "history.csv").read_text()
        weights.append(history)
        adapt.run(adapt.Params(dataset="made", adapter=adapter, fit=FIT))
        adapted = load_adapter(pretrained(), base.folder("adapt") / "b")
        assert adapted.vocabulary["spikes"].keys == [("b", k) for k in range(4)]
    assert base.read_manifest("adapt")["outputs"].keys() == {"b"}


def pretrained():
    return NeuroFMX.from_pretrained(base.folder("pretrain"))


def test_nothing_to_adapt_to_is_said(tmp_path, monkeypatch):
    project(tmp_path / "p", monkeypatch, 1)
    base.write_manifest("tokenize", "made", {"a": "a"})
    adapt.run(adapt.Params(dataset="made", fit=FIT))
    manifest = base.read_manifest("adapt")
    assert manifest["outputs"] == {}
    assert "keeps no usable recording" in manifest["reason"]


def test_a_window_that_is_left_out_is_counted(tmp_path, monkeypatch):
    project(tmp_path / "p", monkeypatch, 1)
    row = Shards(base.folder("tokenize")).index.query("split == 'train'").iloc[0]
    with (base.folder("tokenize") / row["shard"]).open("r+b") as file:
        file.seek(row["offset"] + row["length"] - 1)
        file.write(b"!")
    fit = FIT.model_copy(update={"loader": LoaderParams(on_corrupt="skip")})
    assert row["recording"] == "a"
    pretrain.run(pretrain.Params(dataset="made", model=MODEL, fit=fit))
    metrics = json.loads((base.folder("pretrain") / "metrics.json").read_text())
    assert metrics["skipped_windows"] == FIT.epochs
    assert row["key"] in metrics["skipped_because"][0]


def test_a_card_without_tasks_is_pretrained_on_its_signals(tmp_path, monkeypatch):
    project(tmp_path / "p", monkeypatch, 1, tasks={})
    pretrain.run(pretrain.Params(dataset="made", model=MODEL, fit=FIT))
    metrics = json.loads((base.folder("pretrain") / "metrics.json").read_text())
    assert 0 < metrics["valid_unexplained"] < 2  # of the next samples, whose variance is about 1


def test_a_smaller_model_learns_from_a_kept_one(tmp_path, monkeypatch):
    project(tmp_path / "p", monkeypatch, 1)
    pretrain.run(pretrain.Params(dataset="made", model=MODEL, fit=FIT))
    kept = base.folder("pretrain").rename(tmp_path / "kept")
    small = MODEL.model_copy(update={"d_model": 16, "latent_dim": 16})
    fit = FIT.model_copy(update={"objectives": {"decode": 1.0, "distill": 1.0}})
    pretrain.run(pretrain.Params(dataset="made", model=small, fit=fit, teacher=str(kept)))
    history = pd.read_csv(base.folder("pretrain") / "history.csv")
    assert (history["distill"] > 0).all()
    assert (history["loss"] - history["decode"] - history["distill"]).abs().max() < 1e-5
    assert pretrained().vocabulary == NeuroFMX.from_pretrained(kept).vocabulary


def test_a_model_begins_from_a_kept_one_and_is_ahead(tmp_path, monkeypatch):
    project(tmp_path / "p", monkeypatch, 1)
    pretrain.run(pretrain.Params(dataset="made", model=MODEL, fit=FIT))
    first = json.loads((base.folder("pretrain") / "metrics.json").read_text())
    kept = base.folder("pretrain").rename(tmp_path / "kept")
    still = OptimizerParams(lr=1e-9, weight_decay=0.0)
    fit = FIT.model_copy(update={"epochs": 1, "optimizer": still})
    pretrain.run(pretrain.Params(dataset="made", model=MODEL, fit=fit, start=str(kept)))
    begun = json.loads((base.folder("pretrain") / "metrics.json").read_text())
    assert begun["valid_unexplained"] == pytest.approx(first["valid_unexplained"], rel=1e-3)


def test_a_start_that_training_only_spoils_is_what_is_kept(tmp_path, monkeypatch):
    project(tmp_path / "p", monkeypatch, 1)
    pretrain.run(pretrain.Params(dataset="made", model=MODEL, fit=FIT))
    kept = base.folder("pretrain").rename(tmp_path / "kept")
    spoilt = FIT.model_copy(update={"optimizer": OptimizerParams(lr=3.0, warmup=0.0)})
    pretrain.run(pretrain.Params(dataset="made", model=MODEL, fit=spoilt, start=str(kept)))
    history = pd.read_csv(base.folder("pretrain") / "history.csv")
    assert history["step"].iloc[0] == 0
    assert (history["valid"].iloc[1:] > history["valid"].iloc[0]).all()
    expected = load_file(kept / "model.safetensors")
    found = load_file(base.folder("pretrain") / "model.safetensors")
    assert all(torch.equal(x, expected[name]) for name, x in found.items())


def test_a_model_that_has_seen_what_is_kept_for_adapt_is_no_start(tmp_path, monkeypatch):
    project(tmp_path / "p", monkeypatch, 1)
    pretrain.run(pretrain.Params(dataset="made", model=MODEL, fit=FIT))
    seen = pretrained()
    seen.extend({"spikes": Known([("b", 0)], [])})
    seen.save_pretrained(tmp_path / "seen")
    params = pretrain.Params(dataset="made", model=MODEL, fit=FIT, start=str(tmp_path / "seen"))
    with pytest.raises(UserError, match="seen, which was trained on b; the card keeps that"):
        pretrain.run(params)


@pytest.mark.parametrize("key", ["recordings", "before"])
def test_recordings_that_share_channels_are_known_by_what_the_model_was_trained_on(
    tmp_path, monkeypatch, key
):
    project(tmp_path / "p", monkeypatch, 1)
    pretrain.run(pretrain.Params(dataset="made", model=MODEL, fit=FIT))
    kept = base.folder("pretrain").rename(tmp_path / "kept")
    made = json.loads((kept / pretrain.TRAINED).read_text())
    (kept / pretrain.TRAINED).write_text(json.dumps(made | {key: ["b"]}))
    with pytest.raises(UserError, match="kept, which was trained on b"):
        pretrain.run(pretrain.Params(dataset="made", model=MODEL, fit=FIT, start=str(kept)))


def test_data_sets_beside_are_trained_on_too(tmp_path, monkeypatch):
    project(tmp_path / "p", monkeypatch, 1)
    other = tmp_path / "other"
    kept = [recording(name, seed=7, units=5) for name in ("adapted-to", "tested")]
    spec = card(split=card().model_dump()["split"] | {"test_on": ["tested"]})
    shards(other, [recording("c", seed=7, units=5), *kept], spec)
    signed = {"dataset": "other", "adapt": ["adapted-to"]}
    (other / "manifest.json").write_text(json.dumps(signed))
    pretrain.run(pretrain.Params(dataset="made", model=MODEL, fit=FIT, beside=[str(other)]))
    assert {r for r, _ in pretrained().vocabulary["spikes"].keys} == {"a", "c"}
    assert base.read_manifest("pretrain")["recordings"] == ["a"]
    assert base.read_manifest("pretrain")["beside"] == {"c": "other"}


def test_each_of_several_data_sets_is_seen_as_often_as_it_would_be_alone(tmp_path):
    """Of one 10 epochs and of the other as many as `windows` lets it have, each step of one."""
    few, many = (
        shards(tmp_path / name, [recording(name, trials=n)]) for name, n in (("a", 40), ("b", 160))
    )
    pool = Pool([few, many])
    n = [len(part.positions("train")) for part in (few, many)]
    params = FitParams(epochs=10, windows=10 * n[0], batch_size=8)
    run = Fit(tiny_model(pool, ["a", "b"]), pool, ["a", "b"], params, 0, tmp_path)
    steps = [epoch[k] for e in range(run.plan.epochs) for epoch in [run.plan.epoch(e)]
             for k in range(len(epoch))]  # fmt: skip
    assert all(len({position < len(few) for position in step}) == 1 for step in steps)
    seen = [sum(len(s) for s in steps if (s[0] < len(few)) == own) for own in (True, False)]
    assert n[1] > 2 * n[0]
    assert seen == [pytest.approx(10 * n[0], rel=0.15)] * 2


def test_what_tells_data_sets_apart_needs_two_of_them_in_a_step(tmp_path, monkeypatch):
    project(tmp_path / "p", monkeypatch, 1)
    other = tmp_path / "other"
    shards(other, [recording("c", seed=7, units=5)], card())
    fit = FIT.model_copy(update={"objectives": {"decode": 1.0, "adversarial": 0.1}})
    given = {"dataset": "made", "model": MODEL, "beside": [str(other)], "domain": "dataset"}
    with pytest.raises(
        UserError, match=r"adversarial tells .* set pretrain\.fit\.loader\.sets_per_step to 2"
    ):
        pretrain.run(pretrain.Params(**given, fit=fit))
    fit = fit.model_copy(update={"loader": LoaderParams(sets_per_step=2)})
    pretrain.run(pretrain.Params(**given, fit=fit))
    assert pretrained().config.domains == ["made", "other"]
