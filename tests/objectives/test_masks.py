"""What each masking hides of made-up windows, and how often."""

import dataclasses

import pytest
import torch
from scipy import stats

from neurofmx.batches import Batch, Cells, EventBatch, ModelOutput
from neurofmx.errors import UserError
from neurofmx.objectives import OBJECTIVES
from neurofmx.objectives.draws import Draws
from neurofmx.objectives.masked import Masking, take_turns

MASKINGS = [name for name, kind in OBJECTIVES.items() if issubclass(kind, Masking)]
N = 4000  # windows: a share comes out to 3 percent


def cells(n=N, tokens=12, channels=6, regions=None, ids=None):
    """Traces of which everything was seen, one sample a token."""
    seen = torch.ones(n, tokens, channels, 1, dtype=torch.bool)
    row = torch.arange(1, channels + 1) if ids is None else torch.tensor(ids)
    place = torch.zeros(channels).long() if regions is None else torch.tensor(regions)
    own = (x.expand(n, -1).clone() for x in (row, place))
    return Cells(torch.zeros(n, tokens, channels, 1), seen, None, None, None, *own)


def batch(neural=("x",), events=None, **signals):
    """Windows of some signals, all of which they have."""
    n = len(next(iter(signals.values())).seen)
    found = {} if events is None else {"spikes": events}
    names = frozenset(neural)
    return Batch({}, {}, ["r"] * n, list(range(n)), found, cells=signals, neural=names)


def spikes(n=N, units=5):
    """Windows of units that never fired."""
    none, start = torch.zeros(n, 0), torch.zeros(n, dtype=torch.float64)
    ids = torch.arange(units).expand(n, -1)
    here = torch.ones(n, units, dtype=torch.bool)
    return EventBatch(none, none.long(), start, start + 1, none.bool(), ids, here)


def masking(name, **options):
    kind = OBJECTIVES[name]
    return kind(config=kind.Config(**options))


def hidden(given, name, **options):
    """What one masking hides of a batch whose windows have the seeds 0, 1, 2 …"""
    return masking(name, **options).prepare(given, Draws(torch.tensor(given.windows)))


def of(given, name, **options):
    """The same of the only signal."""
    found = hidden(given, name, **options)
    assert torch.equal(found.hidden["x"], found.asked[name]["x"])
    return found.hidden["x"]


def share(mask):
    return mask.float().mean().item()


def test_masked_hides_whole_channels_and_whole_tokens():
    for name in ("masked", "codes"):
        away = of(batch(x=cells()), name, channels=0.2, times=0.3)
        whole = away.all(1, keepdim=True) | away.all(2, keepdim=True)
        assert torch.equal(away, whole)
        assert share(away) == pytest.approx(1 - 0.8 * 0.7, abs=0.02)
    assert share(of(batch(x=cells()), "masked", channels=0.2, times=0.0)) == pytest.approx(0.2, 0.1)
    assert share(of(batch(x=cells()), "masked", channels=0.0, times=0.3)) == pytest.approx(0.3, 0.1)


@pytest.mark.parametrize("stretch", [1, 3])
def test_masked_time_hides_stretches_over_all_channels(stretch):
    away = of(batch(x=cells(tokens=20)), "masked_time", share=0.3, stretch=stretch)
    assert torch.equal(away.any(2), away.all(2))
    each = away[:, :, 0].float().mean(0)  # a token at the edge is hidden as often as one inside
    assert each.tolist() == pytest.approx([0.3] * 20, abs=0.03)
    lengths = [n for window in away[:500, :, 0] for n in inner_runs(window)]
    assert min(lengths) == stretch


def inner_runs(window):
    """Lengths of the stretches that begin and end inside a window."""
    runs = "".join("x" if token else " " for token in window)
    return [len(run) for run in f"|{runs}|".split() if "|" not in run]


def test_masked_unit_hides_whole_channels():
    away = of(batch(x=cells()), "masked_unit", share=0.3)
    assert torch.equal(away.any(1), away.all(1))
    assert away.float().mean((0, 1)).tolist() == pytest.approx([0.3] * 6, abs=0.03)


