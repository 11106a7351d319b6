"""Binned counts: slower means and groups of units, by hand."""

import pytest
import torch
from tokenized import samples

from neurofmx.batches import SignalBatch
from neurofmx.tokenizers import BinnedTokenizer


def tokenizer(**options) -> BinnedTokenizer:
    torch.manual_seed(0)
    return BinnedTokenizer(BinnedTokenizer.Config(**{"width": 8, "n_channels": 6} | options))


def signal(values, mask=None, channel_mask=None) -> SignalBatch:
    values = torch.tensor(values, dtype=torch.float32)[None]
    _, time, channels = values.shape
    mask = torch.ones(1, time, dtype=torch.bool) if mask is None else torch.tensor([mask])
    every = torch.ones(1, channels, dtype=torch.bool)
    return SignalBatch(
        values=values,
        t0=torch.zeros(1).double(),
        dt=0.02,
        mask=mask,
        channel_ids=torch.arange(1, channels + 1)[None],
        channel_mask=every if channel_mask is None else torch.tensor([channel_mask]),
    )


def test_arrays_are_square_rooted():
    t = tokenizer()
    counts = torch.tensor([[[0.0, 1.0, 4.0], [9.0, 2.0, 0.0]]])
    direct = t.tokenize(signal(counts[0].sqrt().tolist()))
    torch.testing.assert_close(t(counts).tokens, direct.tokens)


def test_the_root_makes_the_variance_of_counts_equal():
    torch.manual_seed(0)
    few, many = (tokenizer().prepare(torch.poisson(torch.full((20000,), m))) for m in (5.0, 50.0))
    assert few.var().item() == pytest.approx(many.var().item(), rel=0.2)  # tenfold without it


def test_a_slower_rate_is_the_mean_of_what_was_seen_in_the_last_tokens():
    t = tokenizer(patch=2, rates=[1, 2])
    made = signal(
        [[2.0], [4.0], [100.0], [6.0], [1.0], [1.0]], mask=[True, True, False, True, True, True]
    )
    found = t.describe(t.cells(made))[0, :, 0]
    # Token 1 saw 6 and, before it, 2 and 4; the masked 100 is not among them.
    expected = [[2.0, 4.0, 3.0], [0.0, 6.0, 4.0], [1.0, 1.0, 8 / 3]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_several_rates_are_features_side_by_side():
    t = tokenizer(rates=[2, 4])
    found = t.describe(t.cells(signal([[1.0], [2.0], [3.0], [4.0], [5.0]])))[0, :, 0]
    assert found[-1].tolist() == [5.0, 4.5, 3.5]
    assert t.n_features == 3


def test_units_that_share_a_cell():
    t = tokenizer(patch=2, units=2)
    made = signal([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])  # time × unit; unit 3 of cell 1 is missing
    cells = t.cells(made)
    assert t.cell == 4
    assert cells.values[0, 0].tolist() == [[1, 4, 2, 5], [3, 6, 0, 0]]
    assert cells.seen[0, 0].tolist() == [[True] * 4, [True, True, False, False]]
    gain, bias, _ = t.embeddings(made)
    table = t.units.gain.weight
    torch.testing.assert_close(gain[0], torch.stack([(table[1] + table[2]) / 2, table[3]]))
    assert bias.shape == (1, 2, 8)


def test_a_padded_member_has_no_part_in_its_cells_embedding():
    t = tokenizer(units=2)
    made = signal([[1.0, 2.0]], channel_mask=[True, False])
    gain, *_ = t.embeddings(made)
    torch.testing.assert_close(gain[0, 0], t.units.gain.weight[1])


def test_slower_means_of_units_that_share_a_cell_are_each_their_own():
    t = tokenizer(units=2, rates=[1, 2])
    made = signal([[1.0, 10.0], [3.0, 30.0]])
    found = t.describe(t.cells(made))[0, 1, 0]
    assert found.tolist() == [3.0, 30.0, 2.0, 20.0]


def test_the_equation_of_a_token():
    """The mean over channels of Σ_r φ_r (m_r ⊙ g_c) + b_c, channel by channel."""
    t, made = tokenizer(patch=4), samples(regions=None, positions=None)
    found = t.tokenize(made)
    window, token = 0, 1  # samples 4…7
    x = [
        made.values[window, 4:8, c] @ t.mixing * t.units.gain.weight[row] + t.units.bias.weight[row]
        for c, row in enumerate(made.channel_ids[window])
    ]
    torch.testing.assert_close(found.tokens[window, token], torch.stack(x).mean(0))


def test_more_channels_than_rows_are_refused():
    with pytest.raises(ValueError, match="7 channels but a vocabulary of 6: give channel_ids"):
        tokenizer()(torch.zeros(1, 2, 7))


def test_a_gap_longer_than_a_token_is_masked_and_the_rest_is_not():
    mask = torch.ones(2, 24, dtype=torch.bool)
    mask[0, 3:9] = False  # of tokens 0 and 2 some samples are left, of token 1 none
    found = tokenizer(patch=4).tokenize(samples(mask=mask, regions=None))
    assert found.mask[0].tolist() == [True, False, True, True, True, True]
