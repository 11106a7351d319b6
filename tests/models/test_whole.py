"""The whole model in bfloat16: whatever signals come, every loss and gradient is a number."""

import dataclasses
import itertools
from typing import get_args

import pytest
import torch
from wholes import (
    SIGNALS,
    TASKS,
    objectives,
    of_precision,
    prepared,
    reached,
    whole,
    windows,
)

from neurofmx.batches import HeadName

SUBSETS = [s for n in range(1, 6) for s in itertools.combinations(SIGNALS, n)]


def losses(model, batch, precision):
    """Of every objective."""
    asked = objectives(model)
    batch = prepared(model, batch, asked)
    with torch.no_grad():
        batch = dataclasses.replace(batch, teacher=whole(seed=1)(batch))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
        output = model(batch, heads=get_args(HeadName))
        return {name: objective.loss(output, batch) for name, objective in asked.items()}


@pytest.mark.parametrize("precision", ["bfloat16", "autocast"])
@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_gradients_are_finite_in_bfloat16_whatever_signals_come(names, precision):
    model = of_precision(whole(), precision)
    found = losses(model, windows(names), precision)
    torch.stack([loss.float() for loss in found.values()]).sum().backward()

    assert all(loss.isfinite() for loss in found.values()), found
    gradients = reached(model)
    tokenized = {name.split(".")[1] for name in gradients if name.startswith("tokenizers.")}
    assert tokenized == set(names)
    assert any(x.any() for name, x in gradients.items() if name.startswith("backbone."))
    for kind in TASKS:
        assert any(x.any() for name, x in gradients.items() if name.startswith(f"decode.{kind}."))


@pytest.mark.parametrize("precision", ["bfloat16", "autocast"])
def test_gradients_of_a_causal_model_are_finite_in_bfloat16(precision):
    model = of_precision(whole(causal=True), precision)
    found = losses(model, windows(SIGNALS), precision)
    torch.stack([loss.float() for loss in found.values()]).sum().backward()
    assert all(loss.isfinite() for loss in found.values()), found
    assert any(x.any() for x in reached(model).values())


def test_every_objective_has_something_to_ask_of_all_signals():
    """So that the gradients above are those of losses, not of zeros."""
    found = losses(whole(), windows(SIGNALS), "float32")
    few = {"mmd", "contrastive_behaviour"}  # which ask nothing of two windows
    assert {name for name, loss in found.items() if loss.abs() < 1e-3} == few, found


def test_a_batch_without_any_signal_is_refused():
    with pytest.raises(ValueError, match="at least one of binned, continuous, image, audio"):
        whole()(windows([]))