def test_masked_region_hides_one_region_each_alike_often():
    given, regions = cells(regions=[1, 1, 2, 3, 3, 0]), torch.tensor([1, 1, 2, 3, 3, 0])
    given.seen[:, :, 3:5] = torch.arange(N)[:, None, None, None] % 2 == 0  # half lack region 3
    away = of(batch(x=given), "masked_region")
    assert torch.equal(away.any(1), away.all(1))
    drawn = (away[:, 0] * regions).amax(1)
    present = given.seen[:, 0, :, 0] & (regions == drawn[:, None])
    assert torch.equal(away[:, 0], present)
    assert stats.chisquare(drawn[::2].bincount(minlength=4)[1:]).pvalue > 0.01
    assert stats.chisquare(drawn[1::2].bincount(minlength=4)[1:3]).pvalue > 0.01


@pytest.mark.parametrize("regions", [[0, 0, 0], [2, 2, 2], [0, 2, 0]])
@pytest.mark.parametrize("name", ["masked_region", "masked_in_region"])
def test_of_fewer_than_two_regions_none_is_hidden(name, regions):
    assert not of(batch(x=cells(channels=3, regions=regions)), name).any()


def test_masked_in_region_hides_all_others_and_asks_only_within():
    regions = torch.tensor([1, 1, 1, 1, 2, 2, 2, 0])
    given = batch(x=cells(channels=8, regions=regions.tolist()))
    found = hidden(given, "masked_in_region", share=0.5)
    away, wanted = (x["x"].any(1) for x in (found.hidden, found.asked["masked_in_region"]))
    asks = wanted.any(1)  # a window of which nothing happened to be drawn is left whole
    assert not away[~asks].any()
    drawn = (wanted * regions).amax(1)
    inside = regions == drawn[:, None]
    assert torch.equal(away, (wanted | ~inside) & asks[:, None])
    assert not (wanted & ~inside).any()
    # (0.5, 1 − 0.5⁴) and (0.5, 1 − 0.5³): how often a channel is asked where one is.
    for region, size in ((1, 4), (2, 3)):
        asked = wanted[drawn == region][:, regions == region]
        assert share(asked) == pytest.approx(0.5 / (1 - 0.5**size), abs=0.03)


def test_masked_forward_hides_the_end_of_what_a_window_has():
    lengths = 10 * (1 + torch.arange(N) % 3)  # of 30 tokens; the rest is padding
    given = cells(tokens=30)
    given.seen[torch.arange(30) >= lengths[:, None]] = False
    given.seen[:, 3:5] = False  # a gap is no end
    away = of(batch(x=given), "masked_forward", least=0.1, most=0.5)
    assert torch.equal(away.any(2), away.all(2))
    shown = (~away[:, :, 0]).sum(1)
    assert torch.equal(away[:, :, 0], torch.arange(30) >= shown[:, None])
    gone = 1 - shown / lengths
    assert gone.min() >= 0.1 - 1e-6
    assert gone.max() <= 0.5
    assert gone.mean() == pytest.approx(0.3, abs=0.04)  # in whole tokens, of 0.1 to 0.5


def test_masked_forward_hides_all_signals_from_the_same_time():
    found = hidden(batch(x=cells(tokens=10), y=cells(tokens=40)), "masked_forward")
    coarse, fine = (found.hidden[name][:, :, 0].float().mean(1) for name in "xy")
    assert ((fine - coarse).abs() < 1 / 10).all()  # to the larger token


def told(objective, given, deviations):
    """Steps at which the channels are told so far from the truth."""
    wrong = torch.tensor(deviations).sqrt()[:, None].expand_as(given.cells["x"].values)
    output = ModelOutput(torch.zeros(1, 1, 2), {}, {"reconstruct.x": wrong})
    for step in range(100):
        seeds = torch.tensor(given.windows) + 1000 * step
        objective.total(output, objective.prepare(given, Draws(seeds)))
        objective.learn()


def test_masked_adaptive_hides_what_it_knows_by_the_odds_it_says():
    objective, deviances = masking("masked_adaptive", share=0.3, temperature=0.5), [0.2, 0.7, 1.2]
    given = batch(x=cells(n=50, channels=3))
    draws, many = Draws(torch.arange(N)), batch(x=cells(channels=3))
    before = objective.prepare(many, draws).hidden["x"]
    assert before.float().mean((0, 1)).tolist() == pytest.approx([0.3] * 3, abs=0.03)
    told(objective, given, deviances)
    away = objective.prepare(many, draws).hidden["x"]
    assert torch.equal(away.any(1), away.all(1))
    odds = (-torch.tensor(deviances) / 0.5).exp()
    expected = 0.3 * odds / odds.mean()
    assert expected[0] / expected[1] == pytest.approx(torch.e)
    assert away.float().mean((0, 1)).tolist() == pytest.approx(expected.tolist(), abs=0.03)


