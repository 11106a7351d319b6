"""Losses worked out by hand."""

import math

import torch

from neurofmx.batches import Batch, Cells, Hidden, ModelOutput, Target
from neurofmx.objectives import decode, forecast, masked
from neurofmx.objectives.decode import unexplained
from neurofmx.sequence import TokenizedSequence


def batch(target=None):
    """A window, and maybe a target."""
    return Batch({}, {"task": target} if target else {}, ["r"], [0])


def output(values=(0.0,), tokens=1, **heads):
    """What the model says of a window of one channel, cut into tokens."""
    mask = torch.ones(1, tokens, dtype=torch.bool)
    sequence = TokenizedSequence(
        torch.zeros(1, tokens, 2), torch.zeros(1, dtype=torch.float64), torch.tensor(0.2), mask
    )
    samples = torch.tensor(values).reshape(1, tokens, 1, -1)
    cells = Cells(samples, torch.ones_like(samples, dtype=torch.bool))
    return ModelOutput(torch.zeros(1, 1, 2), {"spikes": sequence}, heads, {"spikes": cells})


def target(kind, values, mask):
    values = torch.tensor(values)[None, :, None]
    return Target(kind, values, torch.zeros(values.shape[:2]), torch.tensor([mask]))


def test_decode_is_a_mean_over_answered_queries():
    asked = target("regression", [1.0, 5.0, 3.0], [True, False, True])
    predicted = torch.tensor([[[0.0], [0.0], [1.0]]])
    loss = decode(output(**{"decode.task": predicted}), batch(asked))
    assert loss.item() == (1 + 4) / 2


def test_decode_of_classes_is_cross_entropy():
    asked = target("classification", [1.0], [True])
    logits = torch.tensor([[[0.0, math.log(3.0)]]])  # class 1 has probability 3/4
    loss = decode(output(**{"decode.task": logits}), batch(asked))
    assert math.isclose(loss.item(), math.log(4 / 3), rel_tol=1e-6)


def test_unexplained_is_1_for_guessing_and_0_for_knowing():
    asked = target("classification", [1.0, 0.0, 1.0, 0.0], [True] * 4)
    for logit, left in ((1.0, 1.0), (0.0, 1.0)):  # always class 1, always class 0: half is wrong
        logits = torch.tensor([[[0.5, logit]] * 4])
        assert unexplained(output(**{"decode.task": logits}), batch(asked)).tolist() == [left]
    known = torch.tensor([[[0.0, 9.0], [9.0, 0.0]] * 2])
    assert unexplained(output(**{"decode.task": known}), batch(asked)).tolist() == [0.0]


def test_decode_without_any_answer_is_0():
    asked = target("regression", [1.0], [False])
    loss = decode(output(**{"decode.task": torch.ones(1, 1, 1)}), batch(asked))
    assert loss.item() == 0


def test_masked_looks_only_at_what_was_hidden():
    hidden = Hidden({"spikes": torch.tensor([[False]])}, {"spikes": torch.tensor([[False, True]])})
    told = torch.zeros(1, 2, 1, 2)  # two tokens of two samples; the second is hidden
    said = output([9.0, 9.0, 1.0, 3.0], 2, **{"reconstruct.spikes": told})
    assert masked(said, batch(), hidden).item() == (1 + 9) / 2


def test_masked_leaves_out_what_was_not_recorded():
    hidden = Hidden({"spikes": torch.tensor([[True]])}, {"spikes": torch.tensor([[False, False]])})
    said = output([9.0, 9.0, 1.0, 3.0], 2, **{"reconstruct.spikes": torch.zeros(1, 2, 1, 2)})
    said.cells["spikes"].seen[:, 0] = False
    assert masked(said, batch(), hidden).item() == (1 + 9) / 2


def test_forecast_is_of_the_next_token():
    told = torch.tensor([[[[1.0, 2.0]], [[7.0, 7.0]]]])  # made at token 0 for samples 2 and 3
    said = output([9.0, 9.0, 1.0, 4.0], 2, **{"forecast.spikes": told})
    assert forecast(said, batch()).item() == (0 + 4) / 2
