"""A window changes by its seed and its own data alone, and what it then says is still true."""

import dataclasses

import numpy as np
import pytest
import torch

from neurofmx.batches import Batch, EventBatch, SignalBatch, Target
from neurofmx.data.augment import AugmentParams, augment
from neurofmx.data.mixup import partners

DT = {"lfp": 0.002, "counts": 0.02, "song": 0.01}  # s
DURATION = 2.0  # s
EVERYTHING = {
    "modality_dropout": 0.4,
    "channel_dropout": 0.3,
    "anonymous": 0.5,
    "time_masks": 2,
    "band_masks": 1,
    "warp": 0.1,
    "noise": 0.5,
    "jitter": 0.01,
}
NAMES = {"spectra": {"song"}, "counts": {"counts"}}


def window(seed: int = 0, duration: float = DURATION, **changes) -> dict:
    """One window as arrays: a slow LFP whose first channel is the target, counts and spikes."""
    rng = np.random.default_rng(seed)
    made = {
        "recording": "a",
        "duration": duration,
        "lasts": duration,
        "queries": np.arange(0.05, duration, 0.1),
    }
    for name, channels in (("lfp", 2 + seed % 3), ("counts", 5 + seed % 4), ("song", 16)):
        times = np.arange(round(duration / DT[name])) * DT[name]
        waves = rng.uniform(1, 6, channels) * times[:, None] + rng.uniform(0, 6, channels)
        made[name] = np.sin(waves) if name == "lfp" else rng.normal(size=waves.shape)
        made[f"{name}.mask"] = np.ones(len(times), bool)
    n, units = 60 + 10 * seed, 4 + seed % 3
    made["times"], made["units"] = np.sort(rng.uniform(0, duration, n)), rng.integers(0, units, n)
    made["n_units"] = units
    made["asked"] = np.ones(len(made["queries"]), bool)
    lfp_times = np.arange(len(made["lfp"])) * DT["lfp"]
    made["target"] = np.interp(made["queries"], lfp_times, made["lfp"][:, 0])
    made["class"] = 1
    return made | changes


