"""What holds of every baseline that is a network, and of how all are trained."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from oscillating import oscillating, pose, shuffled, spec
from windows import card, recording

from neurofmx.errors import UserError
from neurofmx.evaluation import BASELINES, METRICS, BaselineParams, Prediction
from neurofmx.evaluation.baselines import NETWORKS, SLOW, chosen, networks
from neurofmx.evaluation.baselines.base import NetworkParams
from neurofmx.evaluation.baselines.events import Decoder, Spikes
from neurofmx.evaluation.baselines.recurrent import GRU
from neurofmx.evaluation.baselines.sequences import no_counts, sequences
from neurofmx.evaluation.baselines.supervised import Supervised

BRIEF = BaselineParams(networks=NetworkParams(steps=2, search=0.5, looks=1, sizes=((8, 0.2),)))
SHORT = NetworkParams(steps=60, search=0.3, looks=3, sizes=((32, 0.2),), batch_size=16, lr=1e-2)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Spikes and LFP in trials, asked for the hand and for the cue."""
    folder, spec = tmp_path_factory.mktemp("made"), card()
    return {task: pose(folder / task, recording(), spec, task) for task in spec.tasks}


@pytest.fixture(scope="module")
def turning(tmp_path_factory):
    return pose(
        tmp_path_factory.mktemp("turning") / "shards", oscillating(n=2000)[0], spec(), "velocity"
    )


def score(asked, prediction, metric="r2"):
    return METRICS[metric].score(asked.queries["test"].truth, prediction.values)


@pytest.mark.parametrize("task", ["velocity", "cue"])
@pytest.mark.parametrize("name", NETWORKS)
def test_equal_seeds_give_equal_bits_whatever_the_truth_of_test(name, task, made):
    asked = made[task]
    if BASELINES[name].needs(asked):
        pytest.skip("it needs counts")
    found = BASELINES[name].fit(asked, BRIEF)
    again = BASELINES[name].fit(shuffled(asked, "test"), BRIEF)

    np.testing.assert_array_equal(found.values, again.values)
    assert found.settings == again.settings
    assert len(found.values) == len(asked.queries["test"])
    assert np.isfinite(found.values).all()
    assert found.parameters > 100
    if task == "cue":
        np.testing.assert_allclose(found.values.sum(axis=1), 1, atol=1e-6)


def test_another_seed_is_another_network(made):
    params = BRIEF.networks.model_copy(update={"seed": 1})
    other = BRIEF.model_copy(update={"networks": params})
    values = [BASELINES["gru"].fit(made["velocity"], p).values for p in (BRIEF, other)]
    assert not np.allclose(*values)


@pytest.mark.parametrize("name", ["gru", "cebra"])
def test_a_fit_leaves_the_draws_of_others_alone(name, made):
    before, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    BASELINES[name].fit(made["cue"], BRIEF)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002


def test_gru_reads_a_dynamical_system_as_well_as_ridge(turning):
    ridge = BASELINES["ridge"].fit(turning, BaselineParams())
    found = BASELINES["gru"].fit(turning, BaselineParams(networks=SHORT))
    assert (score(turning, found) > np.maximum(0.6, score(turning, ridge) - 0.05)).all()


@pytest.mark.parametrize("name", ["gru", "cebra"])
def test_shuffled_answers_teach_nothing(name, turning):
    params = BaselineParams(networks=SHORT.model_copy(update={"steps": 20}))
    found = BASELINES[name].fit(shuffled(turning, "train", "valid"), params)
    assert (score(turning, found) < 0.1).all()


@pytest.fixture(scope="module")
def cue(tmp_path_factory):
    """The cue sets whether the hand begins to the left: the order of spikes tells, not number."""
    made, signals = recording(trials=80), card().model_dump(mode="json")["signals"]
    kept = {name: signal for name, signal in made.signals.items() if name != "lfp"}
    asked = card(signals={name: signals[name] for name in kept})
    return pose(
        tmp_path_factory.mktemp("cue") / "shards", replace(made, signals=kept), asked, "cue"
    )


def test_gru_tells_two_cues_apart_by_the_order_of_spikes(cue):
    few = SHORT.model_copy(update={"steps": 50, "search": 0.1, "looks": 1})
    assert score(cue, BASELINES["gru"].fit(cue, BaselineParams(networks=few)), "accuracy") >= 0.8


