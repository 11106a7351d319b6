"""Losses worked out by hand."""

import math

import pytest
import torch

from neurofmx.batches import Batch, ModelOutput, Target
from neurofmx.objectives.decode import Decode, unexplained


def batch(target=None):
    """A window, and maybe a target."""
    return Batch({}, {"task": target} if target else {}, ["r"], [0])


def output(**heads):
    """What the model says of a window."""
    return ModelOutput(torch.zeros(1, 1, 2), {}, heads)


def decode(said, batch):
    return Decode().loss(said, batch)


def target(kind, values, mask):
    values = torch.tensor(values)[None, :, None]
    return Target(kind, values, torch.zeros(values.shape[:2]), torch.tensor([mask]))


def test_decode_is_a_mean_over_answered_queries():
    asked = target("regression", [1.0, math.nan, 3.0], [True, False, True])
    params = torch.tensor([[[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]], requires_grad=True)
    loss = decode(output(**{"decode.task": params}), batch(asked))
    loss.backward()
    assert loss.item() == (1 + 4) / 2  # at variance 1, whose logarithm is 0
    assert params.grad[0, :, 0].tolist() == [-1, 0, -2]


def test_decode_is_a_mean_over_the_tasks_that_are_asked():
    one, other = target("regression", [1.0, 2.0], [True, True]), target("circular", [0.0], [True])
    never = target("ordinal", [0.0], [False])
    said = {"decode.one": torch.zeros(1, 2, 2), "decode.other": torch.zeros(1, 1, 2)}
    said["decode.never"] = torch.zeros(1, 1, 3)
    asked = Batch({}, {"one": one, "other": other, "never": never}, ["r"], [0])
    loss = decode(output(**said), asked)
    assert loss.item() == pytest.approx(((1 + 4) / 2 + math.log(2 * math.pi)) / 2)
    left = unexplained(output(**said), asked)
    assert {name: len(x) for name, x in left.items()} == {"one": 2, "other": 1, "never": 0}


def test_decode_of_classes_is_cross_entropy():
    asked = target("classification", [1.0], [True])
    logits = torch.tensor([[[0.0, math.log(3.0)]]])  # class 1 has probability 3/4
    loss = decode(output(**{"decode.task": logits}), batch(asked))
    assert math.isclose(loss.item(), math.log(4 / 3), rel_tol=1e-6)


def told(logits, asked):
    return unexplained(output(**{"decode.task": logits}), batch(asked))["task"].mean().item()


def test_unexplained_is_1_for_guessing_and_0_for_knowing():
    asked = target("classification", [1.0, 0.0, 1.0, 0.0], [True] * 4)
    for logit, left in ((1.0, 1.0), (0.0, 1.0)):  # always class 1, always class 0: half is wrong
        logits = torch.tensor([[[0.5, logit]] * 4])
        assert told(logits, asked) == left
    known = torch.tensor([[[0.0, 9.0], [9.0, 0.0]] * 2])
    assert told(known, asked) == 0.0


def test_decode_without_any_answer_is_0():
    asked = target("regression", [1.0], [False])
    loss = decode(output(**{"decode.task": torch.ones(1, 1, 2)}), batch(asked))
    assert loss.item() == 0
