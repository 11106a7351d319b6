"""Tokens in time, by values worked out by hand."""

import itertools

import pytest
import torch

from neurofmx.sequence import TokenizedSequence

EPOCH = 1.7e9  # s after 1970: a day in 2023
DOUBLE = torch.float64


def sequence(n=4, t0=10.0, dt=0.5, mask=None, offsets=None, first=0):
    """A batch of one: token k holds k + first in both of its features."""
    tokens = torch.arange(first, first + n, dtype=torch.float32)[None, :, None].expand(1, n, 2)
    mask = torch.ones(1, n, dtype=torch.bool) if mask is None else torch.tensor([mask])
    dt = torch.tensor([dt] if isinstance(dt, list) else dt, dtype=DOUBLE)
    offsets = None if offsets is None else torch.tensor([offsets], dtype=DOUBLE)
    return TokenizedSequence(tokens, torch.tensor([t0], dtype=DOUBLE), dt, mask, offsets)


def test_times_of_equal_tokens():
    s = sequence(n=4, t0=10.0, dt=0.5, mask=[True, True, True, False])
    assert len(s) == 4
    assert s.times.tolist() == [[10.0, 10.5, 11.0, 11.5]]
    assert s.middles.tolist() == [[0.25, 0.75, 1.25, 1.75]]
    assert s.duration == 1.5  # the last token is not valid
    assert s.end_time == 11.5
    assert s.rate == 2.0


def test_times_of_unequal_tokens():
    s = sequence(n=3, t0=10.0, dt=[0.5, 0.25, 1.0])
    assert s.times.tolist() == [[10.0, 10.5, 10.75]]
    assert s.middles.tolist() == [[0.25, 0.625, 1.25]]
    assert s.end_time == 11.75
    with pytest.raises(ValueError, match="do not follow each other at one rate"):
        _ = s.rate


def test_times_of_events():
    s = sequence(n=3, t0=10.0, dt=0.001, offsets=[0.0, 0.2, 0.2])  # two at once
    assert s.times.tolist() == [[10.0, 10.2, 10.2]]
    assert s.duration.item() == pytest.approx(0.201)
    with pytest.raises(ValueError, match="do not follow each other at one rate"):
        _ = s.rate


def test_one_dt_for_each_token_may_still_be_one_rate():
    assert sequence(n=3, dt=[0.02, 0.02, 0.02]).rate == pytest.approx(50.0)


def test_plain_numbers_are_taken():
    mask = torch.ones(3, 4, dtype=torch.bool)
    s = TokenizedSequence(torch.zeros(3, 4, 2), EPOCH + 0.001, 0.02, mask)
    assert s.t0.shape == (3,)
    assert s.t0.dtype == DOUBLE
    assert s.t0[0].item() == EPOCH + 0.001
    assert s.rate == 50.0


def test_milliseconds_stay_exact_at_the_epoch():
    n = 100_000
    s = sequence(n=n, t0=EPOCH, dt=0.001)
    k = torch.arange(n, dtype=DOUBLE)
    assert torch.equal(s.times[0], EPOCH + k * 0.001)  # in float32 they would be 128 s apart
    assert torch.equal(s.starts[0], k * 0.001)
    third = s.slice_time(EPOCH + 40.0, EPOCH + 40.003)
    assert third.tokens[0, :, 0].tolist() == [40000, 40001, 40002]
    assert s.end_time.item() == pytest.approx(EPOCH + 100, abs=1e-6)


