"""A step is the stream, bin by bin, as a function of tensors, in this runtime and in another."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import ive
from torch.utils import _pytree as pytree
from windows import shards, tiny_model

from neurofmx import cli
from neurofmx.errors import UserError
from neurofmx.models import Known, NeuroFMX
from neurofmx.models.stream import wired
from neurofmx.serving import DecoderStep, OnnxStep, export_decoder, export_step
from neurofmx.serving.bessel import i0e, i1e

SIGNALS = {
    "spikes": {"tokenizer": "binned", "patch": 1, "dt": 0.05, "counts": True},
    "lfp": {"tokenizer": "continuous", "patch": 5, "dt": 0.01},
    "eye": {"tokenizer": "image", "patch": 1, "dt": 0.02},
}
UNITS = {"spikes": 5, "lfp": 3, "eye": 2}
CLASSES = {"outputs": 3, "classes": ["a", "b", "c"]}
TASKS = {
    "velocity": {"kind": "regression", "outputs": 2, "mean": [1.0, 2.0], "scale": [3.0, 0.5]},
    "cue": {"kind": "classification"} | CLASSES,
    "effort": {"kind": "ordinal"} | CLASSES,
    "heading": {"kind": "circular", "outputs": 1, "mean": [0.0], "scale": [1.0]},
}
WIDTHS = {"d_model": 16, "n_blocks": 1, "d_state": 8, "headdim": 16, "latent_dim": 16}
WIDTHS |= {"n_layers": 1, "n_heads": 2, "rates": [1, 3]}
SECONDS = 4.0  # four horizons


def causal_model(n_latents=8, causal=True):
    torch.manual_seed(0)
    looks_back = {"continuous": {"band_span": 0.1}}
    model = {"causal": causal, "n_latents": n_latents, "tokenizers": looks_back}
    model = NeuroFMX.from_config(
        {"model": WIDTHS | model, "duration": 1.0, "signals": SIGNALS, "tasks": TASKS}
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.extend({n: Known([("a", k) for k in range(units)], []) for n, units in UNITS.items()})
    return model.eval()


@pytest.fixture(scope="module")
def channels():
    """As channels.parquet has it, of one recording."""
    rng = np.random.default_rng(0)
    rows = [("a", name, channel) for name, units in UNITS.items() for channel in range(units)]
    table = pd.DataFrame(rows, columns=["recording", "signal", "channel"])
    table["mean"], table["scale"] = rng.normal(size=len(table)), rng.uniform(0.5, 2, len(table))
    table = table.assign(owner="a", number=table["channel"])
    return table.assign(region="", x=np.nan, y=np.nan, z=np.nan)


def of(channels, signals):
    return channels[channels["signal"].isin(signals)]


def recorded(signals, batch=2):
    """Samples with gaps, one of them longer than the horizon."""
    rng = np.random.default_rng(1)
    values = {}
    for name in signals:
        time = round(SECONDS / SIGNALS[name]["dt"])
        shape = (batch, time, UNITS[name])
        drawn = rng.poisson(2.0, shape) if name == "spikes" else rng.normal(size=shape)
        values[name] = drawn.astype(np.float32)
        values[name][0, time // 4 : time * 5 // 8] = np.nan
        values[name][:, rng.random(time) < 0.1] = np.nan
        values[name][-1, : time // 8, 0] = np.nan
    return values


def tokens(values):
    """The samples of each signal, token by token."""
    n = round(SECONDS / 0.05)
    cut = {name: np.split(x, n, axis=1) for name, x in values.items()}
    return [{name: pieces[i] for name, pieces in cut.items()} for i in range(n)]


@torch.no_grad()
def stepped(step, values):
    """Answers of every step, by task and kind."""
    answers, state = [], step.initial()
    for given in tokens(values):
        found, state = step.step(state=state, **{n: torch.from_numpy(x) for n, x in given.items()})
        answers.append({f"output.{t}.{k}": x for t, both in found.items() for k, x in both.items()})
    return {name: torch.stack([a[name] for a in answers], dim=1) for name in answers[0]}


def streamed(model, channels, values):
    decoded = model.stream("a", channels, batch=2).push(values)
    kinds = {"value": decoded.values, "spread": decoded.spreads}
    return {f"output.{task}.{kind}": x[task] for kind, x in kinds.items() for task in TASKS}


# A latent every 0.125 s, so that some tokens have none; every 0.05 s; every 0.03 s, so 1 or 2.
@pytest.mark.parametrize("n_latents", [8, 20, 33])
@pytest.mark.parametrize("signals", [["spikes"], ["lfp"], ["lfp", "spikes"]])
def test_a_step_is_the_stream(channels, n_latents, signals):
    model, values, known = causal_model(n_latents), recorded(signals), of(channels, signals)
    found = stepped(DecoderStep(model, wired(model, "a", known), batch=2), values)
    truth = streamed(model, known, values)
    assert found.keys() == truth.keys()
    for name, answers in truth.items():
        torch.testing.assert_close(found[name], answers, rtol=1e-4, atol=1e-4)
    for task in TASKS:
        assert truth[f"output.{task}.value"].std() > 0.01  # there is something to agree on


def test_onnxruntime_goes_the_way_of_the_stream(channels, tmp_path):
    """With a tokenizer that looks back and one that does not, and 1 or 2 latents at a token."""
    signals = ["lfp", "spikes"]
    model, values, known = causal_model(33), recorded(signals), of(channels, signals)
    step = DecoderStep(model, wired(model, "a", known), batch=2)
    exported = OnnxStep(export_step(step, step.inputs(), step.initial(), tmp_path))
    answers = [exported(**given) for given in tokens(values)]
    truth = streamed(model, known, values)
    assert set(truth) == set(exported.signature.outputs)
    for name, expected in truth.items():
        found = np.stack([answer[name] for answer in answers], axis=1)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4, err_msg=name)

    exported.reset()
    hours = 10 * 3600
    exported.state["state.tokens"] += 20 * hours  # as if it had run for so long
    exported.state["state.rings.count"] += np.array([40 * hours, 33 * hours])
    late = np.stack([exported(**given)[name] for given in tokens(values)], axis=1)
    np.testing.assert_allclose(late, found, rtol=1e-4, atol=1e-4)


def test_a_step_leaves_the_state_that_it_was_given(channels):
    model = causal_model()
    known = of(channels, ["spikes"])
    step = DecoderStep(model, wired(model, "a", known), batch=1)
    state, before = step.initial(), pytree.tree_leaves(step.initial())
    with torch.no_grad():
        _, left = step.step(state=state, spikes=torch.ones(1, 1, 5))
    assert all(map(torch.equal, pytree.tree_leaves(state), before))
    assert not all(map(torch.equal, pytree.tree_leaves(left), before))


def test_what_has_no_step_is_refused(channels):
    model, known = causal_model(), of(channels, ["spikes", "eye"])
    with pytest.raises(UserError, match=r"differently long \(eye 0.02 s, spikes 0.05 s\).*stream"):
        DecoderStep(model, wired(model, "a", known))
    blind = causal_model(causal=False)
    with pytest.raises(UserError) as streamed:
        blind.stream("a", channels)
    with pytest.raises(UserError) as stepped:
        DecoderStep(blind, wired(blind, "a", channels))
    assert str(stepped.value) == str(streamed.value)
    with pytest.raises(UserError, match="no signal cannot be streamed"):
        DecoderStep(model, {})


@pytest.mark.parametrize(("approximate", "order"), [(i0e, 0), (i1e, 1)])
def test_bessel_functions_are_those_of_scipy(approximate, order):
    x = np.concatenate([[0.0], np.geomspace(1e-4, 1e6, 400), [3.75]])
    found = approximate(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, ive(order, x), rtol=1e-6, atol=3e-7)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Shards and a causal model where the pipeline has them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "storage").mkdir()
    made = shards(tmp_path / "storage" / "tokenize")
    model = tiny_model(made, ["made-1"], causal=True, rates=[1])
    model.save_pretrained(tmp_path / "storage" / "pretrain")
    return made


def test_the_command_writes_a_step_that_runs(project, monkeypatch, capsys):
    words = ["export", "storage/pretrain", "--recording", "made-1", "--out", "step"]
    monkeypatch.setattr(sys, "argv", ["neurofmx", *words, "--signal", "spikes"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out = capsys.readouterr().out
    assert stopped.value.code == 0
    assert "a step takes spikes (1, 2, 6) (stream, sample, channel) as float32 every 0.1 s" in out
    assert "neurofmx.serving.OnnxStep('step')(spikes=…)" in out
    model, counts = NeuroFMX.from_pretrained("storage/pretrain"), np.ones((1, 2, 6), np.float32)
    truth = model.stream("made-1", of(project.channels, ["spikes"])).push({"spikes": counts})
    np.testing.assert_allclose(
        OnnxStep("step")(spikes=counts)["output.velocity.value"],
        truth.values["velocity"][:, 0],
        rtol=1e-4,
        atol=1e-4,
    )


def test_the_command_refuses_a_signal_that_does_not_come(project):
    with pytest.raises(UserError, match="streams lfp, spikes of 'made-1', and not emg"):
        export_decoder("storage/pretrain", "made-1", "step", signals=["emg"])
