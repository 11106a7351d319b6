"""The model of size `small` learns a planted recording by heart; how fast is measured elsewhere."""

import importlib

import pandas as pd
import pytest
import torch
from sources import ROOT


@pytest.fixture(scope="module")
def bench():
    """The benchmark; it is no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("model_planted")


def test_the_small_model_overfits_a_planted_recording(bench, tmp_path):
    shards = bench.windows(tmp_path, 26, tokens=10)
    model = bench.model_of(shards, "small", seed=0)
    assert model.num_parameters() > 15e6
    assert bench.r2(model, shards, "train") < 0.1
    bench.learn(model, shards, tmp_path / "fit", epochs=18, seed=0)
    assert bench.r2(model, shards, "train") > 0.95
    assert bench.r2(model, shards, "train", chance=True) < 0.1


def test_a_quick_run_writes_every_figure_with_its_gate(bench, tmp_path):
    measuring, runs = importlib.import_module("measuring"), importlib.import_module("runs")
    section, threads = measuring.Section("planted", 0.0), torch.get_num_threads()
    bench.measure_planted(section, runs.Run(tmp_path, quick=True))
    torch.set_num_threads(threads)
    section.write(tmp_path / "results")
    found = pd.read_csv(tmp_path / "results" / "results.csv", keep_default_na=False)
    assert list(found["gate"]) == ["> 0.95", "", "", "", "< 60 s"]
    assert str(found["met"][0]) == "False"  # one epoch of the smallest is not enough