def batch(*windows: dict, pad: int = 0) -> Batch:
    """Windows side by side, each padded to the longest and by `pad` more."""
    n = len(windows)

    def padded(arrays: list[np.ndarray], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        shape = np.array([a.shape for a in arrays]).max(0) + pad
        out = torch.zeros(n, *shape, dtype=dtype)
        for row, array in enumerate(arrays):
            out[(row, *map(slice, array.shape))] = torch.as_tensor(array, dtype=dtype)
        return out

    def units(numbers: list[int]) -> dict:
        ids = padded([10 + np.arange(k) for k in numbers], torch.int64)
        return {"channel_ids": ids, "channel_mask": ids > 0, "regions": (ids > 0).long()}

    t0 = torch.arange(n, dtype=torch.float64)
    signals = {
        name: SignalBatch(
            values=padded([w[name] for w in windows]),
            t0=t0,
            dt=DT[name],
            mask=padded([w[f"{name}.mask"] for w in windows], torch.bool),
            **units([w[name].shape[1] for w in windows]),
        )
        for name in DT
    }
    events = EventBatch(
        times=padded([w["times"] for w in windows]),
        channels=padded([w["units"] for w in windows], torch.int64),
        t0=t0,
        duration=torch.tensor([w["lasts"] for w in windows]),
        mask=padded([np.ones(len(w["times"]), bool) for w in windows], torch.bool),
        **units([w["n_units"] for w in windows]),
    )
    queries = padded([w["queries"] for w in windows])
    asked = padded([w["asked"] for w in windows], torch.bool)
    target = padded([w["target"][:, None] for w in windows])
    classes = torch.tensor([[[float(w["class"])]] for w in windows])
    at_end = torch.tensor([[w["duration"]] for w in windows])
    targets = {
        "hand": Target("regression", target[..., :1], queries, asked),
        "cue": Target("classification", classes, at_end, at_end > 0),
    }
    names = [w["recording"] for w in windows]
    return Batch(signals, targets, names, list(range(n)), {"spikes": events})


def content(found: Batch, row: int) -> list[np.ndarray]:
    """All that a window says, without padding."""
    parts = []
    for signal in found.signals.values():
        there = signal.mask[row][:, None] & signal.channel_mask[row]
        assert (signal.values[row][~there] == 0).all()
        parts += [signal.values[row][there], there.nonzero()]
        parts += [signal.channel_ids[row][signal.channel_mask[row]]]
    for events in found.events.values():
        if not events.channel_mask[row].any():
            continue
        there = events.mask[row]
        assert (events.times[row][~there] == 0).all()
        parts += [events.times[row][there], events.channels[row][there], there.nonzero()]
        parts += [events.channel_ids[row][events.channel_mask[row]]]
    for target in found.targets.values():
        there = target.mask[row]
        parts += [target.values[row][there], target.times[row][there]]
    return [part.numpy() for part in parts]


def equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("names", [[name] for name in EVERYTHING] + [list(EVERYTHING)])
def test_a_window_depends_on_its_seed_and_its_own_data_alone(names):
    params = AugmentParams(**{name: EVERYTHING[name] for name in names})
    one, two, three = window(1), window(2, 1.4), window(6, 3.0)
    alone = augment(batch(one), params, [5], **NAMES)
    among = augment(batch(three, two, one, pad=3), params, [7, 6, 5], **NAMES)

    assert equal(content(alone, 0), content(among, 2))
    others = [augment(batch(one), params, [seed], **NAMES) for seed in range(6, 26)]
    assert not all(equal(content(alone, 0), content(other, 0)) for other in others)


def test_off_gives_the_very_same_batch_and_on_leaves_it_as_it_was():
    given = batch(window(1), window(2))
    before = [content(given, row) for row in (0, 1)]
    assert augment(given, AugmentParams(time_mask=0.5), [1, 2]) is given
    augment(given, AugmentParams(**EVERYTHING), [1, 2], **NAMES)
    assert all(equal(before[row], content(given, row)) for row in (0, 1))


def test_each_signal_is_left_out_as_often_as_asked_but_never_all():
    n, made = 400, window()
    there = {}
    for probability in (0.3, 0.95):
        params = AugmentParams(modality_dropout=probability)
        found = augment(batch(*[made] * n), params, range(n))
        either = {**found.signals, **found.events}
        there[probability] = torch.stack([s.channel_mask.any(1) for s in either.values()])
        assert all(torch.equal(s.mask.any(1), s.channel_mask.any(1)) for s in either.values())
        assert all((s.values[~s.mask.any(1)] == 0).all() for s in found.signals.values())
    assert there[0.3].float().mean(1).numpy() == pytest.approx(0.7, abs=0.08)
    assert (there[0.95].sum(0) >= 1).all()


def test_units_are_left_out_with_their_events_and_the_others_keep_theirs():
    n, made = 300, window(2)
    found = augment(batch(*[made] * n), AugmentParams(channel_dropout=0.4), range(n))
    lfp, spikes = found.signals["counts"], found.events["spikes"]
    assert lfp.channel_mask.float().mean() == pytest.approx(0.6, abs=0.05)
    assert (lfp.channel_mask.any(1)).all()
    for row in range(0, n, 30):
        kept = spikes.channel_mask[row].numpy()[made["units"]]
        there = spikes.mask[row]
        np.testing.assert_array_equal(spikes.times[row][there], np.float32(made["times"][kept]))
        np.testing.assert_array_equal(spikes.channels[row][there], made["units"][kept])
        assert torch.equal(there, torch.arange(len(there)) < kept.sum())
        np.testing.assert_allclose(
            lfp.values[row], made["counts"] * lfp.channel_mask[row].numpy(), atol=1e-6
        )


def test_anonymous_windows_lose_the_ids_of_all_channels_whose_place_is_known():
    n = 400
    given = batch(*[window()] * n)
    counts, spikes = given.signals["counts"], given.events["spikes"]
    given.signals["counts"] = dataclasses.replace(counts, regions=None)
    places = torch.zeros(*spikes.channel_ids.shape, 3)
    given.events["spikes"] = dataclasses.replace(spikes, regions=None, positions=places)
    found = augment(given, AugmentParams(anonymous=0.25), range(n))
    assert torch.equal(found.signals["counts"].channel_ids, counts.channel_ids)
    either = [found.signals["lfp"], found.events["spikes"]]
    lost = torch.stack([(s.channel_ids == 0).all(1) for s in either])
    assert torch.equal(lost.any(0), lost.all(0))
    assert lost.float().mean() == pytest.approx(0.25, abs=0.06)
    assert torch.equal(
        found.signals["lfp"].channel_mask, batch(window()).signals["lfp"].channel_mask.expand(n, -1)
    )


def test_stretches_of_time_are_masked_and_the_rest_is_untouched():
    n, made = 200, window()
    made["lfp.mask"] = np.ones(1000, bool)
    made["lfp.mask"][100:120] = False
    made["lfp"][100:120] = 0
    given = batch(*[made] * n)
    found = augment(given, AugmentParams(time_masks=1, time_mask=0.3), range(n))
    mask, before = found.signals["lfp"].mask, given.signals["lfp"]

    new = before.mask & ~mask
    assert not (mask & ~before.mask).any()
    lengths = [
        (np.flatnonzero(row)[[0, -1]] @ [-1, 1] + 1) if row.any() else 0 for row in new.numpy()
    ]
    assert max(lengths) <= 150  # 0.3 s
    assert np.mean(lengths) == pytest.approx(75, abs=12)
    assert (~mask)[:, 20:-20].any(0).all()  # anywhere in the window
    assert torch.equal(found.signals["lfp"].values, before.values * mask[..., None])
    assert torch.equal(found.events["spikes"].times, given.events["spikes"].times)


def test_masks_of_time_never_take_more_than_half_of_a_window():
    found = augment(batch(*[window()] * 50), AugmentParams(time_masks=3, time_mask=10.0), range(50))
    assert (found.signals["lfp"].mask.float().mean(1) >= 0.5).all()


def test_neighbouring_bands_of_spectra_alone_are_masked():
    n = 200
    given = batch(*[window()] * n)
    found = augment(given, AugmentParams(band_masks=1, band_mask=4), range(n), spectra={"song"})
    gone = ~found.signals["song"].channel_mask.numpy()
    assert set(gone.sum(1)) == {0, 1, 2, 3, 4}
    for row in gone[gone.any(1)]:
        first, last = np.flatnonzero(row)[[0, -1]]
        assert row[first : last + 1].all()
    assert gone.any(0).all()
    assert found.signals["counts"].channel_mask.all()


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_after_a_warp_target_and_spikes_still_belong_to_their_instants(share):
    n, made = 20, window()
    given = batch(*[made] * n)
    found = augment(given, AugmentParams(warp=share), range(n), counts={"counts"})
    lfp, hand, spikes = found.signals["lfp"], found.targets["hand"], found.events["spikes"]
    times = np.arange(1000) * DT["lfp"]
    trace = made["lfp"][:, 0]
    for row in range(n):
        there = lfp.mask[row].numpy()
        read = lambda at, row=row, there=there: np.interp(  # noqa: E731
            at, times[there], lfp.values[row, there, 0]
        )
        inside = slice(2, -2)
        np.testing.assert_allclose(read(hand.times[row])[inside], made["target"][inside], atol=2e-3)
        # What the trace was when a unit fired, it is when the unit fires now.
        was = np.interp(made["times"], times, trace)
        np.testing.assert_allclose(read(spikes.times[row])[inside], was[inside], atol=2e-3)
        assert (spikes.times[row].diff() >= 0).all()
        assert torch.equal(hand.values[row], given.targets["hand"].values[row])
        moved = (hand.times[row] - given.targets["hand"].times[row]).abs().max()
        assert share * 0.01 < moved < share * DURATION
        # Bins are repeated or skipped, never mixed.
        bins = found.signals["counts"]
        was = {v.tobytes() for v in np.float32(made["counts"])}
        assert {v.tobytes() for v in bins.values[row][bins.mask[row], :5].numpy()} <= was


def test_a_warp_moves_gaps_with_time_and_bridges_none():
    made = window()
    made["lfp.mask"][400:600] = False
    made["lfp"] = np.where(made["lfp.mask"][:, None], 1.0, 0.0) * np.ones((1, 2))
    found = augment(batch(*[made] * 20), AugmentParams(warp=0.2), range(20)).signals["lfp"]
    assert (found.values[found.mask] == 1).all()
    assert (found.values[~found.mask] == 0).all()
    lengths = (~found.mask).sum(1) / 200
    assert (lengths > 0.79).all()
    assert (lengths < 1.3).all()
    assert lengths.std() > 0.02


def test_noise_is_added_in_deviations_of_the_channel_where_there_is_data():
    made = window()
    made["lfp.mask"][300:500] = False
    made["lfp"][300:500] = 0
    given = batch(*[made] * 20, pad=2)
    found = augment(given, AugmentParams(noise=0.5), range(20)).signals["lfp"]
    added = found.values - given.signals["lfp"].values
    there = found.mask[..., None] & found.channel_mask[:, None]
    assert added[there].std() == pytest.approx(0.5, rel=0.02)
    assert added[there].mean() == pytest.approx(0, abs=0.01)
    assert (added[~there] == 0).all()


def test_jitter_moves_spikes_within_the_window_and_keeps_their_units():
    made = window(9)
    given = batch(*[made] * 50)
    found = augment(given, AugmentParams(jitter=0.02), range(50)).events["spikes"]
    assert (found.times >= 0).all()
    assert (found.times < DURATION).all()
    assert (found.times.diff(dim=1) >= 0).all()
    moved = []
    for row in range(50):
        for unit in range(4):
            mine = found.times[row][found.channels[row] == unit].numpy()
            was = made["times"][made["units"] == unit]
            assert len(mine) == len(was)
            moved.append(mine - np.sort(was))
    # Sorting each unit's spikes can only bring them nearer, so this is a lower bound.
    assert 0.01 < np.concatenate(moved).std() < 0.0201


def test_jitter_does_not_gather_spikes_at_the_ends_of_a_window():
    made = window(
        0, times=np.linspace(0, DURATION, 4000, endpoint=False), units=np.zeros(4000, int)
    )
    found = augment(batch(made), AugmentParams(jitter=0.05), [3]).events["spikes"]
    counts, _ = np.histogram(found.times[0], np.linspace(0, DURATION, 41))
    assert counts.min() > 60
    assert counts.max() < 140


def mixed(own: dict, other: dict, seeds=range(200)) -> Batch:
    n = len(seeds)
    return augment(batch(*[own] * n, *[other] * n), AugmentParams(mixup=1.0), list(seeds))


def test_mixup_mixes_samples_targets_and_rates_in_the_same_shares():
    own, other = window(3), window(3)
    own["lfp"], other["lfp"] = np.ones((1000, 2)), np.zeros((1000, 2))
    own["target"], other["target"] = np.full(20, 3.0), np.full(20, 1.0)
    times = np.linspace(0, DURATION, 500, endpoint=False)
    own |= {"times": times, "units": np.zeros(500, int)}
    other |= {"times": times, "units": np.ones(500, int)}
    other["lfp.mask"][:10], other["asked"][:3] = False, False
    found = mixed(own, other)
    lfp, hand, spikes = found.signals["lfp"], found.targets["hand"], found.events["spikes"]

    share = lfp.values[:, 500, 0]
    assert share.min() < 0.05
    assert share.max() > 0.95
    assert share.mean() == pytest.approx(0.5, abs=0.08)
    np.testing.assert_allclose(lfp.values[:, 10:], share[:, None, None].expand(-1, 990, 2))
    assert not lfp.mask[:, :10].any()
    assert not hand.mask[:, :3].any()
    np.testing.assert_allclose(hand.values[:, 5, 0], 3 * share + (1 - share), rtol=1e-6)
    for unit, part in ((0, share), (1, 1 - share)):
        kept = ((spikes.channels == unit) & spikes.mask).sum(1) / 500
        np.testing.assert_allclose(kept, part, atol=4 * (0.25 / 500) ** 0.5)
    assert (spikes.times.diff(dim=1)[spikes.mask[:, 1:]] >= 0).all()
    assert found.recordings == ["a"] * 200
    assert found.windows == list(range(200))


@pytest.mark.parametrize(
    "changes", [{"class": 0}, {"queries": np.arange(0.06, DURATION, 0.1)}, {"lasts": 1.9}]
)
def test_what_cannot_be_mixed_stays_as_it_is(changes):
    own, other = window(3), window(3) | changes
    found, as_it_was = mixed(own, other, range(3)), batch(own)
    for row in range(3):
        assert equal(content(found, row), content(as_it_was, 0))


def test_mixup_of_angles_goes_the_shorter_way_and_leaves_classes_alone():
    """3 and −3 rad lie 0.28 rad apart, on both sides of π."""
    n = 50
    both = batch(*[window()] * n, *[window()] * n)
    size = both.targets["hand"].values.shape
    angle = torch.where(torch.arange(2 * n)[:, None, None] < n, 3.0, -3.0).expand(size)
    turned = dataclasses.replace(both.targets["hand"], kind="circular", values=angle)
    order = dataclasses.replace(both.targets["cue"], kind="ordinal")
    both = dataclasses.replace(both, targets={"head": turned, "cue": order})
    found = augment(both, AugmentParams(mixup=1.0), list(range(n)))
    mixed_angles = found.targets["head"].values[found.targets["head"].mask]
    assert (mixed_angles.abs() >= 3.0 - 1e-6).all()
    assert mixed_angles.min() < -3.0 < 3.0 < mixed_angles.max()
    assert torch.equal(found.targets["cue"].values, order.values[:n])


def test_mixup_depends_on_the_pair_and_the_seed_alone():
    params = AugmentParams(mixup=1.0, warp=0.1)
    one, two, three = window(3), window(6), window(4, 3.0, recording="b")
    alone = augment(batch(one, two), params, [5])
    among = augment(batch(three, one, three, two, pad=2), params, [8, 5])
    assert equal(content(alone, 0), content(among, 1))


def test_a_signal_that_only_others_have_changes_nothing():
    """Of a window without spikes a batch knows only how long they would last."""
    params = AugmentParams(**EVERYTHING, mixup=1.0)
    lacking = {"times": np.zeros(0), "units": np.zeros(0, int), "n_units": 0}
    one, two = window(3) | lacking, window(3) | lacking | {"lasts": 2.1}
    alone = augment(dataclasses.replace(batch(one, two), events={}), params, [5], **NAMES)
    among = augment(batch(one, window(2), two, window(2)), params, [5, 6], **NAMES)
    assert equal(content(alone, 0), content(among, 0))


def test_partners_are_others_of_the_same_recording_and_split_by_the_seed_alone():
    edges = np.array([0, 10, 11, 40])
    windows, rng = np.array([0, 5, 9, 10, 11, 39]), np.random.default_rng(0)
    drawn = np.stack([partners(windows, rng.integers(0, 2**63, 6), edges) for _ in range(2000)])
    for column, (low, high) in enumerate([(0, 10)] * 3 + [(10, 11)] + [(11, 40)] * 2):
        others = set(range(low, high)) - {windows[column]}
        assert set(drawn[:, column]) == (others or {10})
    alone = partners(windows[[4]], np.array([77]), edges)
    assert alone == partners(windows, np.full(6, 77), edges)[4]


def test_wrong_use_is_refused():
    given = batch(window(), window())
    with pytest.raises(ValueError, match="3 seeds ask for a batch of 3 windows, not 2"):
        augment(given, AugmentParams(noise=1.0), [1, 2, 3])
    with pytest.raises(ValueError, match="2 seeds ask for a batch of 4 windows, not 2"):
        augment(given, AugmentParams(mixup=1.0), [1, 2])
    other = dataclasses.replace(given, recordings=["a", "b"])
    with pytest.raises(ValueError, match="window 0 of recording a cannot be mixed with window 1"):
        augment(other, AugmentParams(mixup=1.0), [1])
