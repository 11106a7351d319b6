"""Spikes one by one, by the equation of a token and by hand."""

import dataclasses

import pytest
import torch
from tokenized import events

from neurofmx.batches import EventBatch
from neurofmx.tokenizers import SpikeTokenizer


def tokenizer(**options) -> SpikeTokenizer:
    torch.manual_seed(0)
    return SpikeTokenizer(SpikeTokenizer.Config(width=8, n_channels=6, **options))


def two_units() -> EventBatch:
    """Unit 0 (row 5) fires at 0.1 and 0.3 s, unit 1 (row 2) is silent; unit 2 is padding."""
    return EventBatch(
        times=torch.tensor([[0.1, 0.3, 0.9]]),
        channels=torch.tensor([[0, 0, 2]]),
        t0=torch.tensor([1.7e9]).double(),
        duration=torch.tensor([0.5]),
        mask=torch.tensor([[True, True, False]]),
        channel_ids=torch.tensor([[5, 2, 3]]),
        channel_mask=torch.tensor([[True, True, False]]),
    )


def token(t: SpikeTokenizer, kind: int, row: int, time: float, waveform=()) -> torch.Tensor:
    """The equation at the head of the module, one token."""
    shape = torch.tensor([*waveform])
    phi = torch.cat([torch.eye(3)[kind], shape])
    shortest, longest = t.config.periods
    periods = shortest * (longest / shortest) ** (torch.arange(16) / 15)
    angle = 2 * torch.pi * time / periods
    mixed = (phi[:, None] * t.mixing).sum(0) * t.units.gain.weight[row] + t.units.bias.weight[row]
    return mixed + t.time.weight @ torch.cat([angle.sin(), angle.cos()])


def test_starts_then_events_then_ends_then_padding():
    t = tokenizer()
    sequence = t.tokenize(two_units())
    # By row of the vocabulary: the silent unit (row 2) comes first at either end.
    said = [(1, 2, 0.0), (1, 5, 0.0), (0, 5, 0.1), (0, 5, 0.3), (2, 2, 0.5), (2, 5, 0.5)]
    assert sequence.mask.tolist() == [[True] * 6 + [False] * 3]
    torch.testing.assert_close(
        sequence.starts[0, :6].float(), torch.tensor([time for _, _, time in said])
    )
    for found, (kind, row, time) in zip(sequence.tokens[0], said, strict=False):
        torch.testing.assert_close(found, token(t, kind, row, time), rtol=1e-4, atol=1e-5)
    assert sequence.duration == pytest.approx(0.501)  # an event is said to last 1 ms
    assert (sequence.starts[0, 6:] > 0.5).all()  # padding begins after the window


def test_without_boundaries_only_events_are_left():
    sequence = tokenizer(boundaries=False).tokenize(two_units())
    assert sequence.mask.tolist() == [[True, True, False]]
    torch.testing.assert_close(sequence.starts[0, :2].float(), torch.tensor([0.1, 0.3]))


def test_a_silent_unit_is_told_from_one_that_is_not_there():
    t, batch = tokenizer(), two_units()
    gone = dataclasses.replace(batch, channel_mask=torch.tensor([[True, False, False]]))
    here, there = t.tokenize(batch), t.tokenize(gone)
    assert here.mask.sum() == 6
    assert there.mask.sum() == 4


def test_a_hidden_unit_loses_its_tokens():
    t, batch = tokenizer(), two_units()
    hidden = t.tokenize(batch, torch.tensor([[[True, False, False]]]))
    assert hidden.mask.sum() == 2  # the silent one at either end
    torch.testing.assert_close(hidden.tokens[0, 0], token(t, 1, 2, 0.0), rtol=1e-4, atol=1e-5)


def test_a_waveform_enters_like_every_feature():
    t = tokenizer(waveform=2, boundaries=False)
    shapes = torch.tensor([[[0.5, -1.0], [2.0, 0.0], [9.0, 9.0]]])
    batch = dataclasses.replace(two_units(), waveforms=shapes)
    found = t.tokenize(batch).tokens[0]
    for k, time in enumerate((0.1, 0.3)):
        expected = token(t, 0, 5, time, shapes[0, k])
        torch.testing.assert_close(found[k], expected, rtol=1e-4, atol=1e-5)
    # A recording without waveforms is read too, as if they were flat.
    flat = t.tokenize(two_units()).tokens[0, 0]
    torch.testing.assert_close(flat, token(t, 0, 5, 0.1, (0.0, 0.0)), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"waveforms of 2 samples, but .* built for 3"):
        tokenizer(waveform=3).tokenize(batch)


def test_arrays_need_no_times():
    t = tokenizer()
    units = torch.tensor([[4, 0, 4]])
    sequence = t(units, t0=torch.tensor([10.0]).double())
    assert sequence.times.tolist() == [[10.0, pytest.approx(10.001), pytest.approx(10.002)]]
    for found, unit, time in zip(sequence.tokens[0], (4, 0, 4), (0, 1e-3, 2e-3), strict=True):
        torch.testing.assert_close(found, token(t, 0, unit + 1, time), rtol=1e-4, atol=1e-5)


def test_arrays_with_present_units_have_boundaries():
    t, units = tokenizer(), torch.tensor([[1, 1]])
    present = torch.tensor([[False, True, True]])
    times = torch.tensor([[0.01, 0.02]])
    sequence = t(units, times, present=present)
    assert sequence.mask.sum() == 6
    assert sequence.starts[0, 5] == pytest.approx(0.021)  # the end of the last event
    with pytest.raises(ValueError, match="an event is of unit 1, but `present` has 1"):
        t(units, times, present=present[:, :1])
    with pytest.raises(ValueError, match="7 channels but a vocabulary of 6"):
        t(torch.tensor([[6]]))


def test_a_window_without_events_still_has_its_units():
    batch = events(n=0, regions=None)
    sequence = tokenizer().tokenize(batch)
    assert sequence.mask.sum(1).tolist() == [12, 8]


def test_time_is_told_within_a_window_and_to_a_millisecond():
    t = tokenizer()
    units, times = torch.zeros(1, 3, dtype=torch.long), torch.tensor([[0.1, 0.101, 0.4]])
    x = t(units, times).tokens[0]
    assert (x[0] - x[1]).norm() > 0.1
    assert (x[0] - x[2]).norm() > 0.1
