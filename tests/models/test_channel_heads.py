"""What the heads tell of channels: mean rates at first, planted rates when trained."""

import dataclasses

import numpy as np
import pytest
import torch
from tokenized import samples
from windows import recording, shards, tiny_model

from neurofmx.batches import Batch, Cells, ModelOutput
from neurofmx.data.augment import AugmentParams, augment
from neurofmx.data.collate import Collator
from neurofmx.models.channel_heads import (
    ChannelHead,
    ForecastHead,
    Projection,
    counted,
    tokens_ahead,
)
from neurofmx.objectives.forecast import Forecast
from neurofmx.objectives.masked import Masked
from neurofmx.tokenizers import BinnedTokenizer

TRAIN, UNITS = 2000, 6


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    both = [recording("a", units=6), recording("b", seed=1, units=4)]
    return shards(tmp_path_factory.mktemp("two"), both)


@pytest.fixture(scope="module")
def model(made):
    return tiny_model(made, ["a", "b"], 0).eval()


@pytest.fixture
def batch(made, model):
    positions = [made.positions("train", [name])[0] for name in "ab"]
    return Collator(made, model.rows)(positions)


@pytest.mark.parametrize(
    ("token", "duration", "ahead"),
    [
        (0.1, 2.0, [1, 3, 5, 10]),  # 0.25 s falls on the nearest later token
        (0.05, 1.0, [2, 5, 10]),  # 1 s lies beyond a window of 1 s
        (0.4, 2.0, [1, 2, 3]),  # 0.1 and 0.25 s are the same token
        (2.0, 6.0, [1]),
        (2.0, 2.0, []),
        (0.25 / 3, 0.5, [2, 3]),  # 3 tokens are 0.25 s, to rounding
    ],
)
def test_horizons_fall_on_whole_tokens_within_the_window(token, duration, ahead):
    assert tokens_ahead([0.1, 0.25, 0.5, 1.0], token, duration) == ahead


def test_the_cells_of_a_batch_have_its_counts(made, model, batch):
    cells = model.cells(batch)["spikes"]
    for row, position in enumerate(batch.windows):
        raw = torch.from_numpy(made[position].arrays["spikes.values"].astype(np.float32))
        found = cells.truth[row].permute(0, 2, 1).flatten(0, 1)[: len(raw), : raw.shape[1]]
        torch.testing.assert_close(found, raw, atol=1e-4, rtol=1e-5)
    assert (cells.truth[1, :, 4:] == 0).all()  # recording b has fewer units
    assert torch.equal(model.cells(batch)["lfp"].truth, cells_of_lfp(model, batch).values)


def cells_of_lfp(model, batch) -> Cells:
    return model.tokenizers["lfp"].cells(batch.signals["lfp"])


