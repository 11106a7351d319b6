"""A planted heading and a planted order of labels, from the card to the table of results."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from windows import RATE, card, shards, tiny_model

from neurofmx.data.windows import SPLITS
from neurofmx.evaluation import BASELINES, BaselineParams, Prediction, Problem
from neurofmx.evaluation.probe import probe
from neurofmx.evaluation.queries import read_queries
from neurofmx.evaluation.table import Scored, figures, picture, scores
from neurofmx.training.fit import Fit
from neurofmx.training.inference import answers
from neurofmx.training.optim import OptimizerParams
from neurofmx.training.recipe import FitParams
from neurofmx.types import AlignedRecording, Events, Intervals, Samples

TRIALS, STEPS = 120, 60  # samples from one trial to the next
LEVELS = ["low", "middle", "high"]
CARD = card(
    signals={
        "spikes": {"path": "units", "modality": "spikes"},
        "head": {"path": "head", "modality": "behavior", "method": "nearest"},
        "trials": {"path": "trials", "modality": "trials"},
    },
    tasks={
        "heading": {"kind": "circular", "signal": "head", "unit": "degrees"},
        "level": {"kind": "ordinal", "signal": "trials", "column": "level", "classes": LEVELS},
    },
)


def planted(shuffled: bool = False) -> AlignedRecording:
    """Head direction cells that turn with the head, and cells that fire more at a higher level.

    Args:
        shuffled: Heading and level of each trial are those of another trial.
    """
    rng = np.random.default_rng(0)
    turn = np.repeat(rng.normal(size=TRIALS * 5), STEPS // 5)
    heading, level = np.cumsum(turn) * 3.0 / RATE, rng.integers(0, 3, TRIALS)
    preferred = np.arange(12) * 2 * np.pi / 12
    rate = [40 * np.exp(2 * np.cos(heading[:, None] - preferred) - 2)]
    rate += [np.repeat(10.0 + 20 * level, STEPS)[:, None] * np.ones(4)]
    counts = rng.poisson(np.hstack(rate) / RATE)
    bins, index = (np.repeat(x, counts.ravel()) for x in np.indices(counts.shape).reshape(2, -1))
    at = (bins + rng.uniform(size=len(bins))) / RATE
    order, trial = np.argsort(at), rng.permutation(TRIALS) if shuffled else np.arange(TRIALS)
    degrees = np.rad2deg(heading).reshape(TRIALS, STEPS)[trial].reshape(-1, 1) % 360
    table = pd.DataFrame({"level": np.array(LEVELS)[level[trial]]})
    start = np.arange(TRIALS) * STEPS / RATE
    signals = {
        "spikes": Events(at[order], index[order], pd.DataFrame({"id": np.arange(16)})),
        "head": Samples(degrees, "unknown", RATE),
        "trials": Intervals(start, start + 1.0, table),
    }
    return AlignedRecording("made-1", "made", "Mus musculus", "made", signals)


def examined(folder, shuffled=False, epochs=12) -> dict[str, tuple[Problem, list[Scored]]]:
    """By task what a briefly trained model, the untrained one and simple methods answer."""
    torch.set_num_threads(1)
    aligned = planted(shuffled)
    made = shards(folder / "shards", [aligned], CARD)
    model = tiny_model(made, [aligned.id], 0)
    positions = {split: made.positions(split, [aligned.id]).tolist() for split in SPLITS}
    before = {split: answers(model, made, positions[split]) for split in SPLITS}
    params = FitParams(
        epochs=epochs, batch_size=8, valid_every=30, optimizer=OptimizerParams(lr=1e-2)
    )
    Fit(model, made, [aligned.id], params, 0, folder).run("test")
    after, found = answers(model, made, positions["test"]), {}
    for task in CARD.tasks:
        queries = {split: read_queries(made, task, positions[split]) for split in SPLITS}
        problem = Problem(aligned, CARD, task, made, positions, queries)
        features = {split: before[split][task].features for split in SPLITS}
        scored = {
            "neurofmx": Prediction(after[task].prediction, 0, spread=after[task].spread),
            "untrained": probe(features, problem, BaselineParams()),
        }
        for name in ("ridge", "logistic", "mean"):
            if problem.kind in BASELINES[name].kinds:
                scored[name] = BASELINES[name].fit(problem, BaselineParams())
        np.testing.assert_allclose(after[task].truth, queries["test"].truth, atol=1e-6)
        found[task] = (problem, [Scored(name, answer, 0.0) for name, answer in scored.items()])
    return found


def values(examined, task) -> dict[str, dict[str, float]]:
    """Of each method, each main figure."""
    problem, scored = examined[task]
    rows = {s.method: figures(scores(problem, s, "trial", 5.0), 100, 0) for s in scored}
    return {method: {r["metric"]: r["value"] for r in found} for method, found in rows.items()}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return examined(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def blind(tmp_path_factory):
    return examined(tmp_path_factory.mktemp("shuffled"), shuffled=True, epochs=4)


def test_a_planted_heading_is_decoded(found):
    error = {name: figure["circular_error"] for name, figure in values(found, "heading").items()}
    assert error["neurofmx"] < 30
    assert error["ridge"] < 30
    assert error["untrained"] < 60
    assert 60 < error["mean"] < 120


def test_a_planted_order_is_decoded(found):
    score = {n: figure["balanced_accuracy"] for n, figure in values(found, "level").items()}
    assert score["neurofmx"] > 0.55
    assert score["logistic"] > 0.9
    assert score["mean"] == pytest.approx(1 / 3)


def test_a_shuffled_heading_and_order_are_left_at_chance(blind):
    error = {name: figure["circular_error"] for name, figure in values(blind, "heading").items()}
    score = {n: figure["balanced_accuracy"] for n, figure in values(blind, "level").items()}
    assert all(65 < error[name] < 115 for name in ("neurofmx", "ridge", "untrained"))
    assert all(0.1 < score[name] < 0.6 for name in ("neurofmx", "logistic", "untrained"))


def test_the_model_tells_how_sure_it_is_of_a_heading(found, blind):
    (problem, (ours, *_)), (_, (unsure, *_)) = found["heading"], blind["heading"]
    table = picture(problem, [ours])
    assert ours.prediction.spread.mean() < 0.7 < unsure.prediction.spread.mean()  # rad
    np.testing.assert_array_equal(table["deviation"], ours.prediction.spread[:, 0])
    assert table["neurofmx"].between(-math.pi, math.pi).all()
