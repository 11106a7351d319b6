"""Training learns what is planted, and goes on after a kill as if there had been none."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from windows import model_config, recording, shards

from neurofmx.errors import UserError
from neurofmx.training.engines import ENGINES, OptimizerParams, schedule
from neurofmx.training.fit import Fit, FitParams, untrained
from neurofmx.training.inference import answers, features
from neurofmx.training.tracking import track

PARAMS = FitParams(
    epochs=2, batch_size=8, valid_every=4, save_every=4, optimizer=OptimizerParams(lr=1e-2)
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    torch.set_num_threads(1)
    return shards(tmp_path_factory.mktemp("made"), [recording("a", trials=80)])


def fit(made, folder, params=PARAMS, seed=0, **changes):
    model = untrained(model_config(made, ["a"], **changes), seed)
    return Fit(model, made, ["a"], params, seed, folder)


def r2(made, model, seed=None):
    found = answers(model, made, made.positions("test"))["velocity"]
    error = ((found.truth - found.prediction) ** 2).sum(0)
    return 1 - error / ((found.truth - found.truth.mean(0)) ** 2).sum(0)


def test_a_planted_hand_is_learned_and_an_untrained_model_knows_nothing(made, tmp_path):
    params = PARAMS.model_copy(update={"epochs": 25, "valid_every": 50, "save_every": 150})
    run = fit(made, tmp_path, params)
    assert r2(made, run.model)[0] < 0.1
    run.run("test")
    assert r2(made, run.model)[0] > 0.8
    history = [row["valid"] for row in run.progress.history]
    assert run.progress.best == min(history)


def test_shuffled_targets_cannot_be_learned(made, tmp_path):
    """The same training on targets of other windows must leave the test split at chance."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(made)).tolist()

    class Shuffled(type(made)):
        def __getitem__(self, position):
            sample, other = super().__getitem__(position), super().__getitem__(order[position])
            names = ("velocity.target", "velocity.times", "velocity.asked")
            swapped = {name: other.arrays[name] for name in names}
            return dataclasses.replace(sample, arrays=sample.arrays | swapped)

    params = PARAMS.model_copy(update={"epochs": 10, "valid_every": 60, "save_every": 60})
    run = fit(Shuffled(made.folder), tmp_path, params)
    run.run("test")
    assert (r2(made, run.model) < 0.2).all()


def stopped(run, step):
    """Make a run stop at a step as a kill would: at once, with nothing saved after."""
    original = run._step

    def step_or_die(number):
        if number == step:
            raise KeyboardInterrupt
        return original(number)

    run._step = step_or_die
    return run


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_killed_run_goes_on_as_if_it_had_not_been(made, tmp_path, dropout):
    whole = fit(made, tmp_path / "whole", dropout=dropout)
    whole.folder.mkdir()
    whole.run("whole")
    (tmp_path / "killed").mkdir()
    with pytest.raises(KeyboardInterrupt):
        stopped(fit(made, tmp_path / "killed", dropout=dropout), step=7).run("killed")
    again = fit(made, tmp_path / "killed", dropout=dropout)
    assert again.progress.step == 4
    again.run("again")

    assert again.progress.history == whole.progress.history
    for name in ("best.safetensors", "history.csv", "state/state.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (whole.folder / name).read_bytes()


@pytest.mark.parametrize("change", ["params", "weights", "windows", "code"])
def test_a_changed_run_starts_anew(made, tmp_path, change):
    fit(made, tmp_path).run("first")
    params = PARAMS.model_copy(update={"hide_channels": 0.2}) if change == "params" else PARAMS
    other = made
    if change == "windows":
        other = shards(tmp_path / "other", [recording("a", seed=5, trials=80)])
    model = untrained(model_config(made, ["a"]), 0)
    if change == "weights":
        torch.nn.init.normal_(model.hidden_token)
    code = "changed" if change == "code" else ""
    assert Fit(model, other, ["a"], params, 0, tmp_path, code).progress.step == 0


def test_unknown_objectives_are_named(made, tmp_path):
    params = PARAMS.model_copy(update={"objectives": {"decod": 1.0}})
    with pytest.raises(UserError, match=r"unknown objectives .*decod.*choose from decode, masked"):
        fit(made, tmp_path, params)


def test_frozen_parameters_stay(made, tmp_path):
    run = fit(made, tmp_path)
    for parameter in run.model.backbone.parameters():
        parameter.requires_grad = False
    before = {n: p.clone() for n, p in run.model.backbone.named_parameters()}
    run.run("test")
    for name, parameter in run.model.backbone.named_parameters():
        assert torch.equal(parameter, before[name])


def test_the_schedule_rises_and_falls():
    rates = [schedule(step, 100, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[-1] < 1e-3


def test_deepspeed_takes_the_steps_of_the_local_engine(made, tmp_path):
    pytest.importorskip("deepspeed")
    folders = {name: tmp_path / name for name in ENGINES}
    for name, folder in folders.items():
        folder.mkdir()
        params = PARAMS.model_copy(update={"engine": name})
        if name == "deepspeed":
            with pytest.raises(KeyboardInterrupt):  # and it resumes from its own checkpoint
                stopped(fit(made, folder, params), step=6).run(name)
        run = fit(made, folder, params)
        assert run.progress.step == (4 if name == "deepspeed" else 0)
        run.run(name)
    local, deep = (load_file(folder / "best.safetensors") for folder in folders.values())
    for name, weights in local.items():
        torch.testing.assert_close(deep[name], weights, rtol=1e-4, atol=1e-5)


def test_features_lie_at_the_middle_of_their_tokens(made):
    model = untrained(model_config(made, ["a"]), 0)
    found = features(model, made, made.positions("test")[:1], "spikes")
    window, spec = made[made.positions("test")[0]].info, model.config.signals["spikes"]
    width = spec.patch * spec.dt
    assert found.time[0] == pytest.approx(window["start"] + width / 2)
    np.testing.assert_allclose(np.diff(found.time), width, atol=1e-6)


def test_a_run_is_tracked_in_sqlite(tmp_path):
    import mlflow

    with track(tmp_path, "demo", {"fit": {"steps": 3}}) as log:
        log({"loss": 0.5}, 1)
    runs = mlflow.search_runs(experiment_names=["demo"])
    assert (tmp_path / "mlflow.db").exists()
    assert runs.loc[0, "metrics.loss"] == 0.5
    assert json.loads(runs.loc[0, "params.fit.steps"]) == 3