def test_poyo_tells_two_cues_apart_by_the_order_of_spikes(cue):
    given = SHORT.model_copy(update={"steps": 30})
    data = sequences(cue, given.rate)
    spikes = Spikes(cue, data, networks.chunk_length(data, given))
    torch.manual_seed(0)
    learner = Supervised(data, given, ("train",), Decoder(spikes, 64, 0.0), 3e-3, 0.5, spikes)
    for _ in networks.train(learner, data, ("train",), given, (30, 30), 1):
        found = Prediction(learner.answers("test"), 0)
    assert score(cue, found, "accuracy") >= 0.8


def test_the_loss_is_of_the_queries_of_its_splits_alone(made):
    asked, given = made["velocity"], BRIEF.networks
    network = GRU(9, 4, 8, 0.0, False).eval()

    def loss(problem, splits, run_of):
        data = sequences(problem, given.rate)
        learner = Supervised(data, given, splits, network, 1e-3)
        first, end = data.asked[run_of].runs[0]
        return learner.loss(torch.arange(first, end)[None]).item()

    other = shuffled(asked, "valid", "test")
    assert loss(asked, ("train",), "train") == loss(other, ("train",), "train") > 0
    assert loss(asked, ("train",), "valid") == 0
    assert loss(asked, ("train", "valid"), "valid") > 0


def test_blank_bins_neither_count_nor_change_an_answer(made):
    given = BRIEF.networks
    data = sequences(made["velocity"], given.rate)
    learner = Supervised(data, given, ("train",), GRU(9, 4, 8, 0.0, False).eval(), 1e-3)
    first, end = data.asked["train"].runs[0]
    bins = torch.arange(first, end)[None]
    padded = torch.cat([bins, torch.full((1, 7), -1)], dim=1)
    assert learner.loss(padded).item() == pytest.approx(learner.loss(bins).item(), rel=1e-6)


def test_steps_that_were_best_on_valid_are_taken_again_on_both(turning):
    data, taught = sequences(turning, 25.0), []

    class Learner:
        lr = 1e-2

        def __init__(self, splits):
            self.network, self.splits, self.steps = torch.nn.Linear(1, 1), splits, 0
            taught.append(self)

        def loss(self, bins):
            self.steps += 1
            return self.network(torch.ones(1)).square().sum()

        def answers(self, split):
            """Best after 60 steps."""
            return data.asked[split].truth + abs(self.steps - 60)

    params = SHORT.model_copy(update={"steps": 120, "looks": 4})
    learner, setting = networks.tuned(data, params, [{}], lambda setting, splits: Learner(splits))

    assert setting == {"steps": 60, "valid": 1.0}
    assert [(each.splits, each.steps) for each in taught] == [
        (("train",), 120),
        (("train", "valid"), 60),
    ]
    assert learner is taught[-1]


def test_a_missing_package_is_named_with_its_extra(monkeypatch, turning):
    for name, module in (("cebra", "cebra"), ("poyo", "torch_brain.models.poyo")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(UserError, match=rf"'{module}' is not.*neurofmx\[baselines\]"):
            BASELINES[name].fit(turning, BRIEF)


def test_models_of_spikes_say_what_they_need(made):
    assert no_counts(made["velocity"]) is None
    signals = {n: s for n, s in made["velocity"].recording.signals.items() if n != "spikes"}
    without = replace(
        made["velocity"], recording=replace(made["velocity"].recording, signals=signals)
    )
    assert "the inputs are lfp" in no_counts(without)
    assert {n for n in NETWORKS if BASELINES[n].needs(without)} == {"ndt", "lfads", "poyo"}


def test_methods_are_chosen_by_name_or_all_at_once():
    assert chosen(["gru", "mean"]) == ["mean", "gru"]
    assert set(chosen(["all"])) == set(BASELINES)
    assert set(chosen(["simple", "ndt"])) == set(BASELINES) - set(SLOW) | {"ndt"}
    with pytest.raises(ValueError, match=r"no method 'grue'; choose from ridge, .*simple"):
        chosen(["grue"])
