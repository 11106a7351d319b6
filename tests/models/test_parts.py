"""PopT and Perceiver-IO: the invariants and public shapes that the design fixes."""

import pytest
import torch

from neurofmx.models import CrossAttention, PerceiverIO, PopT
from neurofmx.tokenizers import MeanPool, Population


def population(channels=5, features=3, width=16, seed=0):
    g = torch.Generator().manual_seed(seed)
    return Population(
        torch.randn(2, 7, channels, features, generator=g),
        torch.randn(features, width, generator=g),
        torch.randn(2, channels, width, generator=g),
        torch.randn(2, channels, width, generator=g),
        torch.ones(2, channels, dtype=torch.bool),
    )


def chosen(p, order):
    """The population with its channels in another order, or fewer of them."""
    parts = (p.features[:, :, order], p.mixing, p.gain[:, order], p.bias[:, order])
    return Population(*parts, p.mask[:, order])


@pytest.mark.parametrize("pool", [PopT(16, n_seeds=4), MeanPool()])
def test_pooling_knows_neither_order_nor_number(pool):
    p = population()
    torch.testing.assert_close(pool(chosen(p, [3, 1, 4, 0, 2])), pool(p), rtol=1e-5, atol=1e-6)
    fewer = Population(p.features, p.mixing, p.gain, p.bias, p.mask & (torch.arange(5) < 3))
    torch.testing.assert_close(pool(chosen(p, [0, 1, 2])), pool(fewer), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [2, 40])  # held as x, and not held
def test_a_weighted_sum_is_the_equation(channels):
    p = population(channels)
    weight = torch.rand(2, 7, 4, channels)
    x = torch.einsum("btcr,rw,bcw->btcw", p.features, p.mixing, p.gain) + p.bias[:, None]
    torch.testing.assert_close(
        p.weighted(weight), torch.einsum("btkc,btcw->btkw", weight, x), rtol=1e-4, atol=1e-4
    )


def test_without_any_channel_popt_gives_numbers():
    p = population()
    nobody = Population(p.features, p.mixing, p.gain, p.bias, torch.zeros_like(p.mask))
    assert PopT(16)(nobody).isfinite().all()


def test_perceiver_io_keeps_its_public_shape():
    perceiver = PerceiverIO(n_latents=128, latent_dim=512, input_dim=768, n_layers=3, n_heads=8)
    with torch.no_grad():
        assert perceiver(torch.randn(2, 200, 768)).shape == (2, 128, 512)


def small():
    torch.manual_seed(0)
    return PerceiverIO(8, 32, 16, n_layers=1, n_heads=2).eval()


def test_masked_tokens_cannot_be_seen():
    perceiver, tokens = small(), torch.randn(2, 10, 16)
    mask = torch.arange(10).expand(2, -1) < 6
    other = torch.where(mask[..., None], tokens, torch.tensor(1e3))
    torch.testing.assert_close(perceiver(tokens, mask), perceiver(other, mask))
    torch.testing.assert_close(perceiver(tokens, mask), perceiver(tokens[:, :6]))


def test_only_time_differences_matter():
    attention = CrossAttention(32, 16, n_heads=2, periods=(0.1, 10.0)).eval()
    queries, context = torch.randn(1, 3, 32), torch.randn(1, 5, 16)
    at, times = torch.rand(1, 3, dtype=torch.float64), torch.rand(1, 5, dtype=torch.float64)
    here = attention(queries, context, None, at.float(), times.float())
    later = attention(queries, context, None, (at + 7).float(), (times + 7).float())
    sooner = attention(queries, context, None, at.float(), (times - 0.3).float())
    torch.testing.assert_close(here, later, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(here, sooner, atol=1e-3)


def test_heads_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="query_dim 32 must be a multiple of 2 · n_heads = 10"):
        CrossAttention(32, 16, n_heads=5)
