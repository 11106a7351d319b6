"""online: what is learnt of the new, and what is kept of the old."""

import json

import pandas as pd
import pytest
import torch
from tokenized_project import FIT, MODEL, project

from neurofmx.models import NeuroFMX
from neurofmx.stages import adapt, base, online, pretrain
from neurofmx.training.online import WAYS, Anchor, OnlineParams
from neurofmx.training.optim import OptimizerParams

STREAM = OnlineParams(
    chunk=10.0,
    passes=4,
    batch_size=16,
    fisher=16,
    optimizer=OptimizerParams(lr=5e-3, schedule="constant", warmup=0.0),
)


@pytest.fixture(scope="module")
def came(tmp_path_factory):
    """A project in which recording b has come as a stream to a model that had learnt a."""
    with pytest.MonkeyPatch.context() as patch:
        project(tmp_path_factory.mktemp("online") / "p", patch, 1)
        fit = FIT.model_copy(update={"epochs": 60, "valid_every": 100})
        fit = fit.model_copy(update={"optimizer": OptimizerParams(lr=1e-2)})
        pretrain.run(pretrain.Params(dataset="made", model=MODEL, fit=fit))
        adapt.run(adapt.Params(dataset="made", fit=FIT))
        online.run(online.Params(dataset="made", stream=STREAM))
        folder = base.folder("online").resolve()
        yield {
            "table": pd.read_csv(folder / "forgetting.csv"),
            "ways": json.loads((folder / "metrics.json").read_text())["ways"],
            "model": NeuroFMX.from_pretrained(folder / "b"),
        }


def test_the_new_is_learnt_and_old_windows_hold_on_to_the_old(came):
    ways = came["ways"]
    assert set(ways) == set(WAYS)
    assert all(way["gained"] > 0.1 for way in ways.values())
    assert ways["plain"]["forgotten"] > 0.02
    for way in ("replay", "replay_ewc"):
        assert ways[way]["forgotten"] < 0.6 * ways["plain"]["forgotten"]


def test_weights_that_mattered_are_pulled_back_and_others_are_free():
    now = torch.tensor([1.0, 2.0, 5.0], requires_grad=True)
    anchor = Anchor([now], [torch.tensor([0.0, 2.0, 0.0])], [torch.tensor([2.0, 3.0, 0.0])])
    distance = anchor.distance()
    distance.backward()
    assert distance.item() == 2.0
    assert now.grad.tolist() == [4.0, 0.0, 0.0]


def test_a_chunk_is_told_before_it_is_learnt_from(came):
    """So what was told of the first is the same in every way, and later ones are told better."""
    told = came["table"].pivot(index="chunk", columns="way", values="told")
    assert told.loc[1].nunique() == 1
    assert told["plain"].iloc[-1] < told["plain"].loc[1]
    assert told.loc[0].isna().all()


def test_all_begin_alike_and_the_model_that_is_kept_knows_both(came):
    first = came["table"].query("chunk == 0")
    assert first["old"].nunique() == first["new"].nunique() == 1
    assert {r for r, _ in came["model"].vocabulary["spikes"].keys} == {"a", "b"}
