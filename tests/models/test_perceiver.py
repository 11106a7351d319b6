"""Perceiver-IO: what attention computes, what nobody may see, and what comes before what."""

import pytest
import torch

from neurofmx.models import CrossAttention, PerceiverIO, SelfAttention
from neurofmx.models.attention import within

SPACING = 0.1  # s


def small(**changes):
    torch.manual_seed(0)
    return PerceiverIO(8, 32, 16, n_layers=2, n_heads=2, periods=(0.04, 20.0), **changes).eval()


def causal(**changes):
    return small(**({"causal": True, "spacing": SPACING, "horizon": 0.5} | changes))


def tokens_in_time(n=40, dt=0.02, batch=2):
    """Tokens with the middles and ends of n pieces of time, one after the other."""
    torch.manual_seed(1)
    starts = torch.arange(n, dtype=torch.float64).expand(batch, -1) * dt
    return torch.randn(batch, n, 16), starts + dt / 2, starts + dt


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_perceiver_io_keeps_its_public_shape():
    perceiver = PerceiverIO()
    with torch.no_grad():
        assert perceiver(torch.randn(2, 200, 768)).shape == (2, 128, 512)


def test_attention_is_the_equation():
    """A loop over heads and queries, with rotation as multiplication by e^{2πi t / p}."""
    torch.manual_seed(0)
    attention = CrossAttention(16, 12, n_heads=2, periods=(0.1, 10.0)).eval()
    x, context = torch.randn(1, 3, 16), torch.randn(1, 5, 12)
    at, times = torch.rand(1, 3).double(), torch.rand(1, 5).double()
    mask = torch.tensor([[True, False, True, True, False]])
    q = attention.to_query(attention.query_norm(x))[0]
    k, v = attention.to_key_value(attention.context_norm(context))[0].chunk(2, dim=-1)
    periods = 0.1 * 100 ** (torch.arange(4) / 3)
    found = torch.zeros(3, 16)
    for i in range(3):
        for head in (slice(0, 8), slice(8, 16)):
            scores = torch.full((5,), -torch.inf)
            for j in torch.nonzero(mask[0])[:, 0]:
                query, key = (torch.complex(*y[head].chunk(2)) for y in (q[i], k[j]))
                turned = torch.exp(2j * torch.pi * (at[0, i] - times[0, j]) / periods)
                scores[j] = (query * turned * key.conj()).real.sum() / 8**0.5
            found[i, head] = scores.softmax(0) @ v[:, head]
    after = x[0] + attention.out(found)
    close(attention(x, context, mask, at, times)[0], after + attention.feed_forward(after))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masked_tokens_cannot_be_seen(dtype):
    perceiver, tokens = small().to(dtype), torch.randn(2, 10, 16, dtype=dtype)
    mask = torch.arange(10).expand(2, -1) < 6
    for nonsense in (1e3, torch.nan):
        other = tokens.masked_fill(~mask[..., None], nonsense)
        assert torch.equal(perceiver(tokens, mask), perceiver(other, mask))
    close(
        perceiver(tokens, mask), perceiver(tokens[:, :6]), 1e-5 if dtype == torch.float32 else 0.1
    )


