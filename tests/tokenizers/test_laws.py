"""What holds for every tokenizer, whatever its options."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenized import T0, events, samples

from neurofmx.batches import SignalBatch
from neurofmx.tokenizers import TOKENIZERS, TokenizedSequence, Tokenizer

GRID = {"grid": [2, 3]}
CASES = [
    ("spikes", {}),
    ("spikes", {"waveform": 3}),
    ("spikes", {"boundaries": False}),
    ("binned", {}),
    ("binned", {"rates": [1, 3]}),
    ("binned", {"rates": [2], "units": 4}),
    ("continuous", {}),
    ("continuous", {"pooling": "max"}),
    ("continuous", {"pooling": "attention", "bands": ["beta"]}),
    ("continuous", {"scales": [], "bands": [], "sources": 0}),
    ("continuous", {"sources": 2, "span": 3}),
    ("image", {}),
    ("image", GRID),
    ("image", GRID | {"tile": [2, 2], "features": 4}),
    ("image", {"by": "region"}),
    ("audio", {"grid": [6], "tile": [4]}),
]
# Channels of these lie in a place, or share a cell with their neighbours.
ORDERED = ("grid", "units", "tile")


def made(kind: str, options: dict, n_channels: int = 6, patch: int = 4) -> Tokenizer:
    """A small tokenizer that knows two regions, with no weight left at zero."""
    torch.manual_seed(0)
    cls = TOKENIZERS[kind]
    fixed = {"width": 16, "patch": patch, "dt": 0.01, "n_channels": n_channels}
    tokenizer = cls(cls.Config(**fixed, **options))
    tokenizer.units.extend([], ["CA1", "CA3"])
    for parameter in tokenizer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return tokenizer


def batch(kind: str, options: dict):
    return events(waveform=options.get("waveform", 0)) if kind == "spikes" else samples()


def test_every_row_has_a_case():
    assert {kind for kind, _ in CASES} == set(TOKENIZERS)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_tokens_have_a_start_in_double_and_numbers_everywhere(kind, options):
    sequence = made(kind, options).tokenize(batch(kind, options))
    assert isinstance(sequence, TokenizedSequence)
    assert sequence.t0.dtype == torch.float64
    assert sequence.t0.tolist() == [T0, T0 + 1]
    assert sequence.tokens.shape == (2, len(sequence), 16)
    assert sequence.tokens.isfinite().all()
    assert not sequence.tokens[~sequence.mask].any()
    assert (sequence.starts.diff() >= 0).all()


def scrambled(signal):
    """Something else, NaN too, wherever a mask says that nothing is."""
    off = ~signal.channel_mask
    changes = {
        "channel_ids": signal.channel_ids.masked_fill(off, 1),
        "regions": signal.regions.masked_fill(off, 1),
        "positions": signal.positions.masked_fill(off[..., None], float("nan")),
    }
    if isinstance(signal, SignalBatch):
        gone = ~signal.mask[..., None] | off[:, None]
        some = torch.where(torch.rand_like(signal.values) < 0.5, torch.nan, 1e3)
        changes["values"] = torch.where(gone, some, signal.values)
    else:
        changes["times"] = signal.times.masked_fill(~signal.mask, float("nan"))
        changes["channels"] = signal.channels.masked_fill(~signal.mask, 99)
        if signal.waveforms is not None:
            gone = ~signal.mask[..., None]
            changes["waveforms"] = signal.waveforms.masked_fill(gone, float("nan"))
    return dataclasses.replace(signal, **changes)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_what_is_masked_or_padded_changes_nothing(kind, options):
    tokenizer, signal = made(kind, options), batch(kind, options)
    before, after = tokenizer.tokenize(signal), tokenizer.tokenize(scrambled(signal))
    torch.testing.assert_close(after.tokens, before.tokens, rtol=1e-6, atol=1e-6)
    assert torch.equal(after.mask, before.mask)
    assert torch.equal(after.times, before.times)


SAMPLED = [case for case in CASES if case[0] != "spikes"]


@pytest.mark.parametrize(("kind", "options"), SAMPLED)
def test_time_that_is_padded_on_changes_nothing(kind, options):
    tokenizer, signal = made(kind, options), samples()
    longer = dataclasses.replace(
        signal,
        values=torch.cat([signal.values, torch.full((2, 9, 6), torch.nan)], dim=1),
        mask=torch.cat([signal.mask, torch.zeros(2, 9, dtype=torch.bool)], dim=1),
    )
    before, after = tokenizer.tokenize(signal), tokenizer.tokenize(longer)
    torch.testing.assert_close(after.tokens[:, : len(before)], before.tokens)
    assert not after.mask[:, len(before) :].any()


@pytest.mark.parametrize(("kind", "options"), SAMPLED)
def test_a_hidden_cell_cannot_be_seen(kind, options):
    tokenizer, signal = made(kind, options), samples()

    def louder(channels: torch.Tensor) -> SignalBatch:
        return dataclasses.replace(signal, values=signal.values + 1e3 * channels[:, None])

    cells = tokenizer.cells(signal)
    into_first = torch.zeros(2, 6, dtype=torch.bool)
    for channel in range(6):
        one = (torch.arange(6) == channel).expand(2, -1)
        moved = tokenizer.cells(louder(one)).values != cells.values
        into_first[:, channel] = moved[:, :, 0].flatten(1).any(1)
    away = torch.zeros_like(cells.seen[..., 0])
    away[:, :, 0] = True
    hidden = tokenizer.tokenize(signal, away).tokens
    torch.testing.assert_close(tokenizer.tokenize(louder(into_first), away).tokens, hidden)
    assert into_first.any()
    assert not torch.allclose(tokenizer.tokenize(signal).tokens, hidden, atol=1e-3)


@pytest.mark.parametrize(("kind", "options"), SAMPLED)
def test_a_hidden_time_cannot_be_seen_by_any_token(kind, options):
    """Also not by later ones, which look back."""
    tokenizer, signal = made(kind, options), samples()
    size = tokenizer.config.patch
    away = torch.zeros_like(tokenizer.cells(signal).seen[..., 0])
    away[:, 1] = True
    values = signal.values.clone()
    values[:, size : 2 * size] += 1e3
    other = tokenizer.tokenize(dataclasses.replace(signal, values=values), away).tokens
    torch.testing.assert_close(other, tokenizer.tokenize(signal, away).tokens)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_the_order_of_channels_changes_nothing(kind, options):
    if any(key in options for key in ORDERED):
        pytest.skip("its channels have a place, or share a cell with their neighbours")
    tokenizer, signal = made(kind, options), batch(kind, options)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    names = ("channel_ids", "channel_mask", "regions", "positions")
    changes = {name: getattr(signal, name)[:, order] for name in names}
    if isinstance(signal, SignalBatch):
        changes["values"] = signal.values[..., order]
    else:
        changes["channels"] = order.argsort()[signal.channels]
    before = tokenizer.tokenize(signal)
    after = tokenizer.tokenize(dataclasses.replace(signal, **changes))
    torch.testing.assert_close(after.tokens, before.tokens)
    assert torch.equal(after.times, before.times)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_the_future_changes_no_earlier_token(kind, options):
    tokenizer, signal, now = made(kind, options), batch(kind, options), 0.16  # s: 4 tokens
    if isinstance(signal, SignalBatch):
        values = signal.values.clone()
        values[:, round(now / signal.dt) :] = 1e3
        other = dataclasses.replace(signal, values=values)
    else:
        late = signal.times >= now
        other = dataclasses.replace(
            signal,
            channels=torch.where(late, 1, signal.channels),
            times=torch.where(late, 0.4, signal.times),
        )
    before, after = tokenizer.tokenize(signal), tokenizer.tokenize(other)
    for a, b in zip(*((s.tokens[s.starts < now - 1e-6]) for s in (before, after)), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(before.tokens, after.tokens, atol=1e-3)


@pytest.mark.parametrize(("kind", "options"), SAMPLED)
def test_a_token_needs_no_more_than_the_history_before_it(kind, options):
    """As a stream makes them: one after the other, from a few cells; before the first are zeros."""
    tokenizer, signal = made(kind, options), samples()
    whole, cells = tokenizer.tokenize(signal), tokenizer.cells(signal)
    embeddings, n = tokenizer.embeddings(signal), tokenizer.history
    pads = [
        torch.cat([torch.zeros_like(x[:, :1])] * n + [x], dim=1) for x in (cells.values, cells.seen)
    ]
    for k in range(len(whole)):
        few = type(cells)(*(x[:, k : k + n + 1] for x in pads))
        token, valid = tokenizer.pooled(few, embeddings, before=n)
        assert torch.equal(valid, whole.mask[:, k : k + 1])
        torch.testing.assert_close(token, whole.tokens[:, k : k + 1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_every_parameter_has_a_finite_gradient(kind, options, dtype):
    tokenizer = made(kind, options).to(dtype)
    sequence = tokenizer.tokenize(batch(kind, options))
    sequence.tokens.float().square().sum().backward()
    unused = {name for name, p in tokenizer.named_parameters() if p.grad is None}

    assert sequence.tokens.dtype == dtype
    assert all(p.grad.isfinite().all() for p in tokenizer.parameters() if p.grad is not None)
    # Places that recordings share are known: they need no region or position to be told by.
    shared = "grid" in options or options.get("by") == "region"
    assert unused <= ({"units.region.weight", "units.place.weight"} if shared else set())


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_what_is_saved_after_a_forward_loads_bit_equal(kind, options, tmp_path):
    tokenizer, signal = made(kind, options), batch(kind, options)
    keys = list(tokenizer.state_dict())
    before = tokenizer.tokenize(signal).tokens
    assert list(tokenizer.state_dict()) == keys
    assert not [key for key in keys if "waves_" in key]  # what follows from the settings
    save_file(tokenizer.state_dict(), tmp_path / "t.safetensors")

    again = made(kind, options, n_channels=2)  # another vocabulary, which the file replaces
    again.load_state_dict(load_file(tmp_path / "t.safetensors"))
    assert torch.equal(again.tokenize(signal).tokens, before)
    assert again.units.keys == tokenizer.units.keys
