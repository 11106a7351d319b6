"""Adapters: a view of the core, what each trains, saved alone, folded and unfolded."""

import copy
import json

import pytest
import torch
from torch import nn
from windows import recording, shards, tiny_model

from neurofmx.data.loader import Collator
from neurofmx.errors import UserError
from neurofmx.models import Known, NeuroFMX
from neurofmx.models.adapter_files import load_adapter, merge, save_adapter, unmerge
from neurofmx.models.adapters import ADAPTERS, AdapterOptions, adapt
from neurofmx.objectives.decode import Decode


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    both = [recording("a", units=6), recording("b", seed=1, units=9)]
    return shards(tmp_path_factory.mktemp("two"), both)


@pytest.fixture(scope="module")
def core(made):
    """Pretrained as far as this test is concerned: random weights everywhere."""
    model = tiny_model(made, ["a"], 0)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


NEW = {
    "spikes": Known([("b", k) for k in range(9)], ["CA1"]),
    "lfp": Known([("b", k) for k in range(3)], []),
}


def batch_of(made, model, name, n=6):
    return Collator(made, model.rows)(made.positions("train", [name])[:n])


def heads(made, model, name="b"):
    """Answers about a recording; torch multiplies in another order where weights need gradients."""
    model = copy.deepcopy(model).requires_grad_(False)
    return model(batch_of(made, model, name)).heads


def trained(made, model, steps=2):
    """After a few steps of training on b."""
    own = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(own, lr=1e-2)
    batch = batch_of(made, model, "b")
    for _ in range(steps):
        optimizer.zero_grad()
        Decode().loss(model(batch), batch).backward()
        optimizer.step()
    return model


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_fresh_adapter_answers_exactly_as_the_core(made, core, name):
    adapted = adapt(core, core.vocabulary, name, seed=1)
    assert equal(heads(made, adapted, "a"), heads(made, core, "a"))
    assert not adapted.training


@pytest.mark.parametrize("name", ADAPTERS)
def test_training_reaches_what_the_adapter_names_and_never_the_core(made, core, name):
    before = {n: t.clone() for n, t in core.state_dict().items()}
    flags = [p.requires_grad for p in core.parameters()]
    fresh = adapt(core, NEW, name, seed=1)
    adapted = trained(made, copy.deepcopy(fresh))
    changed = {
        n
        for (n, new), (_, old) in zip(
            adapted.state_dict().items(), fresh.state_dict().items(), strict=True
        )
        if not torch.equal(new, old)
    }
    parts = {
        "unit_id": {"tokenizers", "decode"},
        "lora": {"tokenizers", "decode", "backbone", "perceiver"},
        "bottleneck": {"tokenizers", "decode", "backbone", "perceiver"},
        "head": {"decode"},
    }
    if name in parts:
        assert {n.split(".")[0] for n in changed} == parts[name]
    inside = {n for n in changed if n.startswith(("backbone.", "perceiver."))}
    marks = {"lora": "lora_", "bottleneck": ".bottleneck."}
    if name != "full":
        assert all(marks[name] in n for n in inside)
    assert equal(core.state_dict(), before)
    assert [p.requires_grad for p in core.parameters()] == flags


def test_lora_and_bottleneck_lie_on_every_projection(core):
    layers = {
        "lora": {"in_proj", "out_proj", "to_query", "to_key_value", "out"},
        "bottleneck": {"out_proj", "out", "feed_forward"},
    }
    for name, expected in layers.items():
        adapted = adapt(core, NEW, name, seed=1)
        wrapped = {n for n, part in adapted.named_modules() if hasattr(part, "base_layer")}
        core_layers = {
            n
            for n, _ in core.named_modules()
            if n.split(".")[-1] in expected and n.startswith(("backbone.", "perceiver."))
        }
        assert wrapped == core_layers
        assert {n.split(".")[-1] for n in wrapped} == expected


def test_rank_and_width_are_those_asked_for(core):
    options = AdapterOptions(rank=3, dropout=0.25, width=5)
    low = adapt(core, NEW, "lora", 1, options).perceiver.read.to_query
    small = adapt(core, NEW, "bottleneck", 1, options).perceiver.read.out
    assert low.lora_A["default"].weight.shape == (3, 32)
    assert low.scaling["default"] == 1.0
    assert low.lora_dropout["default"].p == 0.25
    assert small.bottleneck[0].weight.shape == (5, 32)
    off = adapt(core, NEW, "lora", 1).perceiver.read.to_query
    assert isinstance(off.lora_dropout["default"], nn.Identity)


def test_a_bottleneck_worked_out_by_hand(core):
    layer = adapt(core, NEW, "bottleneck", 1, AdapterOptions(width=1)).perceiver.read.out
    into, _, out = layer.bottleneck
    for part, weight, bias in ((into, 0.0, 100.0), (out, 2.0, 0.5)):
        nn.init.constant_(part.weight, weight)
        nn.init.constant_(part.bias, bias)
    x = torch.randn(4, 32)  # GELU(100) = 100
    torch.testing.assert_close(layer(x), layer.base_layer(x) + 200.5)


def test_channels_that_both_know_keep_their_embeddings(core):
    some = {"spikes": Known([("b", 0), ("a", 3), ("a", 1)], [])}
    adapted = adapt(core, some, "unit_id", seed=1)
    units, old = adapted.tokenizers["spikes"].units, core.tokenizers["spikes"].units
    for key in (("a", 3), ("a", 1)):
        row, before = (u.rows([key])[0][0] for u in (units, old))
        assert torch.equal(units.gain.weight[row], old.gain.weight[before])
    assert len(units) == 3
    assert len(adapted.tokenizers["lfp"].units) == 0


