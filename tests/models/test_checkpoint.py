"""What is saved is read back bit by bit; what is not this model's is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from windows import recording, shards, tiny_model

from neurofmx.data.collate import Collator
from neurofmx.errors import UserError
from neurofmx.models import NeuroFMX
from neurofmx.models.checkpoint import parameter_table


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return shards(tmp_path_factory.mktemp("made"), [recording("a")])


@pytest.fixture
def saved(made, tmp_path):
    model = tiny_model(made, ["a"], 0).eval()
    model.save_pretrained(tmp_path / "model")
    return model, tmp_path / "model"


def test_a_model_comes_back_bit_equal_after_a_forward(saved, made, tmp_path):
    model, folder = saved
    batch = Collator(made, model.rows)(made.positions("train")[:4])
    before = model(batch)
    model.save_pretrained(folder)
    again = NeuroFMX.from_pretrained(folder)
    state = model.state_dict()
    assert again.config == model.config
    assert again.state_dict().keys() == state.keys()
    assert all(torch.equal(x, state[name]) for name, x in again.state_dict().items())
    after = again(batch)
    assert all(torch.equal(x, after.heads[name]) for name, x in before.heads.items())
    again.save_pretrained(tmp_path / "twice")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "twice" / name).read_bytes() == (folder / name).read_bytes()


def change(folder, state):
    save_file(state, folder / "model.safetensors")


def test_tensors_of_another_model_are_refused(saved):
    _, folder = saved
    state = load_file(folder / "model.safetensors")
    change(folder, state | {"made.up": torch.zeros(3)})
    with pytest.raises(UserError, match=r"model.safetensors: made.up unknown in a model built"):
        NeuroFMX.from_pretrained(folder)
    change(folder, {name: x for name, x in state.items() if not name.startswith("perceiver")})
    with pytest.raises(UserError, match=r"perceiver.latents, .* and \d+ more missing in a model"):
        NeuroFMX.from_pretrained(folder)
    change(folder, state | {"hidden_token": torch.zeros(3)})
    with pytest.raises(UserError, match=r"(?s)another shape than config.json says: .*hidden_token"):
        NeuroFMX.from_pretrained(folder)
    change(folder, state)
    NeuroFMX.from_pretrained(folder)


def test_a_folder_without_a_model_or_with_half_of_one_says_so(saved, tmp_path):
    _, folder = saved
    with pytest.raises(UserError, match=r"holds no model.safetensors; run `neurofmx pretrain`"):
        NeuroFMX.from_pretrained(tmp_path)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"model.safetensors cannot be read: "):
        NeuroFMX.from_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model": {}, "durations": 3}))
    with pytest.raises(UserError, match=r"durations: unknown key"):
        NeuroFMX.from_pretrained(folder)


def test_the_table_counts_every_parameter_once(saved):
    model, _ = saved
    rows = parameter_table(model)
    assert sum(n for _, _, n, _ in rows) == model.num_parameters()
    assert sum(share for _, _, _, share in rows) == pytest.approx(1)
    backbone = {name: n for name, _, n, _ in rows}["backbone"]
    assert backbone == sum(p.numel() for p in model.backbone.parameters())
    model.backbone.requires_grad_(False)
    assert model.num_parameters(trained=True) == model.num_parameters() - backbone