def test_however_badly_all_is_told_the_better_channel_is_hidden_at_most_nine_times_in_ten():
    objective = masking("masked_adaptive", share=0.5, temperature=0.01)
    told(objective, batch(x=cells(n=50, channels=2)), [3.0, 4.0])
    away = objective.prepare(batch(x=cells(channels=2)), Draws(torch.arange(N))).hidden["x"]
    assert away.float().mean((0, 1)).tolist() == pytest.approx([0.9, 0.0], abs=0.03)


def test_masked_adaptive_knows_a_channel_wherever_it_stands():
    objective = masking("masked_adaptive", share=0.3)
    told(objective, batch(x=cells(n=50, channels=2, ids=[7, 8])), [0.1, 1.0])
    away = objective.prepare(batch(x=cells(channels=2, ids=[8, 7])), Draws(torch.arange(N)))
    often = away.hidden["x"].float().mean((0, 1))
    assert often[1] > 5 * often[0]


def test_masked_adaptive_learns_of_a_channel_only_where_it_asks_and_trains():
    objective, given = masking("masked_adaptive", share=0.0), batch(x=cells(n=50, channels=2))
    told(objective, given, [0.1, 0.1])
    objective.config = objective.Config(share=0.5)
    told(objective.eval(), given, [0.1, 0.1])
    assert (objective.deviances == 1).all()


@pytest.mark.parametrize("name", ["masked_region", "masked_in_region", "masked_adaptive"])
def test_a_masking_by_channel_refuses_cells_that_channels_share(name):
    shared = dataclasses.replace(cells(n=2), channel_ids=None, regions=None)
    with pytest.raises(UserError, match=f"{name} needs a cell for each channel.*'x'"):
        hidden(batch(x=shared), name)


def modalities():
    """Windows of units and a field potential, brain, and of a hand; each lacks one in turn."""
    lfp, hand, units = cells(tokens=6), cells(tokens=4, channels=2), spikes()
    lacks = torch.arange(N) % 4  # 0: nothing
    lfp.seen[lacks == 1], hand.seen[lacks == 2], units.channel_mask[lacks == 3] = (
        False,
        False,
        False,
    )
    return batch(("lfp", "spikes"), units, lfp=lfp, hand=hand), lacks


def windows_of(found):
    """Of each signal, the windows that it is hidden from, all of it or nothing."""
    whole = {name: mask.flatten(1).all(1) for name, mask in found.hidden.items()}
    assert all(torch.equal(mask.flatten(1).any(1), whole[n]) for n, mask in found.hidden.items())
    return whole


def test_encoding_hides_all_of_the_brain_where_a_body_is_left():
    given, lacks = modalities()
    found = hidden(given, "encoding")
    whole = windows_of(found)
    assert set(whole) == {"lfp", "spikes"}
    # Where there is no field potential nothing could be asked, and units have no samples.
    assert torch.equal(whole["lfp"], (lacks == 0) | (lacks == 3))
    assert torch.equal(whole["spikes"], lacks == 0)
    assert found.hidden["spikes"].shape == (N, 1, 5)
    assert set(found.asked["encoding"]) == {"lfp"}


def test_decoding_hides_all_of_the_body_where_some_brain_is_left():
    given, lacks = modalities()
    found = hidden(given, "decoding")
    assert list(found.hidden) == ["hand"]
    assert torch.equal(windows_of(found)["hand"], lacks != 2)
    alone = dataclasses.replace(given, events={}, cells={"hand": given.cells["hand"]})
    assert hidden(alone, "decoding").hidden == {}


def test_crossing_hides_one_signal_of_several_each_alike_often():
    given, lacks = modalities()
    objective, draws = masking("crossing"), Draws(torch.arange(N))
    away = {n: mask.flatten(1).all(1) for n, (mask, _) in objective.hide(given, draws).items()}
    whole = torch.stack([away[name] for name in ("lfp", "hand", "spikes")], 1)
    assert (whole.sum(1) == 1).all()
    assert stats.chisquare(whole[lacks == 0].sum(0)).pvalue > 0.01
    for lack in (1, 2, 3):
        often = whole[lacks == lack].sum(0)
        assert often[lack - 1] == 0
        assert stats.chisquare(often[often > 0]).pvalue > 0.01


