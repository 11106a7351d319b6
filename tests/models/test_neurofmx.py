"""The assembly: shapes, masks, save and load, adaptation."""

import pytest
import torch
from windows import model_config, recording, shards

from neurofmx.data.loader import Collator
from neurofmx.errors import UserError
from neurofmx.models import ModelParams, NeuroFMX, SignalSpec, TaskSpec
from neurofmx.models.adapters import adapt
from neurofmx.objectives.masked import hide
from neurofmx.training.fit import untrained
from neurofmx.training.inference import vocabulary


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    both = [recording("a", units=6), recording("b", seed=1, units=4)]
    return shards(tmp_path_factory.mktemp("two"), both)


@pytest.fixture(scope="module")
def model(made):
    return untrained(model_config(made, ["a", "b"]), seed=0).eval()


def batch_of(made, model, n=6):
    positions = made.positions("train", ["a"])[:n] + made.positions("train", ["b"])[:n]
    return Collator(made, vocabulary(model))([made[p] for p in positions])


def test_every_head_answers_in_its_shape(made, model):
    batch = batch_of(made, model)
    output = model(batch)
    assert output.latents.shape == (12, 8, 32)
    assert output.heads["decode.velocity"].shape == batch.targets["velocity"].values.shape
    assert output.heads["decode.cue"].shape == (*batch.targets["cue"].mask.shape, 2)
    for name, signal in batch.signals.items():
        assert output.heads[f"reconstruct.{name}"].shape == signal.values.shape
        assert output.heads[f"forecast.{name}"].shape == signal.values.shape
        assert output.features[name].times[0, 0] == pytest.approx(
            model.config.signals[name].patch * signal.dt / 2
        )


def test_padded_channels_and_gaps_cannot_change_an_answer(made, model):
    batch = batch_of(made, model)
    before = model(batch).heads["decode.velocity"]
    for signal in batch.signals.values():
        signal.values[~signal.channel_mask[:, None, :].expand_as(signal.values)] = 1e3
        signal.values[~signal.mask] = 1e3
    torch.testing.assert_close(model(batch).heads["decode.velocity"], before)


def test_hidden_channels_and_patches_cannot_be_seen(made, model):
    batch = batch_of(made, model)
    patch = {name: spec.patch for name, spec in model.config.signals.items()}
    hidden = hide(batch, 0.3, 0.0, patch, torch.Generator().manual_seed(0))
    before = model(batch, hidden).latents
    for name, signal in batch.signals.items():
        signal.values[hidden.channels[name][:, None, :].expand_as(signal.values)] = 1e3
    torch.testing.assert_close(model(batch, hidden).latents, before)
    nothing = hide(batch, 0.0, 0.0, patch, torch.Generator().manual_seed(0))
    assert not torch.allclose(model(batch, nothing).latents, before, atol=1e-3)


def test_save_and_load_are_bit_equal_after_a_forward(made, model, tmp_path):
    batch = batch_of(made, model)
    before = model(batch)
    model.save_pretrained(tmp_path)
    again = NeuroFMX.from_pretrained(tmp_path)
    after = again(batch)
    assert again.config == model.config
    for name, head in before.heads.items():
        assert torch.equal(after.heads[name], head)


def test_a_folder_without_a_model_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match=r"no model.safetensors; run `neurofmx pretrain`"):
        NeuroFMX.from_pretrained(tmp_path)


def test_adapting_keeps_the_core_and_trains_only_units_and_head(made, model):
    channels = {"spikes": [("c", k) for k in range(9)], "lfp": [("c", k) for k in range(3)]}
    adapted = adapt(model, channels, "unit_id", seed=1)
    core = dict(model.named_parameters())
    trained = {n for n, p in adapted.named_parameters() if p.requires_grad}

    assert adapted.tokenizers["spikes"].gain.weight.shape == (10, 32)
    assert {name.split(".")[0] for name in trained} == {"tokenizers", "decode"}
    assert all(".gain." in n or ".bias." in n for n in trained if n.startswith("tokenizers"))
    for name, parameter in adapted.named_parameters():
        if name not in trained or name.startswith("decode."):
            assert torch.equal(parameter, core[name])
    # As many LFP channels as before, but not the same ones: theirs are new too.
    assert not torch.equal(
        adapted.tokenizers["lfp"].gain.weight[:4], core["tokenizers.lfp.gain.weight"][:4]
    )


def test_from_config_names_an_unknown_key(model):
    config = model.config.model_dump()
    config["model"]["d_modell"] = 3
    with pytest.raises(UserError, match=r"model\.d_modell: unknown key\. Did you mean 'd_model'"):
        NeuroFMX.from_config(config)


@pytest.mark.parametrize(
    ("size", "millions"),
    [("tiny", 0.25), ("small", 24), ("base", 78), ("medium", 139), ("large", 520)],
)
def test_one_dial_sets_the_size(size, millions):
    config = NeuroFMX.Config(
        model=ModelParams(size=size),
        duration=2.0,
        signals={
            "spikes": SignalSpec(
                tokenizer="binned", patch=1, dt=0.02, channels=[("a", c) for c in range(96)]
            )
        },
        tasks={"v": TaskSpec(kind="regression", outputs=2, mean=[0, 0], scale=[1, 1])},
    )
    with torch.device("meta"):
        model = NeuroFMX(config)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)
