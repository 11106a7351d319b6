"""What is asked of channels: losses worked out by hand, and planted rates."""

import math

import pytest
import torch
from scipy.stats import norm, poisson

from neurofmx.batches import Batch, Cells, Hidden, ModelOutput
from neurofmx.objectives import forecast, masked
from neurofmx.objectives.deviance import deviance
from neurofmx.sequence import TokenizedSequence

BATCH = Batch({}, {}, ["r"], [0])


def traces(*values: float, tokens: int = 1) -> Cells:
    """A window of one channel, cut into tokens."""
    samples = torch.tensor(values).reshape(1, tokens, 1, -1)
    return Cells(samples, torch.ones_like(samples, dtype=torch.bool))


def counts(*numbers: float, tokens: int = 1, mean: float = 0.5, scale: float = 2.0) -> Cells:
    """The same of counts, as the loader normalises them."""
    cells = traces(*((math.sqrt(n) - mean) / scale for n in numbers), tokens=tokens)
    of_token = (1, 1, 1, cells.values.shape[3])
    said = (torch.full(of_token, x) for x in (1 / scale, -mean / scale, 1.0))
    return Cells(cells.values, cells.seen, *said)


def said(cells: Cells, horizons=(), **heads: torch.Tensor) -> ModelOutput:
    """What a model says of these cells."""
    tokens = cells.seen.shape[1]
    mask = torch.ones(1, tokens, dtype=torch.bool)
    sequence = TokenizedSequence(torch.zeros(1, tokens, 2), 0.0, 0.2, mask)
    told = {name.replace("_", "."): head for name, head in heads.items()}
    return ModelOutput(
        torch.zeros(1, 1, 2), {"x": sequence}, told, {"x": cells}, {"x": list(horizons)}
    )


def hidden(channel: bool, *tokens: bool) -> Hidden:
    return Hidden({"x": torch.tensor([[channel]])}, {"x": torch.tensor([list(tokens)])})


def test_counts_are_found_again():
    assert counts(0, 1, 2, 7, 400).truth.flatten().tolist() == pytest.approx([0, 1, 2, 7, 400])


def test_counts_that_noise_leads_below_nothing_are_0():
    below = counts(0.0)
    assert Cells(below.values - 1, *list(vars(below).values())[1:]).truth.item() == 0


def test_deviance_is_twice_what_the_best_answer_has_over_the_one_given():
    """An independent oracle: scipy's likelihoods."""
    numbers, rates = [0, 1, 2, 5, 9], [0.3, 1.0, 0.1, 7.0, 4.0]
    told = torch.tensor(rates).log().reshape(1, 1, 1, -1)
    best = [poisson.logpmf(n, n) for n in numbers]
    gained = [2 * (b - poisson.logpmf(n, r)) for b, n, r in zip(best, numbers, rates, strict=True)]
    found, _ = deviance(told, counts(*numbers))
    assert found.flatten().tolist() == pytest.approx(gained, abs=1e-5)

    found, _ = deviance(torch.full((1, 1, 1, 1), 0.5), traces(2.0))
    assert found.item() == pytest.approx(2 * (norm.logpdf(0) - norm.logpdf(1.5)))


@pytest.mark.parametrize("rate", [2.0, 5.0, 20.0])
def test_who_tells_the_mean_rate_is_left_with_about_1_as_of_traces(rate):
    g = torch.Generator().manual_seed(0)
    numbers = torch.poisson(torch.full((20_000,), rate), generator=g)
    found, _ = deviance(torch.full((1, 1, 1, 20_000), math.log(rate)), counts(*numbers.tolist()))
    assert found.mean().item() == pytest.approx(1.0, abs=0.2)


def test_masked_looks_only_at_what_was_hidden():
    told = torch.zeros(1, 2, 1, 2)  # two tokens of two samples; the second is hidden
    output = said(traces(9.0, 9.0, 1.0, 3.0, tokens=2), reconstruct_x=told)
    assert masked(output, BATCH, hidden(False, False, True)).item() == (1 + 9) / 2
    assert masked(output, BATCH, hidden(False, False, False)).item() == 0
    assert masked(output, BATCH).item() == 0


def test_masked_leaves_out_what_was_not_recorded():
    output = said(traces(9.0, 9.0, 1.0, 3.0, tokens=2), reconstruct_x=torch.zeros(1, 2, 1, 2))
    output.cells["x"].seen[:, 0] = False
    assert masked(output, BATCH, hidden(True, False, False)).item() == (1 + 9) / 2


def test_signals_count_alike_however_many_samples_they_have():
    one, many = traces(2.0), traces(1.0, 1.0, 1.0)
    output = said(one, reconstruct_x=torch.zeros(1, 1, 1, 1))
    output.cells["y"], output.heads["reconstruct.y"] = many, torch.zeros(1, 1, 1, 3)
    both = Hidden(*({n: torch.ones(1, 1, dtype=torch.bool) for n in "xy"} for _ in range(2)))
    assert masked(output, BATCH, both).item() == (4 + 1) / 2
    one.seen[:] = False
    assert masked(output, BATCH, both).item() == 1


def test_forecast_is_of_the_tokens_at_its_horizons():
    """Three tokens of one sample: 1 and 2 tokens ahead, made at each token."""
    told = torch.tensor([[1.0, 2.0, 9.0], [3.0, 9.0, 9.0]]).reshape(1, 2, 3, 1, 1)
    output = said(traces(9.0, 1.5, 4.0, tokens=3), [1, 2], forecast_x=told)
    assert forecast(output, BATCH).item() == pytest.approx((0.25 + 4 + 1) / 3)
    output.cells["x"].seen[:, 2] = False
    assert forecast(output, BATCH).item() == 0.25


def test_a_forecast_of_what_lies_beyond_the_window_asks_nothing():
    told = torch.full((1, 1, 2, 1, 1), 5.0, requires_grad=True)
    loss = forecast(said(traces(1.0, 1.0, tokens=2), [2], forecast_x=told), BATCH)
    loss.backward()
    assert loss.item() == 0
    assert (told.grad == 0).all()
    assert forecast(ModelOutput(torch.zeros(1, 1, 2), {}, {}, {}), BATCH).item() == 0


def test_what_is_not_asked_has_no_gradient_whatever_is_told_there():
    told = torch.tensor([0.0, 80.0]).reshape(1, 1, 1, 2).requires_grad_()
    cells = counts(2.0, 3.0)
    cells.seen[..., 1] = False
    masked(said(cells, reconstruct_x=told), BATCH, hidden(True, False)).backward()
    assert told.grad.flatten().tolist() == pytest.approx([2 * (1 - 2), 0])
