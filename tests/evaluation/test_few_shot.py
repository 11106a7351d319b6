"""Curves over shots: nested, never beyond the K shots, and the same when they go on."""

import numpy as np
import pandas as pd
import pytest
import torch
from stored import LEFT_OUT, PRETRAINED, make_storage
from windows import card as made_card
from windows import recording

from neurofmx.config import build
from neurofmx.data.cards import load_card
from neurofmx.data.pool import Chosen
from neurofmx.data.shards import Shards
from neurofmx.errors import UserError
from neurofmx.evaluation import curves as kept
from neurofmx.evaluation.few_shot import COLUMNS, FewShotEvaluator, FewShotParams
from neurofmx.models import NeuroFMX, vocabulary_of
from neurofmx.models.adapters import adapt
from neurofmx.training.optim import OptimizerParams
from neurofmx.training.recipe import FitParams

TWIN = "made-3"
SIGNALS = made_card().model_dump(mode="json")["signals"]
PARAMS = FewShotParams(
    shots=(2, 12),
    draws=2,
    seeds=1,
    methods=("ridge", "logistic", "scratch", "unit_id"),
    fit=FitParams(epochs=2, batch_size=8),
    whole=FitParams(epochs=2, batch_size=8),
)


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory):
    """Of a storage whose `made-2` was never trained on. Not to be written to."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_storage(folder)
        model = NeuroFMX.from_pretrained("storage/pretrain")
        yield FewShotEvaluator(model, load_card("made"), params=PARAMS)


@pytest.fixture(scope="module")
def curves(evaluator):
    return evaluator.evaluate([LEFT_OUT])


def test_each_method_draw_and_number_of_shots_has_a_row(curves):
    assert list(curves) == list(COLUMNS)
    found = curves.groupby(["task", "method", "shots"]).size()
    assert set(curves["shots"]) == {0, 2, 12}
    assert found["velocity", "ridge", 2] == 2
    assert found["velocity", "unit_id", 12] == 2
    assert found["cue", "logistic", 12] == 2
    assert found["cue", "zero_shot", 0] == 1
    assert ("cue", "ridge") not in {key[:2] for key in found.index}
    assert curves["value"].notna().all()


def test_more_shots_decode_better(curves):
    ridge = curves[curves["method"] == "ridge"].groupby("shots")["value"].mean()
    assert ridge[12] > ridge[2]
    assert ridge[12] > 0.5


def test_smaller_sets_are_parts_of_larger_ones_and_nobody_sees_more(evaluator):
    target = evaluator.target(LEFT_OUT)
    whole = set(evaluator.shards.positions("train", [LEFT_OUT]).tolist())
    for draw in range(3):
        few, more = (
            {w for part in target.drawn(["velocity"], k, 0, draw) for w in part} for k in (2, 12)
        )
        assert few < more < whole
    one, other = (target.drawn(["velocity"], 2, 0, draw) for draw in (0, 1))
    assert one != other


def test_of_classes_as_many_of_each_are_drawn(evaluator):
    target = evaluator.target(LEFT_OUT)
    train, valid = target.drawn(["cue"], 3, 0, 0)
    shots = [k for k, shot in enumerate(target.shots) if set(shot) & {*train, *valid}]
    assert sorted(np.bincount([target.labels["cue"][k] for k in shots])) == [3, 3]


def test_what_was_computed_is_not_computed_again(evaluator, curves, monkeypatch):
    told = []
    monkeypatch.setattr(evaluator, "_answers", None)  # calling it would fail
    again = evaluator.evaluate([LEFT_OUT], done=curves, tell=told.append)
    pd.testing.assert_frame_equal(again, curves)
    assert not told


def test_a_recording_that_was_trained_on_is_refused(evaluator):
    with pytest.raises(UserError, match=f"the model was trained on '{PRETRAINED}'"):
        evaluator.evaluate([PRETRAINED])


@pytest.fixture
def twins(tmp_path, monkeypatch):
    """Storage with two recordings, equal but for their names, of which neither was trained on.

    A function of settings makes the evaluator.
    """
    monkeypatch.chdir(tmp_path)
    same = {name: SIGNALS[name] | {"same": "^made"} for name in ("spikes", "lfp")}
    twin = recording(TWIN, seed=1)
    make_storage(tmp_path, more=[twin], adapt=[LEFT_OUT, TWIN], signals=SIGNALS | same)
    model = NeuroFMX.from_pretrained("storage/pretrain")
    params = PARAMS.model_copy(update={"shots": (12,)})
    return lambda card=None, **settings: FewShotEvaluator(
        model, card or load_card("made"), params=params.model_copy(update=settings)
    )


def test_shots_of_one_recording_serve_another_of_the_same_channels(twins):
    own, other = (
        twins(test_on=test_on).evaluate([LEFT_OUT]).set_index(["task", "method", "draw"])["value"]
        for test_on in ((), (TWIN,))
    )
    assert len(own) == len(other)
    np.testing.assert_allclose(own, other, atol=2e-3)  # pooled, samples move by half of one at most
    assert other["velocity", "ridge", 0] > 0.5
    assert set(twins(test_on=("made-[!1]",)).target(LEFT_OUT).test) == set(
        Shards("storage/tokenize").positions("test", [TWIN]).tolist()
    )


def test_what_cannot_be_tested_in_its_place_is_named(twins):
    with pytest.raises(UserError, match=r"no other recording is like made-2, x\*"):
        twins(test_on=(LEFT_OUT, "x*")).target(LEFT_OUT)
    card = load_card("made")
    with pytest.raises(UserError, match=r"pretraining may see made-1; keep it out"):
        twins(test_on=(PRETRAINED,)).target(LEFT_OUT)
    apart = {n: s.model_copy(update={"same": None}) for n, s in card.signals.items()}
    with pytest.raises(UserError, match=r"nothing says that made-3 has the same channels"):
        twins(card.model_copy(update={"signals": apart}), test_on=(TWIN,)).target(LEFT_OUT)


def test_an_unknown_method_lists_the_known_ones():
    with pytest.raises(UserError, match=r"unknown magic; choose from scratch, unit_id, lora"):
        build(FewShotParams, {"methods": ["magic"]}, "few_shot")


def test_an_adapter_that_gets_worse_is_as_it_began(evaluator):
    fit = FitParams(epochs=2, batch_size=8, optimizer=OptimizerParams(lr=10.0))
    ruins = PARAMS.model_copy(update={"fit": fit})
    spoilt = FewShotEvaluator(evaluator.model, evaluator.card, params=ruins)
    target = spoilt.target(LEFT_OUT)
    model = spoilt._trained(target, "unit_id", *target.drawn(target.tasks, 12, 0, 0), 0)
    begun = adapt(evaluator.model, vocabulary_of(spoilt.shards, [LEFT_OUT]), "unit_id", 0)
    for name, weights in begun.named_parameters():
        assert torch.equal(weights, model.get_parameter(name)), name


def test_only_chosen_windows_are_trained_on(evaluator):
    shards = Shards("storage/tokenize")
    some = shards.positions("train", [LEFT_OUT])[3:6]
    chosen = Chosen(shards, {"train": some.tolist()})

    assert chosen.positions("train").tolist() == some.tolist()
    assert chosen.positions("train", [PRETRAINED]).tolist() == []
    assert chosen.positions("valid").tolist() == shards.positions("valid").tolist()
    assert chosen.index_hash != Chosen(shards, {"train": some[:2].tolist()}).index_hash


def test_curves_go_on_from_the_rows_that_are_there(evaluator, curves, tmp_path, monkeypatch):
    half = curves.iloc[: len(curves) // 2]
    half.to_csv(tmp_path / "curves.csv", index=False)
    asked = []
    answer = evaluator._answers
    monkeypatch.setattr(evaluator, "_answers", lambda *job: asked.append(job) or answer(*job))

    found = kept.curves(evaluator, [LEFT_OUT], tmp_path)

    assert len(found) == len(curves)
    np.testing.assert_allclose(found["value"], curves["value"], rtol=1e-5)
    assert 0 < len(asked) < len(list(evaluator.jobs(evaluator.target(LEFT_OUT))))
    assert "labelled shots" in (tmp_path / "curves.html").read_text()
    names = {trace.name for trace in kept.picture(found).data}
    assert names == {"ridge", "logistic", "scratch", "unit_id", "zero_shot"}
    shown = [trace.name for trace in kept.picture(found).data if trace.showlegend]
    assert sorted(shown) == sorted(names)  # each once


def test_what_is_far_worse_than_the_mean_does_not_hide_the_others():
    about = {"task": "place", "recording": "a", "metric": "r2"}
    told = [("zero_shot", 0, -2.6), ("unit_id", 1, 0.8), ("unit_id", 3, 0.9)]
    table = pd.DataFrame([about | {"method": m, "shots": k, "value": x} for m, k, x in told])
    figure = kept.picture(table)
    assert figure.layout.yaxis.range == (kept.FLOOR, 1.0)
    assert "zero_shot at 0 shots: -2.60" in figure.layout.annotations[-1].text
    assert kept.picture(table[table["method"] == "unit_id"]).layout.yaxis.range is None
