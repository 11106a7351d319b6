"""PopT: the laws of a population. Its order, its size and its padding are not part of it."""

import dataclasses

import pytest
import torch

from neurofmx.batches import SignalBatch
from neurofmx.models import PopT
from neurofmx.models.popt import FIRST
from neurofmx.tokenizers import BinnedTokenizer, MeanPool, Population


def population(channels=5, features=3, width=16, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g).to(dtype)

    mask = torch.ones(2, 1, channels, dtype=torch.bool)
    embeddings = normal(2, channels, width), normal(2, channels, width)
    mixing = normal(features, width) * features**-0.5
    return Population(normal(2, 7, channels, features), mixing, *embeddings, mask)


def chosen(p, order):
    """The population with its channels in another order, or fewer of them."""
    parts = (p.features[:, :, order], p.mixing, p.gain[:, order], p.bias[:, order])
    return Population(*parts, p.mask[..., order])


def popt(width=16, n_seeds=4, seed=0):
    torch.manual_seed(seed)
    return PopT(width, n_seeds)


SIZES = [1, 2, 13, 40, 1000]  # a few channels are held as x, many are not


@pytest.mark.parametrize("channels", SIZES)
def test_the_order_of_units_plays_no_part(channels):
    p = population(channels)
    order = torch.randperm(channels, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(popt()(chosen(p, order)), popt()(p), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("channels", SIZES)
@pytest.mark.parametrize("nonsense", [1e30, torch.inf, torch.nan])
@pytest.mark.parametrize("pool", [popt(), MeanPool()], ids=["PopT", "mean"])
def test_masked_units_change_nothing(channels, nonsense, pool):
    """Not the token and not a gradient, whatever they hold and however many they are."""
    real = population(channels)
    real.mixing.requires_grad_()
    padding = chosen(population(30, seed=1), list(range(30)))
    parts = [torch.full_like(x, nonsense) for x in (padding.features, padding.gain, padding.bias)]
    padded = Population(
        torch.cat([real.features, parts[0]], dim=2),
        real.mixing,
        torch.cat([real.gain, parts[1]], dim=1),
        torch.cat([real.bias, parts[2]], dim=1),
        torch.cat([real.mask, ~padding.mask], dim=2),
    )
    grads = []
    for p in (real, padded):
        token = pool(p)
        weights = [real.mixing, *pool.parameters()]
        grads.append(torch.autograd.grad(token.square().mul(token).sum(), weights))
    torch.testing.assert_close(pool(padded), pool(real), rtol=1e-5, atol=1e-6)
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4)


def test_a_weighted_sum_is_the_equation():
    for channels in (2, 40):
        p = population(channels)
        weight = torch.rand(2, 7, 4, channels)
        x = torch.einsum("btcr,rw,bcw->btcw", p.features, p.mixing, p.gain) + p.bias[:, None]
        torch.testing.assert_close(
            p.weighted(weight), torch.einsum("btkc,btcw->btkw", weight, x), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("channels", [3, 40])
def test_each_seed_attends_to_the_units(channels):
    """A loop over seeds: softmax of ⟨seed, x_c⟩ / √width over the units that are there."""
    p, pool = population(channels), popt(n_seeds=2)
    p = dataclasses.replace(p, mask=p.mask & (torch.arange(channels) != 1))
    x = p.held()
    answers = []
    for seed in pool.seeds:
        scores = (x @ seed / 4).masked_fill(~p.mask, -torch.inf)
        answers.append((scores.softmax(-1)[..., None] * x).sum(2))
    expected = pool.norm(pool.join(torch.cat(answers, dim=-1)))
    torch.testing.assert_close(pool(p), expected, rtol=1e-4, atol=1e-4)
    assert pool.attention(p).shape == (2, 7, 2, channels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [0, *SIZES])
def test_any_number_of_units_gives_numbers_and_gradients(channels, dtype):
    p, pool = population(channels, dtype=dtype), popt().to(dtype)
    p.mask[1] = False  # and one window without any
    p.features.requires_grad_()
    token = pool(p)
    token.float().square().mul(token.float()).sum().backward()
    assert token.shape == (2, 7, 16)
    assert token.isfinite().all()
    assert p.features.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in pool.parameters())


def test_a_mean_knows_neither_order_nor_number():
    p, pool = population(), MeanPool()
    torch.testing.assert_close(pool(chosen(p, [3, 1, 4, 0, 2])), pool(p), rtol=1e-6, atol=1e-6)
    fewer = dataclasses.replace(p, mask=p.mask & (torch.arange(5) < 3))
    torch.testing.assert_close(pool(chosen(p, [0, 1, 2])), pool(fewer), rtol=1e-6, atol=1e-6)


def unknown_units(regions=None, positions=None):
    """Counts of four units that the vocabulary does not know."""
    counts = torch.poisson(torch.full((1, 6, 4), 2.0), torch.Generator().manual_seed(0)).sqrt()
    zeros, every = torch.zeros(1, 4, dtype=torch.int64), torch.ones(1, 6, dtype=torch.bool)
    t0, there = torch.zeros(1, dtype=torch.float64), torch.ones(1, 4, dtype=torch.bool)
    return SignalBatch(counts, t0, 0.02, every, zeros, there, regions, positions)


def test_the_place_of_an_unknown_unit_reaches_its_token():
    torch.manual_seed(0)
    tokenizer = BinnedTokenizer(BinnedTokenizer.Config(width=16), pool=popt())
    tokenizer.units.extend([], ["CA1", "VISp"])
    torch.nn.init.normal_(tokenizer.units.region.weight)
    torch.nn.init.normal_(tokenizer.units.place.weight)
    here, there = torch.full((1, 4, 3), 1e-3), torch.full((1, 4, 3), 4e-3)
    ca1, visp = torch.ones(1, 4, dtype=torch.int64), torch.full((1, 4), 2)
    places = [(None, None), (ca1, None), (visp, None), (None, here), (None, there), (ca1, here)]
    tokens = [tokenizer.tokenize(unknown_units(*place)).tokens for place in places]
    for i, a in enumerate(tokens):
        for b in tokens[:i]:
            assert (a - b).abs().max() > 0.1 * FIRST
    tokens[-1].square().mul(tokens[-1]).sum().backward()
    assert tokenizer.units.region.weight.grad[1].any()
    assert not tokenizer.units.region.weight.grad[2].any()
    assert tokenizer.units.place.weight.grad.any()
