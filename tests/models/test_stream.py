"""A stream gives the numbers of the causal batch forward, at every step, in constant memory."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from unchecked import in_own_process

from neurofmx.batches import Batch, SignalBatch, Target
from neurofmx.data.collate import Channels
from neurofmx.errors import UserError
from neurofmx.models import Known, NeuroFMX

# Two signals whose tokens last 50 and 40 ms, with tokenizers that look back.
SIGNALS = {
    "spikes": {"tokenizer": "binned", "patch": 1, "dt": 0.05, "counts": True},
    "lfp": {"tokenizer": "continuous", "patch": 4, "dt": 0.01},
}
TASKS = {
    "velocity": {"kind": "regression", "outputs": 2, "mean": [1.0, 2.0], "scale": [3.0, 0.5]},
    "cue": {"kind": "classification", "outputs": 3, "classes": ["a", "b", "c"]},
}
WIDTHS = {"d_model": 16, "headdim": 16, "latent_dim": 16, "n_latents": 8, "rates": [1, 2]}
LOOK_BACK = {"binned": {"rates": [1, 3]}, "continuous": {"band_span": 0.1}}
CAUSAL = WIDTHS | {"causal": True, "tokenizers": LOOK_BACK}
UNITS = {"spikes": 5, "lfp": 3}


def causal_model(causal=True, **changes):
    torch.manual_seed(0)
    config = {
        "model": CAUSAL | {"causal": causal},
        "duration": 1.0,
        "signals": SIGNALS,
        "tasks": TASKS,
    } | changes
    model = NeuroFMX.from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.extend({n: Known([("a", k) for k in range(units)], []) for n, units in UNITS.items()})
    return model.eval()


def wiring():
    """As channels.parquet has it, of one recording."""
    rng = np.random.default_rng(0)
    rows = [("a", name, channel) for name, units in UNITS.items() for channel in range(units)]
    table = pd.DataFrame(rows, columns=["recording", "signal", "channel"])
    table["mean"], table["scale"] = rng.normal(size=len(table)), rng.uniform(0.5, 2, len(table))
    table = table.assign(owner="a", number=table["channel"])
    return table.assign(region="", x=np.nan, y=np.nan, z=np.nan)


@pytest.fixture(scope="module")
def channels():
    return wiring()


def recorded(seconds, batch=2):
    """Samples of each signal, and which were recorded: spikes have a gap, lfp ends early."""
    rng = np.random.default_rng(1)
    n = {name: round(seconds / spec["dt"]) for name, spec in SIGNALS.items()}
    values = {
        "spikes": rng.poisson(2.0, (batch, n["spikes"], 5)).astype(np.float32),
        "lfp": rng.normal(size=(batch, n["lfp"], 3)).astype(np.float32),
    }
    masks = {name: np.ones((batch, length), bool) for name, length in n.items()}
    masks["spikes"][0, 7:12] = False
    masks["lfp"][-1, 30:43] = False
    return values, masks


def whole(model, channels, values, masks, ends):
    """The batch forward, asked at the times when tokens end."""
    signals = {}
    for name, x in values.items():
        own = Channels.of(channels[channels["signal"] == name], model.rows)
        raw = np.sqrt(x) if name == "spikes" else x
        known = {n: None if v is None else v.expand(2, *v.shape) for n, v in own.embedded().items()}
        told = {n: v.expand(2, -1) for n, v in own.counted().items()} if name == "spikes" else {}
        signals[name] = SignalBatch(
            values=torch.from_numpy(raw * own.gain + own.shift),
            t0=torch.zeros(2, dtype=torch.float64),
            dt=SIGNALS[name]["dt"],
            mask=torch.from_numpy(masks[name]),
            **known,
            **told,
        )
    times = torch.tensor([ends, ends], dtype=torch.float32)
    asked = torch.ones_like(times, dtype=torch.bool)
    targets = {
        task: Target(spec["kind"], torch.zeros(*times.shape, 1), times, asked)
        for task, spec in TASKS.items()
    }
    batch = Batch(signals, targets, ["a", "a"], [0, 1])
    with torch.no_grad():
        output = model(batch)
    return {task: model.answer(task, output.heads[f"decode.{task}"])[0] for task in TASKS}


def streamed(stream, values, masks, pieces):
    """Samples in pieces, spikes and lfp by turns; what came out, and when."""
    times, found = [], {task: [] for task in TASKS}
    for piece in range(pieces):
        given, shown = {}, {}
        for name, x in values.items():
            places = np.array_split(np.arange(x.shape[1]), pieces)[piece]
            given[name], shown[name] = x[:, places], masks[name][:, places]
        decoded = stream.push(given, shown)
        times += decoded.times
        for task, answers in decoded.values.items():
            found[task].append(answers)
    return times, {task: torch.cat(parts, dim=1) for task, parts in found.items()}


@pytest.mark.parametrize("pieces", [1, 7, 120])
def test_a_stream_is_the_batch_forward_at_every_step(channels, pieces):
    model, (values, masks) = causal_model(), recorded(6.0)
    times, found = streamed(model.stream("a", channels, batch=2), values, masks, pieces)
    expected = whole(model, channels, values, masks, times)

    ends = {round(0.05 * k, 6) for k in range(1, 121)} | {round(0.04 * k, 6) for k in range(1, 151)}
    np.testing.assert_allclose(times, sorted(ends))
    for task, answers in expected.items():
        torch.testing.assert_close(found[task], answers, rtol=1e-4, atol=1e-4)
        assert answers.std() > 0.01  # there is something to agree on


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_a_compiled_stream_gives_the_same():
    in_own_process(__file__, "compiled_and_not()")


def compiled_and_not():
    model, (values, masks) = causal_model(model=CAUSAL | {"n_blocks": 1}), recorded(4.0)
    spikes = wiring().query("signal == 'spikes'")
    (times, found), (same, other) = (
        streamed(
            model.stream("a", spikes, batch=2, backend=backend),
            *({"spikes": x["spikes"]} for x in (values, masks)),
            pieces=30,
        )
        for backend in ("compiled", "chunked")
    )
    assert times == same
    for task, answers in other.items():
        torch.testing.assert_close(found[task], answers, rtol=1e-4, atol=1e-4)


def test_a_compiled_stream_is_refused_without_a_compiler(channels, monkeypatch):
    monkeypatch.setenv("CXX", "absent")
    with pytest.raises(ValueError, match="compile needs a C"):
        causal_model().stream("a", channels, backend="compiled")


def test_nothing_that_comes_later_changes_an_answer(channels):
    model, (values, masks) = causal_model(), recorded(6.0)
    times = [0.05 * k for k in range(1, 121)]
    before = whole(model, channels, values, masks, times)
    for name, x in values.items():
        x[:, round(3.0 / SIGNALS[name]["dt"]) :] += 5
    after = whole(model, channels, values, masks, times)
    for task in TASKS:
        torch.testing.assert_close(before[task][:, :60], after[task][:, :60])
        assert not torch.allclose(before[task][:, 60:], after[task][:, 60:])


def test_a_stream_goes_on_from_what_was_saved(channels, tmp_path):
    model, (values, _) = causal_model(), recorded(4.0)
    stream = model.stream("a", channels, batch=2)
    early = {n: x[:, : round(1.93 / SIGNALS[n]["dt"])] for n, x in values.items()}
    late = {n: x[:, early[n].shape[1] :] for n, x in values.items()}
    stream.push(early)
    save_file(stream.state(), tmp_path / "state.safetensors")
    once = stream.push(late)
    again = model.stream("a", channels, batch=2)
    again.push({"lfp": values["lfp"][:, :9]})
    again.load(load_file(tmp_path / "state.safetensors"))
    twice = again.push(late)

    assert once.times == twice.times
    for task in TASKS:
        assert torch.equal(once.values[task], twice.values[task])
        assert torch.equal(once.spreads[task], twice.spreads[task])


def test_its_memory_does_not_grow(channels):
    model, (values, masks) = causal_model(), recorded(2.0)
    stream = model.stream("a", channels, batch=2)
    sizes = []
    for _ in range(10):
        stream.push(values, masks)
        sizes.append(sum(x.numel() for x in stream.state().values()))
    assert len(set(sizes)) == 1


def test_a_signal_that_comes_late_is_waited_for(channels):
    model, (values, _) = causal_model(), recorded(1.0, batch=1)
    stream = model.stream("a", channels)
    early = stream.push({"spikes": values["spikes"][0]})
    assert early.times == []
    assert early.values == {}
    late = stream.push({"lfp": values["lfp"][0]})
    together = model.stream("a", channels).push({n: x[0] for n, x in values.items()})
    assert late.times == together.times
    assert torch.equal(late.values["velocity"], together.values["velocity"])


def test_a_gap_is_the_same_as_nan_or_by_its_mask(channels):
    model, (values, masks) = causal_model(), recorded(2.0)
    by_mask = model.stream("a", channels, batch=2).push(values, masks)
    for name, x in values.items():
        x[~masks[name]] = np.nan
    by_nan = model.stream("a", channels, batch=2).push(values)
    assert torch.equal(by_mask.values["velocity"], by_nan.values["velocity"])
    assert by_nan.values["velocity"].isfinite().all()


def test_some_of_the_signals_are_enough(channels):
    model, (values, _) = causal_model(), recorded(2.0, batch=1)
    only = channels[channels["signal"] == "spikes"]
    decoded = model.stream("a", only).push({"spikes": values["spikes"][0]})
    assert len(decoded.times) == 40
    assert decoded.values["cue"].sum(-1).allclose(torch.ones(1, 40))


def test_what_cannot_stream_is_refused(channels):
    with pytest.raises(UserError, match=r"pretrain it with `pretrain.model.causal: true`"):
        causal_model(causal=False).stream("a", channels)
    with pytest.raises(UserError, match=r"no recording 'b'; it has a"):
        causal_model().stream("b", channels)
    stream = causal_model().stream("a", channels)
    with pytest.raises(ValueError, match="emg came, but this is a stream of lfp, spikes"):
        stream.push({"emg": np.zeros((3, 2))})
    with pytest.raises(ValueError, match=r"spikes came as \(1, 3, 2\); .* = \(1, any, 5\)"):
        stream.push({"spikes": np.zeros((3, 2))})
    spikes = {"spikes": SIGNALS["spikes"] | {"tokenizer": "spikes", "counts": False}}
    with pytest.raises(UserError, match="no signal cannot be streamed"):
        causal_model(signals=spikes | {"lfp": SIGNALS["lfp"]}).stream(
            "a", channels[channels["signal"] == "spikes"]
        )
