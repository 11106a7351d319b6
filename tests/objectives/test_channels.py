"""What is asked of channels: losses worked out by hand, and planted rates."""

import math

import pytest
import torch
from scipy.stats import norm, poisson

from neurofmx.batches import Batch, Cells, ModelOutput
from neurofmx.objectives.deviance import deviance
from neurofmx.objectives.forecast import Forecast
from neurofmx.objectives.masked import Masked


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


def said(**heads: torch.Tensor) -> ModelOutput:
    """What a model says."""
    told = {name.replace("_", "."): head for name, head in heads.items()}
    return ModelOutput(torch.zeros(1, 1, 2), {}, told)


def masked(output: ModelOutput, cells: dict[str, Cells], **asked: list[bool]) -> torch.Tensor:
    """The loss where these tokens of each signal's only channel are hidden."""
    hidden = {name: torch.tensor(tokens).reshape(1, -1, 1) for name, tokens in asked.items()}
    batch = Batch({}, {}, ["r"], [0], cells=cells, hidden=hidden, asked={"masked": hidden})
    return Masked().loss(output, batch)


def forecast(output: ModelOutput, cells: Cells, *ahead: int, **options) -> torch.Tensor:
    """The loss of a forecast so many tokens ahead."""
    batch = Batch({}, {}, ["r"], [0], cells={"x": cells}, horizons={"x": list(ahead)})
    return Forecast(config=Forecast.Config(**options)).loss(output, batch)


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
    found = deviance(told, counts(*numbers))
    assert found.flatten().tolist() == pytest.approx(gained, abs=1e-5)

    found = deviance(torch.full((1, 1, 1, 1), 0.5), traces(2.0))
    assert found.item() == pytest.approx(2 * (norm.logpdf(0) - norm.logpdf(1.5)))


@pytest.mark.parametrize("rate", [2.0, 5.0, 20.0])
def test_who_tells_the_mean_rate_is_left_with_about_1_as_of_traces(rate):
    g = torch.Generator().manual_seed(0)
    numbers = torch.poisson(torch.full((20_000,), rate), generator=g)
    found = deviance(torch.full((1, 1, 1, 20_000), math.log(rate)), counts(*numbers.tolist()))
    assert found.mean().item() == pytest.approx(1.0, abs=0.2)


def test_far_from_a_trace_hubers_loss_grows_linearly():
    told = torch.zeros(1, 1, 1, 3)
    found = deviance(told, traces(0.5, 3.0, -3.0), huber=1.0)
    assert found.flatten().tolist() == [0.25, 2 * 3.0 - 1, 5.0]


def test_masked_looks_only_at_what_was_hidden():
    told = torch.zeros(1, 2, 1, 2)  # two tokens of two samples; the second is hidden
    output, cells = said(reconstruct_x=told), {"x": traces(9.0, 9.0, 1.0, 3.0, tokens=2)}
    assert masked(output, cells, x=[False, True]).item() == (1 + 9) / 2
    assert masked(output, cells, x=[False, False]).item() == 0
    assert masked(output, cells).item() == 0


def test_a_mask_that_is_all_true_gives_the_loss_without_a_mask():
    told = torch.linspace(-1, 1, 8).reshape(1, 4, 1, 2)
    cells = {"x": traces(*torch.linspace(-2, 2, 8).tolist(), tokens=4)}
    every = masked(said(reconstruct_x=told), cells, x=[True] * 4)
    assert every.item() == deviance(told, cells["x"]).mean().item()


def test_masked_leaves_out_what_was_not_recorded():
    output = said(reconstruct_x=torch.zeros(1, 2, 1, 2))
    cells = {"x": traces(9.0, 9.0, 1.0, 3.0, tokens=2)}
    cells["x"].seen[:, 0] = False
    assert masked(output, cells, x=[True, True]).item() == (1 + 9) / 2


def test_signals_count_alike_however_many_samples_they_have():
    one, many = traces(2.0), traces(1.0, 1.0, 1.0)
    output = said(reconstruct_x=torch.zeros(1, 1, 1, 1), reconstruct_y=torch.zeros(1, 1, 1, 3))
    assert masked(output, {"x": one, "y": many}, x=[True], y=[True]).item() == (4 + 1) / 2
    one.seen[:] = False
    assert masked(output, {"x": one, "y": many}, x=[True], y=[True]).item() == 1


def test_forecast_is_of_the_tokens_at_its_horizons():
    """Three tokens of one sample: 1 and 2 tokens ahead, made at each token."""
    told = torch.tensor([[1.0, 2.0, 9.0], [3.0, 9.0, 9.0]]).reshape(1, 2, 3, 1, 1)
    output, cells = said(forecast_x=told), traces(9.0, 1.5, 4.0, tokens=3)
    assert forecast(output, cells, 1, 2).item() == pytest.approx((0.25 + 4 + 1) / 3)
    weighed = forecast(output, cells, 1, 2, distance="inverse")
    assert weighed.item() == pytest.approx((0.25 + 4 + 1 / 2) / (1 + 1 + 1 / 2))
    cells.seen[:, 2] = False
    assert forecast(output, cells, 1, 2).item() == 0.25


def test_a_forecast_of_what_lies_beyond_the_window_asks_nothing():
    told = torch.full((1, 1, 2, 1, 1), 5.0, requires_grad=True)
    loss = forecast(said(forecast_x=told), traces(1.0, 1.0, tokens=2), 2)
    loss.backward()
    assert loss.item() == 0
    assert (told.grad == 0).all()
    assert Forecast().loss(said(), Batch({}, {}, ["r"], [0])).item() == 0


def test_what_is_not_asked_has_no_gradient_whatever_is_told_there():
    told = torch.tensor([0.0, 80.0]).reshape(1, 1, 1, 2).requires_grad_()
    cells = counts(2.0, 3.0)
    cells.seen[..., 1] = False
    masked(said(reconstruct_x=told), {"x": cells}, x=[True]).backward()
    assert told.grad.flatten().tolist() == pytest.approx([2 * (1 - 2), 0])