def test_units_that_share_a_cell_keep_their_own_counts():
    tokenizer = BinnedTokenizer(BinnedTokenizer.Config(width=8, patch=3, units=4))
    signal = samples(channels=6)  # the second cell is half empty
    gain, shift = torch.rand(2, 2, 6) + 0.5
    cells = counted(tokenizer, dataclasses.replace(signal, gain=gain, shift=shift, rate=gain + 1))
    truth = ((signal.values - shift[:, None]) / gain[:, None]).clamp(min=0).square()
    by_hand = tokenizer.cells(dataclasses.replace(signal, values=truth))
    torch.testing.assert_close(cells.truth[cells.seen], by_hand.values[by_hand.seen])
    for unit in (1, 5):  # sample s of unit u of a cell lies at 3 u + s
        assert (cells.rate[0, 0, unit // 4].reshape(4, 3)[unit % 4] == gain[0, unit] + 1).all()


def test_counts_of_a_mixture_are_those_of_its_mixed_roots(made, model):
    own, other = made.positions("train", ["a"])[:3:2].tolist()  # of the same cue
    batch = Collator(made, model.rows)([own], [other])
    raw = [
        torch.from_numpy(made[p].arrays["spikes.values"].astype(np.float32)) for p in (own, other)
    ]
    mixed = augment(batch, AugmentParams(mixup=1.0), [3])
    cells = model.cells(mixed)["spikes"]
    found = cells.truth[0].permute(0, 2, 1).flatten(0, 1)[: len(raw[0])]
    a, b = (counts.sqrt() for counts in raw)
    # The share that explains all counts at once.
    share = ((found.sqrt() - b) * (a - b)).sum() / (a - b).square().sum()
    assert 0.01 < share < 0.99
    torch.testing.assert_close(found, (share * a + (1 - share) * b).square(), atol=1e-3, rtol=1e-3)


def test_an_untrained_head_tells_the_mean_rate_of_every_unit(made, model, batch):
    output = model(batch)
    for row, name in enumerate("ab"):
        train = made.positions("train", [name])
        mean = np.concatenate([made[p].arrays["spikes.values"] for p in train]).mean(0)
        assert mean.max() > 1.2 * mean.min()
        for told in (output.heads["reconstruct.spikes"], output.heads["forecast.spikes"][:, 0]):
            rates = told[row].exp().permute(0, 2, 1).flatten(0, 1)[:, : len(mean)].detach()
            np.testing.assert_allclose(rates, np.broadcast_to(mean, rates.shape), rtol=1e-3)
    assert (output.heads["reconstruct.lfp"] == 0).all()


def test_counts_that_do_not_say_how_they_were_normalised_are_refused(model, batch):
    silent = dataclasses.replace(batch.signals["spikes"], gain=None)
    unsaid = dataclasses.replace(batch, signals=batch.signals | {"spikes": silent})
    with pytest.raises(ValueError, match="give gain, shift and rate, as the loader does"):
        model(unsaid)


def test_only_the_heads_that_are_asked_for_answer(model, batch):
    every = model(batch)
    for head in ("decode", "reconstruct", "forecast", "contrastive"):
        asked = model(batch, heads=[head]).heads
        assert {name.split(".")[0] for name in asked} - {"answer"} == {head}
        assert all(torch.equal(answer, every.heads[name]) for name, answer in asked.items())


def test_a_forecast_knows_nothing_of_what_comes(made, model, batch):
    torch.manual_seed(0)
    for head in model.forecast.values():
        torch.nn.init.normal_(head.readout)
    before = model(batch)
    later = {}
    for name, signal in batch.signals.items():
        values = signal.values.clone()
        values[:, 5 * model.config.signals[name].patch :] += 3.0
        later[name] = dataclasses.replace(signal, values=values)
    after = model(dataclasses.replace(batch, signals=later))
    for name in batch.signals:
        told, then = (o.heads[f"forecast.{name}"] for o in (before, after))
        torch.testing.assert_close(then[:, :, :5], told[:, :, :5])
        assert not torch.allclose(then[:, :, 5:], told[:, :, 5:], atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_heads_have_finite_gradients_and_rates_of_silent_units(dtype):
    torch.manual_seed(0)
    tokenizer = BinnedTokenizer(BinnedTokenizer.Config(width=8, patch=3)).to(dtype)
    head = ForecastHead(16, tokenizer, 2).to(dtype)
    torch.nn.init.normal_(head.readout, std=1e3)  # far beyond any rate
    features, gain = torch.randn(2, 5, 16, dtype=dtype), torch.randn(2, 4, 8, dtype=dtype)
    told = head(features, gain, torch.zeros(2, 1, 4, 3))
    rates = told.exp()
    assert told.shape == (2, 2, 5, 4, 3)
    assert rates.isfinite().all()
    assert (rates > 0).all()
    rates.mean().backward()
    assert all(p.grad.isfinite().all() for p in head.parameters())

    points = Projection(16).to(dtype)(features[:, 0])
    torch.testing.assert_close(points.float().norm(dim=1), torch.ones(2), atol=1e-2, rtol=0)


def planted():
    """Units whose log rates are linear in a latent, and what the loader makes of their counts."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(2 * TRAIN, 3))
    tuning = rng.normal(scale=0.4, size=(3, UNITS))
    rates = np.exp(np.log(rng.uniform(0.05, 0.5, UNITS)) + latent @ tuning)
    counts = rng.poisson(rates)
    roots = np.sqrt(counts)
    mean, scale = roots[:TRAIN].mean(0), roots[:TRAIN].std(0)
    return latent, rates, counts, (roots - mean) / scale, mean, scale


def bits_per_spike(rates, counts, means):
    def likelihood(x):
        return (counts * np.log(x) - x).sum()

    return (likelihood(rates) - likelihood(means)) / counts.sum() / np.log(2)


def trained(latent, values, of_counts):
    """What a head tells of every sample, fitted to the first ones by the `masked` objective."""
    torch.manual_seed(0)
    tokenizer = BinnedTokenizer(BinnedTokenizer.Config(width=8, n_channels=UNITS))
    head, ids = ChannelHead(3, tokenizer), torch.arange(1, UNITS + 1)[None]
    optimizer = torch.optim.Adam([*head.parameters(), *tokenizer.units.parameters()], lr=0.05)
    features = torch.tensor(latent, dtype=torch.float32)[None]
    seen = torch.tensor(values[:TRAIN], dtype=torch.float32)[None, :, :, None]
    cells = Cells(seen, torch.ones_like(seen, dtype=torch.bool), **of_counts)
    every = {"x": torch.ones(1, TRAIN, UNITS, dtype=torch.bool)}
    batch = Batch({}, {}, ["r"], [0], cells={"x": cells}, asked={"masked": every})

    def tell(rows):
        return head(features[:, rows], tokenizer.units(ids)[0], cells.rate)

    for _ in range(100):
        told = {"reconstruct.x": tell(slice(TRAIN))}
        output = ModelOutput(torch.zeros(1, 1, 1), {}, told)
        optimizer.zero_grad()
        Masked().loss(output, batch).backward()
        optimizer.step()
    return tell(slice(None)).detach().double().numpy()[0, :, :, 0]


def test_poisson_tells_planted_rates_better_than_a_gaussian():
    latent, rates, counts, values, mean, scale = planted()

    def laid(x):
        return torch.tensor(x, dtype=torch.float32)[None, None, :, None]

    of_counts = {"gain": laid(1 / scale), "shift": laid(-mean / scale)}
    of_counts["rate"] = laid(counts[:TRAIN].mean(0))
    by_poisson = np.exp(trained(latent, values, of_counts))
    root = trained(latent, values, {})
    # E[n] = E[√n]² + Var √n: what is left of the roots belongs to the counts that are expected.
    rest = ((values - root)[:TRAIN] * scale).var(0)
    by_gauss = (root * scale + mean).clip(min=0) ** 2 + rest

    truth, means = counts[TRAIN:], counts[:TRAIN].mean(0)
    best, poisson, gauss = (
        bits_per_spike(found[TRAIN:], truth, means) for found in (rates, by_poisson, by_gauss)
    )
    assert gauss > 0.1
    assert poisson > gauss + 0.05
    assert poisson > 0.97 * best
    logs = [np.log(found[TRAIN:]).ravel() for found in (rates, by_poisson)]
    assert np.corrcoef(*logs)[0, 1] > 0.99


def test_each_horizon_learns_its_own_time():
    """A noiseless rotation: in 1 and in 5 tokens come other mixtures of sine and cosine."""
    torch.manual_seed(0)
    angle = 0.4 * torch.arange(200)
    values = torch.stack([angle.cos(), angle.sin()], dim=1)
    tokenizer = BinnedTokenizer(BinnedTokenizer.Config(width=16, n_channels=2))
    head, ids = ForecastHead(2, tokenizer, 2), torch.tensor([[1, 2]])
    optimizer = torch.optim.Adam([*head.parameters(), *tokenizer.units.parameters()], lr=0.03)
    cells = Cells(values[None, :, :, None], torch.ones(1, 200, 2, 1) > 0)
    for _ in range(150):
        told = {"forecast.x": head(values[None], tokenizer.units(ids)[0])}
        output = ModelOutput(torch.zeros(1, 1, 1), {}, told)
        batch = Batch({}, {}, ["r"], [0], cells={"x": cells}, horizons={"x": [1, 5]})
        loss = Forecast().loss(output, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01
