"""A real recording through the stages, held to the figures that others reached on it."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from projects import pin

from neurofmx.stages import align, base, evaluate, ingest, pretrain, tokenize, validate
from neurofmx.training.recipe import FitParams


@pytest.fixture(scope="module")
def results(shared_data, tmp_path_factory):
    """Scores on m1_contdata95, last 30 % held out."""
    folder = tmp_path_factory.mktemp("m1")
    card = yaml.safe_load((Path(__file__).parents[1] / "datasets" / "m1.yaml").read_text())
    card["source"]["path"] = str(shared_data / "m1_contdata95")
    (folder / "datasets").mkdir()
    (folder / "datasets" / "m1.yaml").write_text(yaml.safe_dump(card))
    pin("m1", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in (ingest, validate, align, tokenize):
            stage.run(stage.Params(dataset="m1"))
        pretrain.run(pretrain.Params(dataset="m1", fit=FitParams(epochs=10)))
        base.write_manifest("adapt", "m1", {})
        evaluate.run(evaluate.Params(dataset="m1"))
        table = pd.read_csv(base.STORAGE / "evaluate" / "results.csv")
    decoded = table[table["task"] == "cursor_velocity"]
    return decoded.set_index(["method", "metric"])["value"]


def test_ridge_is_the_published_one(results):
    assert results["ridge", "r2[0]"] == pytest.approx(0.78, abs=0.02)
    assert results["ridge", "r2[1]"] == pytest.approx(0.71, abs=0.02)


def test_ours_is_well_above_it(results):
    assert results["neurofmx", "r2[0]"] >= 0.90
    assert results["neurofmx", "r2[1]"] >= 0.90


def test_controls_know_less(results):
    assert results["mean", "r2"] < 0.01
    assert results["shifted", "r2"] < 0.01
    assert results["untrained", "r2"] < 0.4  # its readout is fitted; ridge reaches 0.75
