"""One contract over every row of `BASELINES` that applies to a small problem."""

import json
from dataclasses import replace

import numpy as np
import pytest
from posed import classes, posed
from windows import card, recording

from neurofmx.evaluation import BASELINES, BaselineParams
from neurofmx.evaluation.baselines.base import NetworkParams

BRIEF = BaselineParams(
    smoothing=(0.0,),
    lags=(1, 3),
    kalman_spans=(1, 3),
    components=(5,),
    tree_lags=(3,),
    trees=25,
    harmonics=(1,),
    subbands=(1,),
    networks=NetworkParams(steps=2, search=0.5, looks=1, sizes=((8, 0.2),)),
)


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("contract"), recording()
    rng = np.random.default_rng(0)
    flicker = classes(folder, rng.normal(size=(24, 256, 3)), ["rest", "10Hz", "15Hz"] * 8, 128.0)
    named = {task: posed(folder, made, card(), task) for task in ("velocity", "cue")}
    return [*named.values(), flicker]


def test_every_row_applies_to_a_problem_or_says_why_not(problems):
    for baseline in BASELINES.values():
        asked = [p for p in problems if p.kind in baseline.kinds]
        assert all(why is None or len(why) > 10 for why in map(baseline.needs, asked))
        assert None in map(baseline.needs, asked)


@pytest.mark.parametrize("name", BASELINES)
def test_baseline(name, problems):
    baseline = BASELINES[name]
    problem = next(p for p in problems if p.kind in baseline.kinds and baseline.needs(p) is None)
    found = baseline.fit(problem, BRIEF)
    truth = problem.queries["test"].truth
    if problem.n_classes:
        assert found.values.shape == (len(truth), problem.n_classes)
        np.testing.assert_allclose(found.values.sum(axis=1), 1.0, atol=1e-6)
        assert (found.values >= 0).all()
    else:
        assert found.values.shape == truth.shape
    assert np.isfinite(found.values).all()
    assert found.parameters > 0
    assert json.loads(json.dumps(found.settings)) == found.settings

    other = truth[np.random.default_rng(1).permutation(len(truth))]
    moved = problem.queries | {"test": replace(problem.queries["test"], truth=other)}
    again = baseline.fit(replace(problem, queries=moved), BRIEF)
    np.testing.assert_array_equal(again.values, found.values)  # nor does chance play a part
