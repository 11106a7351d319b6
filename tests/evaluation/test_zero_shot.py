"""Zero shot: scored as it is, on recordings that the model has never seen, and nothing else."""

import pytest
from stored import LEFT_OUT, make_storage

from neurofmx.errors import UserError
from neurofmx.evaluation.tasks import EvaluationTask, TaskRegistry
from neurofmx.evaluation.zero_shot import ZeroShotEvaluator
from neurofmx.models import NeuroFMX


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
