"""Training learns what is planted, and goes on after a kill as if there had been none."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from pydantic import ValidationError
from safetensors.torch import load_file
from windows import recording, shards, tiny_model

from neurofmx.data.augment import AugmentParams
from neurofmx.data.collate import Collator
from neurofmx.data.loader import LoaderParams
from neurofmx.errors import DataError, UserError
from neurofmx.training.curriculum import CurriculumPhase
from neurofmx.training.fit import Fit
from neurofmx.training.inference import answers, features
from neurofmx.training.optim import OptimizerParams
from neurofmx.training.recipe import CheckpointParams, FitParams

PARAMS = FitParams(
    epochs=2,
    batch_size=8,
    valid_every=4,
    checkpoint=CheckpointParams(every=4),
    optimizer=OptimizerParams(lr=1e-2),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    torch.set_num_threads(1)
    return shards(tmp_path_factory.mktemp("fit") / "made", [recording("a", trials=80)])


def fit(made, folder, params=PARAMS, seed=0, **changes):
    model = tiny_model(made, ["a"], seed, **changes)
    return Fit(model, made, ["a"], params, seed, folder)


def r2(made, model, seed=None):
    found = answers(model, made, made.positions("test"))["velocity"]
    error = ((found.truth - found.prediction) ** 2).sum(0)
    return 1 - error / ((found.truth - found.truth.mean(0)) ** 2).sum(0)


def test_a_planted_hand_is_learned_and_an_untrained_model_knows_nothing(made, tmp_path):
    params = PARAMS.model_copy(update={"epochs": 25, "valid_every": 50})
    run = fit(made, tmp_path, params)
    assert r2(made, run.model).mean() < 0.1
    run.run("test")
    assert r2(made, run.model)[0] > 0.8
    history = [row["valid"] for row in run.progress.history]
    assert run.progress.best == min(history)


def test_it_is_learned_in_bfloat16_and_the_weights_stay_in_float32(made, tmp_path):
    params = PARAMS.model_copy(update={"precision": "bfloat16", "epochs": 25, "valid_every": 50})
    run, products = fit(made, tmp_path, params), set()
    projection = run.model.backbone.streams[0].blocks[0].mixer.in_proj
    projection.register_forward_hook(lambda module, given, made: products.add(made.dtype))
    run.run("test")
    assert products == {torch.bfloat16}
    assert r2(made, run.model)[0] > 0.8
    weights = load_file(tmp_path / "best.safetensors")
    assert torch.bfloat16 not in {weight.dtype for weight in weights.values()}


def test_shuffled_targets_cannot_be_learned(made, tmp_path, monkeypatch):
    """The same training on targets of other windows must leave the test split at chance."""
    order = np.random.default_rng(0).permutation(len(made))

    class Shuffled(Collator):
        def __call__(self, windows, *others):
            batch, swapped = super().__call__(windows, *others), super().__call__(order[windows])
            return dataclasses.replace(batch, targets=swapped.targets)

    monkeypatch.setattr("neurofmx.training.fit.Collator", Shuffled)
    params = PARAMS.model_copy(update={"epochs": 10, "valid_every": 60})
    run = fit(made, tmp_path, params)
    run.run("test")
    assert (r2(made, run.model) < 0.2).all()


def stopped(run, step):
    """Make a run stop at a step as a kill would: at once, with nothing saved after."""
    original = run._step

    def step_or_die(number, parts, stop):
        if number == step:
            raise KeyboardInterrupt
        return original(number, parts, stop)

    run._step = step_or_die
    return run


CURRICULUM = {
    "batch_size": None,
    "accumulate": 2,
    "loader": LoaderParams(
        tokens_per_step=160, augment=AugmentParams(noise=0.3, channel_dropout=0.2, mixup=0.5)
    ),
    "phases": [
        CurriculumPhase(name="one", at_once=1, objectives={"masked_adaptive": 0.5}),
        CurriculumPhase(name="all", blend=0.5, weights={"made": 1.0}),
    ],
    "optimizer": OptimizerParams(lr=1e-2, name="muon", schedule="wsd", ema=0.9),
    "weighting": "gradnorm",
    "checkpoint": CheckpointParams(every=4, behind=False),
}


def by(params, **changes):
    """With other parameters of the loader."""
    return params.model_copy(update={"loader": params.loader.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("dropout", "changes"), [(0.0, {}), (0.3, {}), (0.0, CURRICULUM)], ids=["plain", "drop", "all"]
)
def test_a_killed_run_goes_on_as_if_it_had_not_been(made, tmp_path, dropout, changes):
    """Also with other workers than before."""
    params = PARAMS.model_copy(update=changes)
    whole = fit(made, tmp_path / "whole", params, dropout=dropout)
    whole.folder.mkdir()
    whole.run("whole")
    (tmp_path / "killed").mkdir()
    ahead = fit(made, tmp_path / "killed", by(params, workers=2), dropout=dropout)
    with pytest.raises(KeyboardInterrupt):
        stopped(ahead, step=7).run("killed")
    again = fit(made, tmp_path / "killed", by(params, workers=1), dropout=dropout)
    assert again.progress.step == 4
    again.run("again")

    assert again.progress.history == whole.progress.history
    for name in ("best.safetensors", "history.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (whole.folder / name).read_bytes()
    states = [last_state(folder) for folder in (whole.folder, tmp_path / "killed")]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(x, states[1][name]) for name, x in states[0].items())


def last_state(folder):
    """Every tensor of the last checkpoint."""
    path = max((folder / "state").glob("step-*"))
    reader = dcp.FileSystemReader(path)
    about = reader.read_metadata().state_dict_metadata
    state = {name: torch.empty(x.size, dtype=x.properties.dtype) for name, x in about.items()}
    dcp.load(state, storage_reader=reader, no_dist=True)
    return state


def test_a_window_that_cannot_be_read_stops_training_or_is_counted_and_told(tmp_path, capsys):
    damaged = shards(tmp_path / "damaged", [recording("a", trials=80)])
    tar = tmp_path / "damaged" / "train-000000.tar"
    content = bytearray(tar.read_bytes())
    content[700] ^= 1  # of the first window
    tar.write_bytes(content)
    with pytest.raises(DataError, match=r"train-000000.tar at offset 0"):
        fit(damaged, tmp_path).run("stops")

    run = fit(damaged, tmp_path, by(PARAMS, on_corrupt="skip"))
    progress = run.run("goes on")
    assert progress.skipped == 2  # once an epoch
    assert len(progress.problems) == 1
    assert "train-000000.tar at offset 0" in progress.problems[0]
    assert capsys.readouterr().err.count("left out: ") == 2
    kept = json.loads((max((tmp_path / "state").glob("step-*")) / "progress.json").read_text())
    assert (kept["skipped"], kept["problems"]) == (2, progress.problems)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_size": None}, "give either batch_size .* None and None"),
        ({"loader": {"tokens_per_step": 99}}, "give either batch_size .* 32 and 99"),
        ({"objectives": {"decod": 1.0}}, "unknown objectives decod; choose from decode, masked"),
        ({"phases": [{"objectives": {"maskd": 1.0}}]}, "unknown objectives maskd"),
        ({"options": {"masked": {"share": 0.1}}}, "options.masked"),
        ({"launch": {"processes": 2}}, "the engine local is one alone"),
        ({"launch": {"nodes": 2}}, "need launch.rendezvous"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises((ValidationError, UserError), match=message):
        FitParams(**fields)


@pytest.mark.parametrize("change", ["params", "weights", "windows", "code"])
def test_a_changed_run_starts_anew_and_says_so(made, tmp_path, change, capsys):
    fit(made, tmp_path).run("first")
    params = (
        PARAMS.model_copy(update={"options": {"masked": {"channels": 0.2}}})
        if change == "params"
        else PARAMS
    )
    other = made
    if change == "windows":
        other = shards(tmp_path / "other", [recording("a", seed=5, trials=80)])
    model = tiny_model(made, ["a"], 0)
    if change == "weights":
        torch.nn.init.normal_(model.hidden_token)
    code = "changed" if change == "code" else ""
    assert Fit(model, other, ["a"], params, 0, tmp_path, code).progress.step == 0
    assert "training starts anew" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("diffusion", "needs model.prior"),
        ("codes", "needs model.codes"),
        ("mmd", "needs two domains"),
        ("distill", "go together"),
    ],
)
def test_an_objective_whose_means_are_not_there_is_refused(made, tmp_path, name, message):
    params = PARAMS.model_copy(update={"objectives": {name: 1.0}})
    with pytest.raises(UserError, match=message):
        fit(made, tmp_path, params)


def test_an_objective_that_finds_nothing_to_ask_is_told(made, tmp_path, capsys):
    """The made signals are all neural, so there is nothing to encode them from."""
    params = PARAMS.model_copy(update={"objectives": {"encoding": 1.0}})
    fit(made, tmp_path, params).run("test")
    told = "the objective encoding has found nothing to ask in these windows so far"
    assert told in capsys.readouterr().err


def test_frozen_parameters_stay(made, tmp_path):
    run = fit(made, tmp_path)
    for parameter in run.model.backbone.parameters():
        parameter.requires_grad = False
    before = {n: p.clone() for n, p in run.model.backbone.named_parameters()}
    run.run("test")
    for name, parameter in run.model.backbone.named_parameters():
        assert torch.equal(parameter, before[name])


def test_features_lie_at_the_middle_of_their_tokens(made):
    model = tiny_model(made, ["a"], 0)
    found = features(model, made, made.positions("test")[:1], "spikes")
    window, spec = made[made.positions("test")[0]].info, model.config.signals["spikes"]
    width = spec.patch * spec.dt
    assert found.time[0] == pytest.approx(window["start"] + width / 2)
    np.testing.assert_allclose(np.diff(found.time), width, atol=1e-6)


def test_a_model_answers_in_its_own_scale_whatever_that_of_the_windows(made, tmp_path):
    """A model pooled over data sets has other scales than the windows that it is asked about."""
    model = tiny_model(made, ["a"], 0)
    before = answers(model, made, made.positions("test"))["velocity"].truth
    spec = model.config.tasks["velocity"]
    spec.mean[:], spec.scale[:] = [5.0, -3.0], [2.0, 7.0]
    after = answers(model, made, made.positions("test"))["velocity"].truth
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_a_large_data_set_is_seen_in_fewer_epochs():
    params = PARAMS.model_copy(update={"epochs": 40, "windows": 1000})
    epochs = [params.epochs_of(np.ones(n, int)) for n in (10, 25, 60, 999, 5000)]
    assert epochs == [40, 40, 16, 1, 1]
    assert PARAMS.epochs_of(np.ones(10**6, int)) == PARAMS.epochs


def test_a_small_data_set_is_seen_in_more_epochs():
    """At least 10 steps of 8 windows, or of 80 tokens, in what counts for one."""
    given = {"epochs": 4, "epoch_steps": 10, "batch_size": 8, "windows": 1000}
    params = PARAMS.model_copy(update=given)
    epochs = [params.epochs_of(np.full(n, 10)) for n in (1, 8, 9, 80, 81, 400)]
    assert epochs == [40, 40, 20, 4, 4, 2]
    of_tokens = {"batch_size": None, "loader": LoaderParams(tokens_per_step=80)}
    assert params.model_copy(update=of_tokens).epochs_of(np.full(9, 10)) == 20
