"""An exported step gives what the model gives, step after step, in another runtime."""

import json
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from neurofmx.errors import UserError
from neurofmx.models.backbone import MambaBackbone
from neurofmx.serving.export import OnnxStep, export_step

STEPS = 40


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return MambaBackbone(32, 1, d_state=8, headdim=16, rates=(1, 4)).eval()


@pytest.fixture(scope="module")
def tokens():
    return torch.randn(2, STEPS, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def mask():
    return torch.rand(2, STEPS, generator=torch.Generator().manual_seed(1)) > 0.3


@pytest.fixture(scope="module")
def folder(backbone, tokens, mask, tmp_path_factory):
    inputs = {"x": tokens[:, 0], "mask": mask[:, 0]}
    return export_step(backbone, inputs, backbone.initial(2), tmp_path_factory.mktemp("step"))


@torch.no_grad()
def test_onnxruntime_goes_the_way_of_the_forward_pass(backbone, tokens, mask, folder):
    truth = backbone(tokens, mask)
    exported = OnnxStep(folder)
    for again in range(2):  # from nothing, and from nothing again
        for i in range(STEPS):
            found = exported(x=tokens[:, i].numpy(), mask=mask[:, i].numpy())["output"]
            np.testing.assert_allclose(
                found, truth[:, i], rtol=1e-5, atol=1e-5, err_msg=f"{again} {i}"
            )
        exported.reset()


@torch.no_grad()
def test_the_exported_program_goes_the_way_of_the_step(backbone, tokens, mask, folder):
    step, state = torch.export.load(folder / "step.pt2").module(), backbone.initial(2)
    flat = pytree.tree_leaves(state)
    for i in range(STEPS):
        truth, state = backbone.step(tokens[:, i], state, mask[:, i])
        found, *flat = step(tokens[:, i], mask[:, i], *flat)
        torch.testing.assert_close(found, truth, rtol=1e-5, atol=1e-5)
        for one, other in zip(flat, pytree.tree_leaves(state), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_the_names_of_the_tensors_are_their_paths(folder):
    names = json.loads((folder / "step.json").read_text())
    assert names["inputs"] == ["x", "mask"]
    assert names["outputs"] == ["output"]
    assert "state.0.0.ssm" in names["state"]
    assert "state.1.phase" in names["state"]
    assert [n.replace("after", "state", 1) for n in names["after"]] == names["state"]
    assert {file.name for file in folder.iterdir()} == {
        "step.json",
        "step.onnx",
        "step.pt2",
        "state.safetensors",
    }


class Sums(NamedTuple):
    one: Tensor
    other: Tensor


class Adder(nn.Module):
    """Two running sums, of which the second runs twice as fast."""

    def step(self, x, state):
        one, other = state["sums"]
        left = Sums(one + x, other + 2 * x)
        return {"reach": left.one, "made-1": left.other}, {"sums": left, "still": state["still"]}

    def initial(self):
        zero = torch.zeros(3)  # one tensor, twice
        return {"sums": Sums(zero, zero), "still": torch.ones(1, dtype=torch.int64)}


def test_nested_states_and_outputs_worked_out_by_hand(tmp_path):
    adder = Adder()
    export_step(adder, {"x": torch.zeros(3)}, adder.initial(), tmp_path)
    step = OnnxStep(tmp_path)
    for i in range(1, 4):
        found = step(x=np.array([1, 2, 3], np.float32))
        assert found["output.reach"].tolist() == [i, 2 * i, 3 * i]
        assert found["output.made-1"].tolist() == [2 * i, 4 * i, 6 * i]
    assert step.state["state.still"].tolist() == [1]


class Grower(nn.Module):
    """A step whose state grows: no stream."""

    def step(self, x, state):
        return x, torch.cat([state, x])


def test_a_state_that_cannot_go_in_again_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a step of Grower leaves a state of other structure"):
        export_step(Grower(), {"x": torch.zeros(1)}, torch.zeros(1), tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match=r"holds no step.json"):
        OnnxStep(tmp_path)