def test_masked_latents_cannot_be_seen():
    perceiver, (tokens, times, _) = small(), tokens_in_time()
    shown = torch.arange(8).expand(2, -1) < 5
    queries, at = torch.randn(2, 3, 32), torch.rand(2, 3)

    def answers():
        latents = perceiver(tokens, None, times, 0.8, latent_mask=shown)
        return perceiver.answer(latents, queries, at, 0.8, shown)

    before = answers()
    with torch.no_grad():
        perceiver.latents[5:] += torch.randn(3, 32)
    close(answers(), before, 1e-6)
    with torch.no_grad():
        perceiver.latents[:5] += torch.randn(5, 32)
    assert not torch.allclose(answers(), before, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_who_may_see_nothing_gets_nothing(dtype):
    torch.manual_seed(0)
    attention = SelfAttention(32, n_heads=2).to(dtype).eval()
    x = torch.randn(2, 4, 32, dtype=dtype, requires_grad=True)
    mask = torch.ones(2, 4, 4, dtype=torch.bool)
    mask[0, 1], mask[1] = False, False
    out = attention(x, mask)
    out.float().square().mean().backward()

    alone = x + attention.feed_forward(x)
    assert torch.equal(out[0, 1], alone[0, 1])
    assert torch.equal(out[1], alone[1])
    assert not torch.equal(out[0, 0], alone[0, 0])
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in attention.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", [small, causal])
def test_windows_without_a_token_are_finite(make, dtype):
    perceiver, (tokens, times, ends) = make().to(dtype), tokens_in_time()
    tokens = tokens.to(dtype).requires_grad_()
    mask = torch.zeros(2, 40, dtype=torch.bool)
    mask[1, :7] = True
    latents = perceiver(tokens, mask, times, 0.8, ends)
    queries = torch.zeros(2, 3, 32, dtype=dtype)
    answers = perceiver.answer(latents, queries, torch.tensor([[0.01, 0.3, 0.7]] * 2), 0.8)
    answers.float().square().mean().backward()

    assert answers.isfinite().all()
    assert tokens.grad.isfinite().all()
    assert not tokens.grad[0].any()
    assert tokens.grad[1].any()
    assert all(p.grad.isfinite().all() for p in perceiver.parameters())


def test_no_tokens_at_all_are_as_good_as_masked_ones():
    perceiver, (tokens, times, ends) = causal(), tokens_in_time()
    nothing = perceiver(tokens[:, :0], None, times[:, :0], 0.8, ends[:, :0])
    close(nothing, perceiver(tokens, torch.zeros(2, 40, dtype=torch.bool), times, 0.8, ends))
    before_any = perceiver(tokens, None, times, 0.5 * SPACING, ends)
    assert before_any.shape == (2, 0, 32)
    answers = perceiver.answer(before_any, torch.randn(2, 1, 32), torch.zeros(2, 1), 0.5 * SPACING)
    assert answers.isfinite().all()


@pytest.mark.parametrize("later", [3600.0, 1e5])
def test_an_hour_later_answers_are_the_same(later):
    """Angles in float32 are off by 2π · 3600 / 0.04 · 6e-8 = 0.03 rad after an hour."""
    torch.manual_seed(0)
    attention = CrossAttention(32, 16, n_heads=2, periods=(0.04, 20.0)).eval()
    queries, context = torch.randn(1, 3, 32), torch.randn(1, 5, 16)
    at, times = torch.rand(1, 3).double(), torch.rand(1, 5).double()
    here = attention(queries, context, None, at, times)
    close(attention(queries, context, None, at + later, times + later), here)
    assert not torch.allclose(attention(queries, context, None, at, times - 0.3), here, atol=1e-3)


def test_the_latents_of_a_window_lie_in_the_middles_of_its_parts():
    assert small().latent_times(1, 4.0)[0].tolist() == [0.25 + 0.5 * k for k in range(8)]


def test_causal_latents_are_as_many_as_fit():
    perceiver = causal()
    assert perceiver.latent_times(1, 0.35)[0].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert perceiver.latent_times(1, 0.1 + 0.2).shape == (1, 3)  # 0.30000000000000004
    assert perceiver.latent_times(1, 0.7 + 0.1).shape == (1, 8)  # 0.7999999999999999
    assert torch.equal(perceiver.embedded(11)[8:], perceiver.latents[:3])


def test_within_is_half_open_to_rounding():
    ends = torch.tensor([[0.0, 0.1, 0.2, 0.1 + 0.2, 0.4]]).double()
    at = torch.tensor([[0.3]]).double()
    assert within(at, ends, 0.3)[0, 0].tolist() == [False, True, True, True, False]


def test_causal_latents_see_what_has_ended_within_the_horizon():
    """Which tokens reach which latent, by the gradient; latents among themselves are cut off."""
    perceiver, (tokens, times, ends) = causal(horizon=0.3), tokens_in_time(batch=1)
    perceiver.layers = torch.nn.ModuleList()
    tokens.requires_grad_()
    latents = perceiver(tokens, None, times, 0.8, ends)
    at = perceiver.latent_times(1, 0.8)[0]
    for k in range(8):
        (grad,) = torch.autograd.grad(latents[0, k].square().sum(), tokens, retain_graph=True)
        lag = at[k] - ends[0]
        expected = (lag > -1e-9) & (lag < 0.3 - 1e-9)
        assert torch.equal(grad[0].any(-1), expected), k


def test_nothing_that_comes_later_changes_an_answer():
    perceiver, (tokens, times, ends) = causal(), tokens_in_time()
    queries, at = torch.randn(2, 9, 32), torch.linspace(0.0, 0.8, 9).double().expand(2, -1)
    whole = perceiver.answer(perceiver(tokens, None, times, 0.8, ends), queries, at, 0.8)
    for n in (5, 13, 20, 33):
        changed = torch.cat([tokens[:, :n], torch.randn(2, 40 - n, 16)], dim=1)
        latents = perceiver(changed, None, times, 0.8, ends)
        answers = perceiver.answer(latents, queries, at, 0.8)
        before = at[0] < (n + 1) * 0.02 - 1e-9  # token n, the first that is another, ends there
        close(answers[:, before], whole[:, before], 1e-6)
        assert not torch.allclose(answers[:, ~before], whole[:, ~before], atol=1e-4)


def test_a_shorter_window_has_the_same_latents():
    perceiver, (tokens, times, ends) = causal(), tokens_in_time()
    whole = perceiver(tokens, None, times, 0.8, ends)
    close(perceiver(tokens[:, :25], None, times[:, :25], 0.5, ends[:, :25]), whole[:, :5], 1e-6)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="query_dim 32 must be a multiple of 2 · n_heads = 10"):
        CrossAttention(32, 16, n_heads=5)
    with pytest.raises(ValueError, match="give causal=True"):
        small(spacing=0.1)
    with pytest.raises(ValueError, match="a latent every `spacing` s > 0, not None"):
        small(causal=True)
    with pytest.raises(ValueError, match="needs times, ends and duration"):
        causal()(torch.randn(1, 3, 16))
