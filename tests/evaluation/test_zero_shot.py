"""Zero shot: scored as it is, on recordings that the model has never seen, and nothing else."""

import pytest
from sklearn.metrics import r2_score
from stored import LEFT_OUT, make_storage
from windows import card, recording, shards, tiny_model

from neurofmx.data.augment import AugmentParams
from neurofmx.data.loader import LoaderParams
from neurofmx.errors import UserError
from neurofmx.evaluation.tasks import EvaluationTask, TaskRegistry
from neurofmx.evaluation.zero_shot import ZeroShotEvaluator
from neurofmx.models import NeuroFMX
from neurofmx.training.fit import Fit
from neurofmx.training.inference import answers
from neurofmx.training.optim import OptimizerParams
from neurofmx.training.recipe import FitParams


def task(target, **changes):
    content = {"title": "made", "dataset": "made", "target": target, "species": ["Mus musculus"]}
    content |= {"task_type": "regression", "modality": ["spikes", "lfp"], "level": "recording"}
    return EvaluationTask.model_validate(content | changes)


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_storage(folder)
        yield ZeroShotEvaluator(NeuroFMX.from_pretrained("storage/pretrain"))


def test_only_what_was_never_seen_is_scored_as_it_is(evaluator):
    before = {name: x.clone() for name, x in evaluator.model.state_dict().items()}
    tasks = TaskRegistry({"v": task("velocity"), "c": task("cue", task_type="classification")})
    found = evaluator.evaluate(tasks)

    assert set(found["recording"]) == {LEFT_OUT}
    assert {"r2", "balanced_accuracy"} <= set(found["metric"])
    assert set(found["method"]) == {"zero_shot"}
    assert set(found["level"]) == {"recording"}
    after = evaluator.model.state_dict()
    assert all(before[name].equal(x) for name, x in after.items())


def test_why_nothing_can_be_scored_is_said_of_each_task(evaluator):
    tasks = TaskRegistry({"a": task("grip"), "b": task("velocity", dataset="elsewhere")})
    with pytest.raises(UserError, match=r"a: the model has no head for grip; it has cue, velocity"):
        evaluator.evaluate(tasks)


@pytest.mark.parametrize(("region", "least", "most"), [("label", 0.6, 1.0), (None, -9.0, 0.2)])
def test_electrodes_never_seen_are_known_by_their_place(tmp_path, region, least, most):
    """Planted: c's units are tuned as a's of the same label, and training never saw c."""
    spikes = {"path": "units", "modality": "spikes", "region": region}
    signals = card().model_dump()["signals"]
    signals = {n: signals[n] for n in ("hand", "trials")} | {"spikes": spikes}
    spec = card(signals=signals, tasks={"velocity": card().tasks["velocity"]})
    made = shards(tmp_path / "shards", [recording("a"), recording("c")], spec)
    fit = Fit(
        tiny_model(made, ["a"]),
        made,
        ["a"],
        FitParams(
            epochs=40,
            optimizer=OptimizerParams(lr=1e-2),
            objectives={"decode": 1.0},
            loader=LoaderParams(augment=AugmentParams(anonymous=0.3)),
        ),
        0,
        tmp_path / "fit",
    )
    fit.folder.mkdir()
    fit.run("made")
    told = answers(fit.model, made, made.positions("test", ["c"]))["velocity"]
    assert least < r2_score(told.truth, told.prediction) < most