def test_duration_is_of_the_last_valid_token_of_each_sequence():
    mask = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    s = TokenizedSequence(torch.zeros(3, 3, 1), torch.tensor([0.0, 5.0, 9.0]).double(), 0.5, mask)
    assert s.duration.tolist() == [1.0, 0.5, 0.0]
    assert s.end_time.tolist() == [1.0, 5.5, 9.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": torch.zeros(4)}, r"tokens are \(batch, token, feature\), not \(4,\)"),
        ({"tokens": torch.zeros(4, 2)}, r"not \(4, 2\): add the batch axis \(`tokens\[None\]`"),
        ({"mask": torch.ones(4).bool()}, r"mask \(4,\) does not fit .* it needs \(1, 4\)"),
        ({"mask": torch.ones(1, 3).bool()}, r"mask \(1, 3\) does not fit .* it needs \(1, 4\)"),
        ({"mask": torch.ones(1, 4, 2).bool()}, r"mask \(1, 4, 2\) does not fit"),
        ({"mask": torch.ones(1, 4)}, "mask is torch.float32; it needs bool"),
        ({"dt": 0.0}, "dt is the duration .* must be positive"),
        ({"dt": -0.5}, "dt is the duration .* must be positive"),
        ({"dt": float("nan")}, "dt is the duration .* must be positive"),
        ({"dt": torch.tensor([[0.1, 0.1, 0.0, 0.1]])}, "dt is the duration .* must be positive"),
        ({"dt": torch.ones(1, 3)}, r"dt \(1, 3\) does not fit .* it needs \(1, 4\)"),
        ({"t0": torch.zeros(4)}, r"t0 \(4,\) does not fit .* it needs \(1,\)"),
        ({"offsets": torch.zeros(1, 3)}, r"offsets \(1, 3\) does not fit .* it needs \(1, 4\)"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    given = {"tokens": torch.zeros(1, 4, 2), "t0": 0.0, "dt": 0.5}
    given["mask"] = torch.ones(1, 4, dtype=torch.bool)
    TokenizedSequence(**given)
    with pytest.raises(ValueError, match=message):
        TokenizedSequence(**given | changes)


def test_slices_that_abut_hold_each_token_once():
    s = sequence(n=1000, t0=EPOCH, dt=0.001)
    cuts = [EPOCH, EPOCH + 0.1, EPOCH + 0.1005, EPOCH + 0.777, EPOCH + 1]
    parts = [s.slice_time(a, b) for a, b in itertools.pairwise(cuts)]
    assert [len(p) for p in parts] == [100, 1, 676, 223]
    whole = TokenizedSequence.concatenate(parts)
    assert torch.equal(whole.tokens, s.tokens)
    torch.testing.assert_close(whole.times, s.times, rtol=0, atol=1e-6)


def test_a_slice_is_half_open_and_keeps_its_clock():
    s = sequence(n=4, t0=10.0, dt=0.5).slice_time(10.5, 11.5)
    assert s.tokens[0, :, 0].tolist() == [1, 2]
    assert s.t0 == 10.5
    assert s.times.tolist() == [[10.5, 11.0]]
    unequal = sequence(n=3, t0=10.0, dt=[0.5, 0.25, 1.0]).slice_time(10.5, 20.0)
    assert unequal.dt.tolist() == [[0.25, 1.0]]


def test_a_slice_of_events_keeps_each_at_its_time():
    s = sequence(n=4, t0=10.0, dt=0.001, offsets=[0.0, 0.2, 0.2, 0.4]).slice_time(10.1, 10.4)
    assert s.tokens[0, :, 0].tolist() == [1, 2]
    assert s.times.tolist() == [[10.2, 10.2]]


def test_a_slice_without_tokens_is_empty():
    s = sequence(n=4, t0=10.0).slice_time(20.0, 21.0)
    assert len(s) == 0
    assert s.duration == 0.0
    assert s.pad(2).mask.tolist() == [[False, False]]
    with pytest.raises(ValueError, match=r"start ≤ stop, not \[21.0, 20.0\)"):
        s.slice_time(21.0, 20.0)


def test_in_a_batch_a_slice_masks_what_only_others_keep():
    both = TokenizedSequence.batch([sequence(t0=10.0), sequence(t0=10.5, first=10)])
    s = both.slice_time(10.5, 11.5)  # tokens 1 and 2 of one, 0 and 1 of the other
    kept = [x[m][:, 0].tolist() for x, m in zip(s.tokens, s.mask, strict=True)]
    assert kept == [[1, 2], [10, 11]]
    assert s.times[0, 1:].tolist() == [10.5, 11.0]
    assert s.times[1, :2].tolist() == [10.5, 11.0]


def test_padding_is_masked_and_takes_no_time():
    s = sequence(n=2, dt=[0.5, 0.25]).pad(4)
    assert s.mask.tolist() == [[True, True, False, False]]
    assert s.tokens[0, :, 0].tolist() == [0, 1, 0, 0]
    assert s.duration == 0.75
    # Padding begins after the last event has ended: whoever looks for the last token to have
    # begun by a time finds a valid one.
    events = sequence(n=2, dt=0.001, offsets=[0.0, 0.3]).pad(3)
    assert events.starts[0].tolist() == [0.0, 0.3, pytest.approx(0.301)]
    with pytest.raises(ValueError, match="cannot pad 4 tokens to 3"):
        sequence(n=4).pad(3)


def test_sequences_of_any_length_side_by_side():
    short, long = sequence(n=2, t0=EPOCH, dt=0.5), sequence(n=3, t0=10.0, dt=0.25, first=5)
    s = TokenizedSequence.batch([short, long])
    assert s.tokens[..., 0].tolist() == [[0, 1, 0], [5, 6, 7]]
    assert s.mask.tolist() == [[True, True, False], [True, True, True]]
    assert s.times[0, :2].tolist() == [EPOCH, EPOCH + 0.5]
    assert s.times[1].tolist() == [10.0, 10.25, 10.5]
    assert s.duration.tolist() == [1.0, 0.75]
    same = TokenizedSequence.batch([sequence(n=2), sequence(n=3)])
    assert same.dt.shape == ()  # one number, where all share it
    assert same.rate == 2.0


def test_batches_join_row_by_row():
    two = TokenizedSequence.batch([sequence(n=2), sequence(n=1, dt=0.25, first=5)])
    s = TokenizedSequence.batch([two, sequence(n=3, t0=20.0, first=7)])
    assert s.tokens[..., 0].tolist() == [[0, 1, 0], [5, 0, 0], [7, 8, 9]]
    assert s.mask.sum(1).tolist() == [2, 1, 3]
    assert s.t0.tolist() == [10.0, 10.0, 20.0]
    assert s.duration.tolist() == [1.0, 0.25, 1.5]


def test_a_batch_with_events_keeps_their_times():
    s = TokenizedSequence.batch(
        [sequence(n=2, dt=0.5), sequence(n=3, dt=0.5, offsets=[0.0, 0.1, 0.1])]
    )
    assert s.times[0, :2].tolist() == [10.0, 10.5]
    assert s.times[1].tolist() == [10.0, 10.1, 10.1]


def test_sequences_that_follow_each_other_become_one():
    whole = TokenizedSequence.concatenate(
        [sequence(n=2, t0=EPOCH), sequence(n=1, t0=EPOCH + 1.0, first=2, mask=[False])]
    )
    assert whole.tokens[0, :, 0].tolist() == [0, 1, 2]
    assert whole.times.tolist() == [[EPOCH, EPOCH + 0.5, EPOCH + 1.0]]
    assert whole.mask.tolist() == [[True, True, False]]
    assert whole.dt.shape == ()
    mixed = TokenizedSequence.concatenate([sequence(n=1, dt=0.5), sequence(n=2, t0=10.5, dt=0.25)])
    assert mixed.dt.tolist() == [[0.5, 0.25, 0.25]]


@pytest.mark.parametrize(
    ("t0", "by"), [(11.5, r"\+0.5"), (10.5, r"-0.5"), (9.0, "-2"), (11.001, r"\+0.001")]
)
def test_gaps_overlaps_and_wrong_order_are_refused(t0, by):
    with pytest.raises(ValueError, match=f"sequence 1 begins {by} s from the end of the one bef"):
        TokenizedSequence.concatenate([sequence(n=2, t0=10.0), sequence(n=2, t0=t0)])


def test_one_of_a_batch_that_does_not_follow_is_refused():
    first = TokenizedSequence.batch([sequence(n=2, t0=10.0), sequence(n=2, t0=20.0)])
    after = TokenizedSequence.batch([sequence(n=2, t0=11.0), sequence(n=2, t0=20.75)])
    with pytest.raises(ValueError, match=r"sequence 1 begins -0.25 s"):
        TokenizedSequence.concatenate([first, after])


def test_events_may_leave_time_between_them_but_not_go_back():
    early = sequence(n=2, dt=0.001, offsets=[0.0, 0.3])
    late = sequence(n=2, t0=10.3, dt=0.001, offsets=[0.0, 2.0], first=2)
    whole = TokenizedSequence.concatenate([early.pad(3), late])
    assert whole.times[whole.mask].tolist() == [10.0, 10.3, 10.3, 12.3]
    assert (whole.starts.diff() >= 0).all()  # of the masked one in between too
    with pytest.raises(ValueError, match=r"sequence 1 begins -2.3 s"):
        TokenizedSequence.concatenate([late, early])


def test_a_move_keeps_time_in_double():
    s = sequence(n=2, t0=EPOCH, dt=[0.001, 0.001], offsets=[0.0, 0.0005]).to("cpu", torch.bfloat16)
    assert s.tokens.dtype == torch.bfloat16
    assert s.t0.item() == EPOCH
    assert s.times.tolist() == [[EPOCH, EPOCH + 0.0005]]
    assert sequence(n=2).to("meta").tokens.device.type == "meta"