def test_new_channels_begin_small_where_a_model_is_trained(core):
    """It makes much of an embedding, and would fit few windows by what was drawn for them."""
    new = adapt(core, NEW, "unit_id", seed=1).tokenizers["spikes"].units.gain.weight[1:]
    before = core.tokenizers["spikes"].units.gain.weight[1:]
    assert 0 < new.std() < 0.2 * before.std()


@pytest.mark.parametrize("name", ADAPTERS)
def test_saved_alone_and_loaded_it_answers_bit_equally(made, core, name, tmp_path):
    options = AdapterOptions(rank=2, width=4)
    adapted = trained(made, adapt(core, NEW, name, 1, options)).eval()
    save_adapter(tmp_path, adapted, core, name, options)
    before, state = heads(made, core, "a"), torch.random.get_rng_state()
    again = load_adapter(core, tmp_path)

    assert equal(heads(made, again), heads(made, adapted))
    assert again.vocabulary == adapted.vocabulary
    assert equal(heads(made, core, "a"), before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [p.requires_grad for p in again.parameters()] == [
        p.requires_grad for p in adapted.parameters()
    ]


def test_several_lie_on_one_core_and_share_its_memory(made, core, tmp_path):
    alone = {}
    for name, steps in (("unit_id", 1), ("lora", 3), ("bottleneck", 2)):
        adapted = trained(made, adapt(core, NEW, name, seed=steps), steps).eval()
        save_adapter(tmp_path / name, adapted, core, name)
        alone[name] = heads(made, adapted)
    before = heads(made, core, "a")
    adapters = {name: load_adapter(core, tmp_path / name) for name in alone}
    for name in ("lora", "unit_id", "bottleneck", "lora"):
        assert equal(heads(made, adapters[name]), alone[name])
        assert equal(heads(made, core, "a"), before)
        trained(made, adapters[name], steps=1)  # one goes on learning; nobody else notices it
        alone[name] = heads(made, adapters[name])
    memory = {t.data_ptr() for t in core.parameters()}
    shared = sum(p.numel() for p in adapters["lora"].parameters() if p.data_ptr() in memory)
    assert shared > 0.9 * sum(p.numel() for p in core.backbone.parameters())


def test_files_are_kilobytes_where_the_core_is_megabytes(made, tmp_path):
    core = tiny_model(made, ["a"], d_model=256, latent_dim=256, headdim=32, n_blocks=4, d_state=32)
    core.save_pretrained(tmp_path / "core")
    whole = (tmp_path / "core" / "model.safetensors").stat().st_size
    sizes = {}
    for name in ADAPTERS:
        save_adapter(tmp_path / name, adapt(core, NEW, name, seed=1), core, name)
        sizes[name] = (tmp_path / name / "adapter.safetensors").stat().st_size
    assert sizes["head"] <= sizes["unit_id"] < 60e3
    assert whole > 10e6
    assert max(sizes["lora"], sizes["bottleneck"]) < 0.05 * whole


def test_another_core_is_refused(made, core, tmp_path):
    save_adapter(tmp_path, adapt(core, NEW, "unit_id", seed=1), core, "unit_id")
    other = copy.deepcopy(core)
    with torch.no_grad():
        next(other.backbone.parameters()).flatten()[0] += 1e-6
    with pytest.raises(UserError, match=r"made for a model of hash .* run `neurofmx adapt` again"):
        load_adapter(other, tmp_path)
    with pytest.raises(UserError, match=r"holds no adapter.json; run `neurofmx adapt` first"):
        load_adapter(core, tmp_path / "nowhere")


def test_merged_it_is_a_plain_model_and_unmerged_bit_equal(made, core, tmp_path):
    before = {n: t.clone() for n, t in core.state_dict().items()}
    adapted = trained(made, adapt(core, NEW, "lora", seed=1), steps=5).eval()
    own = {n: t.clone() for n, t in adapted.state_dict().items()}
    answers = heads(made, adapted)
    assert not torch.allclose(
        answers["decode.velocity"],
        heads(made, adapt(core, NEW, "lora", seed=1))["decode.velocity"],
        atol=1e-2,
    )

    merge(adapted)
    merged = heads(made, adapted)
    for name, head in answers.items():
        torch.testing.assert_close(merged[name], head, rtol=1e-5, atol=1e-5)
    assert adapted.state_dict().keys() == core.state_dict().keys()
    adapted.save_pretrained(tmp_path)
    assert equal(heads(made, NeuroFMX.from_pretrained(tmp_path)), merged)
    with pytest.raises(ValueError, match="unmerge"):
        save_adapter(tmp_path, adapted, core, "lora")

    unmerge(adapted)
    assert equal(adapted.state_dict(), own)
    assert equal(heads(made, adapted), answers)
    assert equal(core.state_dict(), before)


def test_a_bottleneck_cannot_be_merged(core):
    with pytest.raises(ValueError, match="not linear"):
        merge(adapt(core, NEW, "bottleneck", seed=1))


@pytest.mark.parametrize("below", ["lora", "bottleneck"])
@pytest.mark.parametrize("name", ["lora", "bottleneck"])
def test_an_adapter_does_not_lie_on_another(core, name, below):
    with pytest.raises(ValueError, match="has an adapter already"):
        adapt(adapt(core, NEW, below, seed=1), NEW, name, seed=1)


def test_what_is_written_says_what_it_belongs_to(core, tmp_path):
    options = AdapterOptions(rank=4)
    save_adapter(tmp_path, adapt(core, NEW, "lora", 1, options), core, "lora", options)
    about = json.loads((tmp_path / "adapter.json").read_text())
    assert about["adapter"] == "lora"
    assert about["options"]["rank"] == 4
    assert len(about["core"]) == 64