def test_crossing_leaves_a_window_of_one_signal_alone():
    x, y = cells(), cells(tokens=3)
    y.seen[::2] = False
    whole = windows_of(hidden(batch(x=x, y=y), "crossing"))
    assert not (whole["x"] | whole["y"])[::2].any()
    assert (whole["x"] ^ whole["y"])[1::2].all()


def test_each_window_is_hidden_from_by_one_that_finds_something_alike_often():
    given = cells(channels=4, regions=[1, 1, 2, 2])
    given.regions[::2] = 0  # of every other window no region is known
    given = batch(x=given)
    names, draws = ("masked_forward", "masked_region", "masked_unit"), Draws(torch.arange(N))
    maskings = {name: masking(name) for name in names}
    found = take_turns(maskings, given, draws)
    asked = {name: found.asked[name]["x"] for name in names}
    turn = torch.stack([mask.flatten(1).any(1) for mask in asked.values()], 1)
    assert turn.sum(1).max() == 1
    for name, mask in asked.items():
        alone, mine = maskings[name].hide(given, draws)["x"][0], mask.flatten(1).any(1)
        assert torch.equal(mask[mine], alone[mine])
        assert torch.equal(found.hidden["x"][mine], alone[mine])
    finds = torch.stack(
        [maskings[n].hide(given, draws)["x"][1].flatten(1).any(1) for n in names], 1
    )
    assert torch.equal(turn.any(1), finds.any(1))
    assert not turn[::2, 1].any()
    for able in (torch.tensor([True, False, True]), torch.tensor([True, True, True])):
        of_these = turn[(finds == able).all(1)][:, able].sum(0)
        assert stats.chisquare(of_these).pvalue > 0.01


def test_nothing_is_hidden_from_a_window_that_is_asked_nothing():
    lfp, hand = cells(n=400, regions=[1, 1, 2, 2, 0, 0]), cells(n=400)
    lfp.seen[::2] = False
    units = spikes(400)
    given = batch(("lfp", "spikes"), units, lfp=lfp, hand=hand)
    for name in MASKINGS:
        found = hidden(given, name)
        asks = torch.zeros(400, dtype=torch.bool)
        for signal, wanted in found.asked[name].items():
            asks |= (wanted & given.cells[signal].seen.any(3)).flatten(1).any(1)
        for mask in found.hidden.values():
            assert not mask[~asks].any(), name


def sizes(n):
    """Tokens and channels of windows of different length and population."""
    return [(4 + k % 5, 2 + k % 3) for k in range(n)]


def padded(n, tokens, channels, units, only=None):
    """Windows of these sizes in a batch that is as large; or one of them alone."""
    fits = sizes(n) if only is None else [sizes(n)[only]]
    at = (torch.arange(tokens), torch.arange(channels))
    seen = torch.stack([(at[0] < t)[:, None] & (at[1] < c) for t, c in fits])[..., None]
    x = dataclasses.replace(
        cells(len(fits), tokens, channels, regions=[k % 2 + 1 for k in range(channels)]), seen=seen
    )
    hand, events = cells(len(fits), tokens=3, channels=1), spikes(len(fits), units)
    events.channel_mask[:, 2:] = False
    return batch(("x", "spikes"), events, x=x, hand=hand)


@pytest.mark.parametrize("names", [[n] for n in MASKINGS] + [MASKINGS], ids=[*MASKINGS, "all"])
def test_padding_and_neighbours_change_nothing_of_what_is_hidden(names):
    n, maskings = 60, {name: masking(name) for name in names}
    together = take_turns(maskings, padded(n, 20, 9, 7), Draws(torch.arange(n)))
    for k, (tokens, channels) in enumerate(sizes(n)):
        alone = padded(n, tokens, channels, 2, only=k)
        alone = take_turns(maskings, alone, Draws(torch.tensor([k])))
        for signal, mask in alone.hidden.items():
            here = together.hidden[signal][k, : mask.shape[1], : mask.shape[2]]
            assert torch.equal(here, mask[0]), (signal, k)
