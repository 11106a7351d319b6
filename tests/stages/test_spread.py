"""pretrain on two processes, as its command runs it: all phases, one model, one word of failure."""

import json

import pandas as pd
import pytest
import yaml
from sources import ROOT
from tokenized_project import FIT, MODEL, project

from neurofmx.config import load_params
from neurofmx.errors import UserError
from neurofmx.models import NeuroFMX
from neurofmx.stages import base, pretrain

PHASES = [
    {"name": "unimodal", "at_once": 1},
    {"name": "pairwise", "at_once": 2, "blend": 0.5, "objectives": {"crossing": 0.1}},
    {"name": "multimodal", "objectives": {"crossing": 0.1}},
]


def prepare(folder, monkeypatch, engine, **fit):
    """A project whose params.yaml asks for two processes of an engine."""
    project(folder, monkeypatch, 1)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given = FIT.model_dump(mode="json") | {"engine": engine, "epochs": 3, "phases": PHASES}
    given |= {"launch": {"processes": 2}, "valid_every": 3} | fit
    content = {"dataset": "made", "seed": 0}
    content["pretrain"] = {"model": MODEL.model_dump(mode="json"), "fit": given, "track": []}
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    return load_params("pretrain", pretrain.Params)


@pytest.mark.parametrize("engine", ["deepspeed", "ddp"])
def test_two_processes_go_through_all_phases_and_leave_one_model(tmp_path, monkeypatch, engine):
    if engine == "deepspeed":
        pytest.importorskip("deepspeed")
    pretrain.run(prepare(tmp_path / "p", monkeypatch, engine))
    folder = base.folder("pretrain")
    history = pd.read_csv(folder / "history.csv")
    assert list(history["phase"].unique()) == ["unimodal", "pairwise", "multimodal"]
    assert history["loss"].notna().all()
    facts = json.loads((folder / "run.json").read_text())
    assert (facts["engine"], facts["ranks"]) == (engine, 2)
    weights = base.read_manifest("pretrain")["outputs"]
    assert weights["model.safetensors"] == base.file_digest(folder / "model.safetensors")
    assert NeuroFMX.from_pretrained(folder).vocabulary["spikes"].keys[0] == ("a", 0)


def test_what_a_rank_refuses_is_what_the_command_says(tmp_path, monkeypatch):
    params = prepare(tmp_path / "p", monkeypatch, "ddp", objectives={"codes": 1.0})
    with pytest.raises(UserError, match=r"the objective codes needs model\.codes"):
        pretrain.run(params)
    assert not (base.folder("pretrain") / "manifest.json").exists()
