"""The benchmark of training runs and writes what it says. Its figures are not judged here."""

import importlib
import subprocess
import sys

import pandas as pd
import pytest
from sources import ROOT

pytest.importorskip("deepspeed")


def test_a_quick_run_writes_every_figure_with_its_gate(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "training.py"), "--quick"]
    subprocess.run([*command, "--results", str(tmp_path)], check=True)
    results = pd.read_csv(tmp_path / "results.csv", keep_default_na=False)
    parts = {f.removeprefix("share of a step: ") for f in results["figure"] if "share" in f}
    assert parts == {"data", "prepare", "forward", "backward", "optimiser", "communication"}
    shares = results[results["figure"].str.startswith("share")]["value"].astype(float)
    assert 0.5 < shares.sum() <= 1.05  # communication lies inside the others
    gates = set(results[results["gate"] != ""]["figure"])
    assert gates == {"share of a step: data", "neurofmx / bare loop"}
    engines = results[results["section"] == "engines"]
    assert len(engines) == 6
    assert (engines["value"].astype(float) > 0).all()


def test_the_section_of_an_accelerator_runs_on_any_device(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        training, measuring = map(importlib.import_module, ("training", "measuring"))
        section = measuring.Section("train", 0.0)
        training.measure_cuda(section, importlib.import_module("runs").Run(tmp_path, True), "cpu")
    rows = pd.DataFrame(section.rows, columns=measuring.COLUMNS)
    assert set(rows["figure"]) == {"windows, tiny", "MFU, tiny"}
    assert (rows["value"] > 0).all()
