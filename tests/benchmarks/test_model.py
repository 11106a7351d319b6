"""The benchmark of the model runs, writes what it says, and counts what is computed.

Its figures are not judged here.
"""

import importlib
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch
from sources import ROOT
from torch.utils.flop_counter import FlopCounterMode

pytest.importorskip("mambapy", reason="the peers are in the extra `bench`")


def test_a_quick_run_writes_every_figure_with_the_machine_and_the_gates(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "model.py"), "train", "--quick"]
    environment = os.environ | {"CXX": "absent"}  # compiling takes a minute
    subprocess.run([*command, "--results", str(tmp_path)], check=True, env=environment)
    results = pd.read_csv(tmp_path / "results.csv", keep_default_na=False)
    inputs = pd.read_json(tmp_path / "machine.json")["train"]["inputs"]

    tokens = results[results["figure"] == "tokens, 128"]
    assert set(tokens["method"]) == {
        *(f"neurofmx, {kind}" for kind in ("float32", "bfloat16")),
        *(f"Transformer, {kind}" for kind in ("float32", "bfloat16")),
        *(
            f"transformers Mamba2 chunk {n}, {k}"
            for n in (64, 256)
            for k in ("float32", "bfloat16")
        ),
        "mambapy, float32",
    }
    gates = set(results[results["gate"] != ""]["figure"])
    assert "128: transformers Mamba2 chunk 64, bfloat16 / neurofmx, bfloat16" in gates
    assert {"time ~ length to the power", "memory ~ length to the power"} <= gates
    assert inputs["threads"] == torch.get_num_threads()


@pytest.fixture(scope="module")
def benchmark():
    """The benchmark's modules; they are no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        patch.setenv("CXX", "absent")
        names = ("models", "model_train", "model_stream", "measuring", "runs")
        yield {name: importlib.import_module(name) for name in names}


def test_the_section_of_an_accelerator_runs_on_any_device(benchmark, tmp_path):
    section = benchmark["measuring"].Section("train", 0.0)
    run = benchmark["runs"].Run(tmp_path, True)
    benchmark["model_train"].measure_cuda(section, run, device="cpu")
    rows = pd.DataFrame(section.rows, columns=benchmark["measuring"].COLUMNS)

    ours = rows[rows["method"] == "neurofmx, bfloat16"]
    figures = {"tokens, base, 128", "limit by bytes, medium, 128", "forward of a window, p99"}
    assert figures <= set(ours["figure"])
    assert (rows["value"] > 0).all()


def test_so_does_that_of_the_whole_model(benchmark, tmp_path):
    section = benchmark["measuring"].Section("batch", 0.0)
    run = benchmark["runs"].Run(tmp_path, True)
    benchmark["model_stream"].measure_cuda(section, run, device="cpu")
    rows = pd.DataFrame(section.rows, columns=benchmark["measuring"].COLUMNS)

    assert set(rows[rows["gate"] != ""]["figure"]) == {"a window, p99, tiny", "batches of 64, tiny"}
    assert (rows["value"] > 0).all()


def test_operations_are_those_that_torch_counts(benchmark):
    sizes = benchmark["models"].Sizes(128, 2)
    x = torch.randn(2, 256, 128)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        benchmark["models"].neurofmx(sizes)(x)
    assert counted.get_total_flops() == 2 * 256 * sizes.forward_operations()


def test_the_transformer_has_as_many_parameters(benchmark):
    models = benchmark["models"]
    sizes = models.Sizes(256, 4)
    ours, theirs = (
        sum(p.numel() for p in make(sizes).parameters())
        for make in (models.neurofmx, models.transformer)
    )
    assert theirs == pytest.approx(ours, rel=0.01)


def test_a_power_is_found(benchmark):
    found = benchmark["model_train"].slope({10: 3.0, 100: 3e4, 1000: 3e8})
    assert found == pytest.approx(4)
