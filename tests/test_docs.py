"""The Python in the documents runs, block after block, in a project like theirs."""

import re
from pathlib import Path

import pytest
import torch
from sources import ROOT
from windows import card, recording, shards, tiny_model

from neurofmx.training.fit import Fit
from neurofmx.training.recipe import FitParams


def blocks(document: str) -> list[str]:
    """Python between fences, each with the lines before it left empty: errors name the line."""
    text = (ROOT / "docs" / document).read_text()
    found = re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return ["\n" * text[: block.start(1)].count("\n") + block[1] for block in found]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Windows of two recordings, and a small causal model with a prior that has seen them."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "storage").mkdir()
    tasks = {
        "hand_velocity": {"kind": "regression", "signal": "hand"},
        "cue": {"kind": "classification", "signal": "trials", "column": "cue"},
    }
    recordings = [recording("a"), recording("b", seed=1)]
    made = shards(folder / "storage" / "tokenize", recordings, card(tasks=tasks))
    prior = {"condition": "cue", "width": 16, "n_layers": 1, "n_heads": 2}
    model = tiny_model(made, ["a", "b"], causal=True, prior=prior)
    params = FitParams(epochs=1, objectives={"decode": 1.0, "diffusion": 1.0})
    (folder / "fit").mkdir()
    Fit(model, made, ["a", "b"], params, 0, folder / "fit").run("test")
    model.save_pretrained(folder / "storage" / "pretrain")
    return folder


@pytest.mark.parametrize("document", ["model.md", "tokens-and-loader.md"])
def test_the_python_in_a_document_runs(document, project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    found, names = blocks(document), {}
    assert found
    with torch.random.fork_rng():
        for block in found:
            exec(compile(block, document, "exec"), names)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    text = (ROOT / "docs" / document).read_text()
    assert [row for row in rows if row not in text] == []  # the table is what the code prints
    assert bool(rows) == ("<!-- sizes -->" in text)
