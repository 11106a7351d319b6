"""Smaller models: int8 weights, weights set to 0, and a student that learns from a teacher."""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from windows import recording, shards, tiny_model

from neurofmx.batches import Batch, Cells, ModelOutput, Target
from neurofmx.data.loader import Collator
from neurofmx.errors import UserError
from neurofmx.models import Known, NeuroFMX
from neurofmx.models.adapters import adapt
from neurofmx.models.compress import linear_maps, load_int8, prune, quantise, save_int8
from neurofmx.objectives.distill import Distill
from neurofmx.training.fit import Fit
from neurofmx.training.optim import OptimizerParams
from neurofmx.training.recipe import FitParams


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return shards(tmp_path_factory.mktemp("one"), [recording("a")])


@pytest.fixture(scope="module")
def model(made):
    return tiny_model(made, ["a"], d_model=128, latent_dim=128).eval()


def heads(made, model):
    with torch.no_grad():
        return model(Collator(made, model.rows)(made.positions("train")[:6])).heads


def test_int8_answers_as_the_model_does_within_its_rounding(made, model, tmp_path):
    before, state = heads(made, model), {n: t.clone() for n, t in model.state_dict().items()}
    small = quantise(model)
    after = heads(made, small)
    for task in ("decode.velocity", "decode.cue"):
        wrong = (after[task] - before[task]).square().mean() / before[task].square().mean()
        assert 0 < wrong.sqrt() < 0.1
    assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items())

    save_int8(tmp_path, small)
    again = load_int8(tmp_path)
    assert all(torch.equal(head, after[name]) for name, head in heads(made, again).items())
    assert again.vocabulary == model.vocabulary
    model.save_pretrained(tmp_path / "floats")
    size = (tmp_path / "int8.safetensors").stat().st_size
    bytes_saved = 3 * sum(part.weight.numel() for part in linear_maps(model).values())
    assert size < (tmp_path / "floats" / "model.safetensors").stat().st_size - 0.95 * bytes_saved


def test_int8_weights_are_the_nearest_multiples_of_each_outputs_scale(model):
    name, part = next(iter(linear_maps(model).items()))
    weight, _ = quantise(model).get_submodule(name)._weight_bias()
    error = (weight.dequantize() - part.weight).abs()
    scale = part.weight.abs().amax(dim=1, keepdim=True) / 127
    assert (error <= 0.5001 * scale).all()
    assert weight.int_repr().abs().amax(dim=1).eq(127).all()


def test_what_cannot_be_quantised_is_refused(made, model, tmp_path):
    with pytest.raises(ValueError, match=r"this one is torch.bfloat16 on cpu"):
        quantise(copy.deepcopy(model).bfloat16())
    with pytest.raises(ValueError, match="merge it"):
        quantise(adapt(model, {"spikes": Known([], [])}, "bottleneck", seed=0))
    with pytest.raises(ValueError, match="quantised already"):
        quantise(quantise(model))
    with pytest.raises(UserError, match=r"holds no int8.safetensors"):
        load_int8(tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_pruning_sets_the_exact_number_of_least_weights_to_0(made, model, share, tmp_path):
    small = prune(model, share)
    before = torch.cat([part.weight.flatten() for part in linear_maps(model).values()])
    after = torch.cat([part.weight.flatten() for part in linear_maps(small).values()])
    zeros = after == 0
    assert zeros.sum() == round(share * before.numel())
    assert torch.equal(after[~zeros], before[~zeros])
    assert before[zeros].abs().max() <= before[~zeros].abs().min()
    assert not (before == 0).any()
    small.save_pretrained(tmp_path)
    again = NeuroFMX.from_pretrained(tmp_path)
    assert heads(made, again).keys() == heads(made, model).keys()
    for name, part in linear_maps(again).items():
        assert torch.equal(part.weight, small.get_submodule(name).weight)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 2.0])
def test_a_share_that_is_none_is_refused(model, share):
    with pytest.raises(ValueError, match=f"share {share}"):
        prune(model, share)


def test_distill_worked_out_by_hand():
    target = Target("regression", torch.zeros(1, 2, 1), torch.zeros(1, 2), torch.ones(1, 2) > 0)
    target.mask[0, 1] = False
    cells = Cells(torch.zeros(1, 2, 1, 1), torch.tensor([True, False])[None, :, None, None])

    def output(**said):
        said = {name.replace("_", "."): torch.tensor(values) for name, values in said.items()}
        return ModelOutput(torch.zeros(1, 1, 1), {}, said)

    teacher = output(
        decode_task=[[[1.0, 2.0], [7.0, 7.0]]],
        reconstruct_lfp=[[[[3.0]], [[9.0]]]],
        forecast_lfp=[[[[[1.0]], [[9.0]]], [[[2.0]], [[9.0]]]]],
        contrastive_lfp=[[5.0]],
    )
    student = output(
        decode_task=[[[0.0, 0.0], [0.0, 0.0]]],
        reconstruct_lfp=[[[[0.0]], [[0.0]]]],
        forecast_lfp=[[[[[0.0]], [[0.0]]], [[[0.0]], [[0.0]]]]],
        contrastive_lfp=[[0.0]],
    )
    batch, distill = Batch({}, {"task": target}, ["r"], [0], cells={"lfp": cells}), Distill().loss
    with pytest.raises(ValueError, match="needs what a teacher says"):
        distill(student, batch)
    # means over what was asked: of the task, of the samples, of two horizons
    expected = ((1 + 4) / 2 + 9 + (1 + 4) / 2) / 3
    taught = dataclasses.replace(batch, teacher=teacher)
    assert distill(student, taught).item() == pytest.approx(expected)
    assert distill(teacher, taught).item() == 0


def fit(made, model, folder, teacher=None, epochs=4, **objectives):
    folder.mkdir()
    weights = {"decode": 1.0} | objectives
    params = FitParams(
        epochs=epochs,
        batch_size=8,
        objectives=weights,
        optimizer=OptimizerParams(lr=1e-2),
        valid_every=1000,
    )
    Fit(model, made, ["a"], params, 0, folder, teacher=teacher).run("fit")
    return model.eval()


def test_a_student_of_a_teacher_comes_nearer_to_it_than_one_without(made, tmp_path):
    teacher = fit(made, tiny_model(made, ["a"], 1), tmp_path / "teacher")
    told = heads(made, teacher)
    before = {n: t.clone() for n, t in teacher.state_dict().items()}
    students = {}
    for name, given in (("alone", {}), ("taught", {"teacher": teacher, "distill": 1.0})):
        small = tiny_model(made, ["a"], 2, d_model=16, latent_dim=16, n_latents=4)
        students[name] = fit(made, small, tmp_path / name, **given)

    def distance(model):
        said = heads(made, model)
        tasks = [name for name in said if name.startswith("decode.")]
        return sum(nn.functional.mse_loss(said[t], told[t]).item() for t in tasks)

    assert distance(students["taught"]) < 0.7 * distance(students["alone"])
    assert all(torch.equal(t, before[n]) for n, t in teacher.state_dict().items())


def test_a_teacher_that_does_not_fit_is_refused(made, tmp_path):
    model, stranger = tiny_model(made, ["a"]), tiny_model(made, [])
    with pytest.raises(UserError, match="knows other channels"):
        fit(made, model, tmp_path / "stranger", stranger, distill=1.0)
    with pytest.raises(UserError, match="go together"):
        fit(made, model, tmp_path / "nobody", distill=1.0)
    with pytest.raises(UserError, match="go together"):
        fit(made, model, tmp_path / "idle", tiny_model(made, ["a"]))
