"""A causal Perceiver on a stream is its batch forward, token by token, and remembers no more."""

import pytest
import torch

from neurofmx.models import PerceiverIO, PerceiverStream

SPACING = 0.1  # s
DT = 0.02  # s, of a token


def causal(**changes):
    torch.manual_seed(0)
    mode = {"causal": True, "spacing": SPACING, "horizon": 0.5} | changes
    return PerceiverIO(8, 32, 16, n_layers=2, n_heads=2, periods=(0.04, 20.0), **mode).eval()


def tokens_in_time(n, batch=2, dt=DT):
    torch.manual_seed(1)
    starts = torch.arange(n, dtype=torch.float64).expand(batch, -1) * dt
    return torch.randn(batch, n, 16), starts + dt / 2, starts + dt


def streamed(stream, given, queries, mask, size=1):
    """Answers at the end of every piece of `size` tokens."""
    answers = []
    for i in range(0, given[0].shape[1], size):
        stream.push(*(x[:, i : i + size] for x in given), mask[:, i : i + size])
        now = given[2][:, i : i + size][:, -1:]
        stream.advance(float(now[0]))
        answers.append(stream.answer(queries, now))
    return torch.cat(answers, dim=1)


@pytest.mark.parametrize(
    ("mode", "size"),
    [({}, 1), ({"horizon": None}, 1), ({"horizon": 0.33}, 3), ({"spacing": 0.07}, 2), ({}, 5)],
)
def test_a_stream_is_its_batch_forward(mode, size):
    """Over six horizons and four times as many latents as are learned, with gaps."""
    perceiver, n = causal(**mode), 240
    given, queries = tokens_in_time(n), torch.randn(2, 1, 32)
    mask = torch.rand(2, n) < 0.8
    mask[0, 30:90] = False  # longer than the horizon
    duration = n * DT
    with torch.no_grad():
        latents = perceiver(given[0], mask, given[1], duration, given[2])
        at = given[2][:, size - 1 :: size]
        batch = perceiver.answer(latents, queries.expand(-1, at.shape[1], -1), at, duration)
    stream = PerceiverStream(perceiver, batch=2, capacity=60)
    torch.testing.assert_close(
        streamed(stream, given, queries, mask, size), batch, rtol=1e-4, atol=1e-4
    )


def test_hours_into_a_stream_answers_are_as_exact():
    """The same tokens ten hours later give the same answers."""
    perceiver = causal(horizon=0.3)
    stream, late = PerceiverStream(perceiver, batch=1, capacity=40), 8 * SPACING * 45_000
    state = stream.state()
    state["count"][1] = round(late / SPACING)  # as if that many latents had been made
    stream.load(state)
    tokens, times, ends = tokens_in_time(100, batch=1)
    queries, mask = torch.randn(1, 1, 32), torch.ones(1, 100, dtype=torch.bool)
    later = streamed(stream, (tokens, times + late, ends + late), queries, mask)
    first = streamed(PerceiverStream(perceiver, 1, 40), (tokens, times, ends), queries, mask)
    torch.testing.assert_close(later, first, rtol=1e-4, atol=1e-4)


def size_of(stream):
    return sum(held.numel() for held in stream.state().values())


def test_memory_does_not_grow():
    perceiver, queries = causal(spacing=0.4, horizon=1.2), torch.randn(1, 1, 32)
    stream, sizes = PerceiverStream(perceiver, batch=1, capacity=80), []
    for n in (100, 9_900):
        given = tokens_in_time(n, batch=1)
        given = (given[0], given[1] + stream.time, given[2] + stream.time)
        streamed(stream, given, queries, torch.ones(1, n, dtype=torch.bool), size=20)
        sizes.append(size_of(stream))
    assert stream.time == pytest.approx(10_000 * DT)
    assert sizes[0] == sizes[1]
    # Keys and values of 80 tokens and of 3 latents of 2 layers and the output, times and counts.
    assert sizes[1] == 2 * 32 * (80 + 3 * 3) + 80 + 3 + 2


def test_a_snapshot_goes_on_as_the_stream_does():
    perceiver, given, queries = causal(), tokens_in_time(80), torch.randn(2, 1, 32)
    mask = torch.ones(2, 80, dtype=torch.bool)
    stream = PerceiverStream(perceiver, batch=2, capacity=40)
    streamed(stream, [x[:, :37] for x in given], queries, mask[:, :37])
    snapshot = stream.state()
    after = streamed(stream, [x[:, 37:] for x in given], queries, mask[:, 37:])

    restored = PerceiverStream(perceiver, batch=2, capacity=40)
    restored.load(snapshot)
    again = streamed(restored, [x[:, 37:] for x in given], queries, mask[:, 37:])
    assert torch.equal(again, after)
    with pytest.raises(ValueError, match="the state has"):
        PerceiverStream(perceiver, batch=1, capacity=40).load(snapshot)


def test_signals_of_different_rates_share_a_stream():
    """Each bin, the tokens of two signals: it is the batch of both, sorted by nothing."""
    perceiver, queries = causal(), torch.randn(1, 1, 32)
    fast, slow = tokens_in_time(100, 1), tokens_in_time(40, 1, dt=0.05)
    stream, answers = PerceiverStream(perceiver, 1, capacity=60), []
    for second in range(1, 21):
        now = second * 0.1
        for tokens, times, ends in (slow, fast):
            new = ((ends > now - 0.1 + 1e-9) & (ends < now + 1e-9))[0]
            stream.push(tokens[:, new], times[:, new], ends[:, new])
        stream.advance(now)
        answers.append(stream.answer(queries, torch.tensor([[now]])))
    both = [torch.cat(pair, dim=1) for pair in zip(fast, slow, strict=True)]
    at = (torch.arange(20).double()[None] + 1) * 0.1
    with torch.no_grad():
        latents = perceiver(both[0], None, both[1], 2.0, both[2])
        batch = perceiver.answer(latents, queries.expand(-1, 20, -1), at, 2.0)
    torch.testing.assert_close(torch.cat(answers, dim=1), batch, rtol=1e-4, atol=1e-4)


def test_what_a_stream_cannot_answer_is_refused():
    perceiver, (tokens, times, ends) = causal(), tokens_in_time(40, batch=1)
    with pytest.raises(ValueError, match="only a causal Perceiver can stream"):
        PerceiverStream(PerceiverIO(8, 32, 16, n_heads=2))
    stream = PerceiverStream(perceiver, capacity=26)
    stream.push(tokens[:, :10], times[:, :10], ends[:, :10])
    stream.advance(0.1)
    with pytest.raises(ValueError, match=r"a token ends at 0\.02 s, but the latents up to 0\.1 s"):
        stream.push(tokens[:, :1], times[:, :1], ends[:, :1])
    for time in (0.05, 0.2):
        with pytest.raises(ValueError, match=r"before 0\.2 s, or advance first"):
            stream.answer(torch.randn(1, 1, 32), torch.tensor([[time]]))
    stream.push(tokens[:, 10:26], times[:, 10:26], ends[:, 10:26])
    with pytest.raises(ValueError, match=r"a capacity of 26 tokens does not hold the last 0\.5 s"):
        stream.push(tokens[:, 26:30], times[:, 26:30], ends[:, 26:30])
    with pytest.raises(ValueError, match="a capacity of 26 tokens"):
        PerceiverStream(perceiver, capacity=26).push(tokens, times, ends)
