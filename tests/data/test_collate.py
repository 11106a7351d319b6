"""A batch is what its windows are, one by one; statistics come from train windows alone."""

import dataclasses

import numpy as np
import pytest
import torch
from windows import card, recording, shards

from neurofmx.data import collate as module
from neurofmx.data.collate import Collator
from neurofmx.data.shards import Packed, Shards
from neurofmx.data.statistics import mean_counts
from neurofmx.errors import DataError
from neurofmx.types import Samples


def rows(signal, keys, regions):
    """A vocabulary that knows recording a and the region CA1."""
    return [c + 1 if owner == "a" else 0 for owner, c in keys], [int(r == "CA1") for r in regions]


def made_of(folder, *recordings, **changes):
    return shards(folder, list(recordings), card(**changes))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Of 6 and 4 units, the first with gaps in its LFP."""
    first = recording("a", units=6)
    lfp = first.signals["lfp"]
    mask = np.random.default_rng(0).random(len(lfp)) > 0.1
    gappy = Samples(lfp.values, "V", lfp.rate, mask=mask, modality="lfp")
    first = dataclasses.replace(first, signals=first.signals | {"lfp": gappy})
    return made_of(tmp_path_factory.mktemp("two"), first, recording("b", seed=1, units=4))


def both(two):
    return [two.positions("train", ["a"])[0], two.positions("train", ["b"])[0]]


def test_ragged_channels_are_padded_and_unknown_ones_are_row_0(two):
    spikes = Collator(two, rows)(both(two)).signals["spikes"]
    assert spikes.channel_mask.sum(1).tolist() == [6, 4]
    assert spikes.channel_ids.tolist() == [[1, 2, 3, 4, 5, 6], [0] * 6]
    assert (spikes.values[1, :, 4:] == 0).all()
    assert spikes.regions is None
    assert spikes.positions is None


def test_strangers_are_left_out_where_others_are_known(two):
    """A cell that is new on a day says nothing to a model that knows its neighbours."""

    def known(signal, keys, regions):
        return [c if c < 3 else 0 for _, c in keys], [0] * len(keys)

    spikes = Collator(two, known)(both(two)[:1]).signals["spikes"]
    assert spikes.channel_ids.tolist() == [[0, 1, 2, 0, 0, 0]]
    assert spikes.channel_mask.tolist() == [[False, True, True, False, False, False]]


def by_hand(shards, signal, position):
    """A window's values as the docstring has them, written out; and what was recorded."""
    sample = shards[position]
    raw = sample.arrays[f"{signal}.values"].astype(float)
    seen = sample.arrays.get(f"{signal}.mask", np.ones(len(raw), bool))
    table = shards.channels.query("recording == @sample.info['recording'] and signal == @signal")
    counts = signal == "spikes"
    centred = (np.sqrt(raw) if counts else raw) - table["mean"].to_numpy()
    return centred / table["scale"].to_numpy() * seen[:, None], seen


@pytest.mark.parametrize("block", [1, 5000, 2**18])
@pytest.mark.parametrize("signal", ["spikes", "lfp"])
def test_a_batch_is_what_its_windows_are_one_by_one(two, signal, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    positions = np.random.default_rng(0).permutation(len(two))[:24]
    batch = Collator(two, rows)(positions)
    assert batch.windows == positions.tolist()
    assert batch.recordings == [two[p].info["recording"] for p in positions]
    found = batch.signals[signal]
    for row, position in enumerate(positions):
        values, seen = by_hand(two, signal, position)
        t, c = values.shape
        np.testing.assert_allclose(found.values[row, :t, :c], values, atol=1e-5)
        assert (found.values[row, t:] == 0).all()
        assert found.mask[row].tolist() == [*seen, *[False] * (found.mask.shape[1] - t)]
        assert found.t0[row] == two[position].info["start"]
    assert found.dt == two.signals[signal]["dt"]


def test_windows_without_a_layout_are_the_same(two):
    class Walked(Shards):
        """Whose windows have to be walked through, header by header."""

        def read(self, positions):
            return [Packed(content, None) for content, _ in super().read(positions)]

    positions = np.random.default_rng(1).permutation(len(two))[:12]
    one, other = (Collator(made, rows)(positions) for made in (two, Walked(two.folder)))
    for name, signal in one.signals.items():
        assert torch.equal(signal.values, other.signals[name].values)
        assert torch.equal(signal.mask, other.signals[name].mask)
    for name, target in one.targets.items():
        assert torch.equal(target.values, other.targets[name].values)


def test_train_channels_have_mean_0_and_a_shrunk_deviation(two):
    positions = two.positions("train", ["a"])
    spikes = Collator(two, rows)(positions).signals["spikes"]
    values = spikes.values[spikes.mask].numpy().astype(float)
    raw = np.sqrt(np.concatenate([two[p].arrays["spikes.values"] for p in positions]).astype(float))

    np.testing.assert_allclose(values.mean(0), 0, atol=1e-5)
    scale = np.sqrt(0.5 * (raw.var(0) + raw.var(0).mean()))
    np.testing.assert_allclose(values.std(0), raw.std(0) / scale, rtol=1e-4)


def test_test_windows_have_no_part_in_the_statistics(tmp_path):
    made = recording()
    hand = made.signals["hand"]
    wild = np.array(hand.values)
    wild[round(0.8 * len(wild)) :] *= 1000  # the last 20 % are test
    changed = dataclasses.replace(
        made, signals=made.signals | {"hand": dataclasses.replace(hand, values=wild)}
    )
    assert made_of(tmp_path / "a", made).tasks == made_of(tmp_path / "b", changed).tasks


def test_targets_are_scaled_by_the_train_split(two):
    batch = Collator(two, rows)(both(two))
    sample, spec = two[both(two)[0]], two.tasks["velocity"]
    target = batch.targets["velocity"]
    restored = target.values[0] * torch.tensor(spec["scale"]) + torch.tensor(spec["mean"])
    length = len(sample.arrays["velocity.target"])
    np.testing.assert_allclose(restored[:length], sample.arrays["velocity.target"], atol=1e-5)
    np.testing.assert_allclose(target.times[0, :length], sample.arrays["velocity.times"], atol=1e-6)
    assert target.mask[0, :length].tolist() == sample.arrays["velocity.asked"].tolist()
    assert batch.targets["cue"].kind == "classification"


def test_events_are_padded_behind_and_know_their_units(tmp_path):
    signals = card().model_dump(mode="json")["signals"]
    signals["spikes"] |= {"tokenizer": "spikes"}
    made = made_of(tmp_path, recording("a"), recording("b", 1, 4), signals=signals)
    batch = Collator(made, rows)(both(made))
    events = batch.events["spikes"]
    assert "spikes" not in batch.signals
    assert events.channel_ids.tolist() == [[1, 2, 3, 4, 5, 6], [0] * 6]
    assert events.channel_mask.sum(1).tolist() == [6, 4]
    for row, position in enumerate(both(made)):
        sample, mask = made[position], events.mask[row]
        assert mask.sum() == len(sample.arrays["spikes.events"]) > 0
        assert events.times[row, mask].tolist() == sample.arrays["spikes.events"].tolist()
        assert events.channels[row, mask].tolist() == sample.arrays["spikes.units"].tolist()
        assert (events.times[row, ~mask] == 0).all()
        assert events.duration[row] == pytest.approx(sample.info["stop"] - sample.info["start"])


def test_regions_and_places_are_given_where_any_is_known(two):
    class Placed(Shards):
        """With a region and a place for the second channel of a."""

        @property
        def channels(self):
            table = Shards.channels.func(self)
            second = (table["recording"] == "a") & (table["channel"] == 1)
            table.loc[second, ["region", "x", "y", "z"]] = ["CA1", 0.001, 0.002, 0.003]
            return table

    spikes = Collator(Placed(two.folder), rows)(both(two)).signals["spikes"]
    assert spikes.regions.tolist() == [[0, 1, 0, 0, 0, 0], [0] * 6]
    placed = torch.isfinite(spikes.positions).all(-1)
    assert placed.nonzero().tolist() == [[0, 1]]
    torch.testing.assert_close(spikes.positions[0, 1], torch.tensor([0.001, 0.002, 0.003]))


def test_a_window_without_a_signal_is_all_padding_of_it(tmp_path):
    signals = card().model_dump(mode="json")["signals"]
    signals["lfp"] |= {"optional": True}
    second = recording("b", seed=1)
    second.signals.pop("lfp")
    made = made_of(tmp_path, recording("a"), second, signals=signals)
    batch = Collator(made, rows)(both(made))
    lfp = batch.signals["lfp"]
    assert not lfp.mask[1].any()
    assert not lfp.channel_mask[1].any()
    assert (lfp.values[1] == 0).all()
    assert "lfp" not in Collator(made, rows)(both(made)[1:]).signals


def test_only_what_is_asked_for_is_given(two):
    assert Collator(two, rows, ["lfp", "eeg"])(both(two)).signals.keys() == {"lfp"}
    assert Collator(two, rows)(both(two), signals=["spikes"]).signals.keys() == {"spikes"}


def test_partners_come_behind_in_the_same_order(two):
    a, b = both(two)
    batch = Collator(two, rows)([a, b], [a + 1, b + 1])
    assert batch.windows == [a, b, a + 1, b + 1]
    assert torch.equal(
        batch.signals["spikes"].values[2:],
        Collator(two, rows)([a + 1, b + 1]).signals["spikes"].values,
    )


@pytest.fixture
def damaged(tmp_path):
    """Data whose first train window has one wrong byte, and the position of that window."""
    made = shards(tmp_path)
    tar = tmp_path / "train-000000.tar"
    content = bytearray(tar.read_bytes())
    content[700] ^= 1
    tar.write_bytes(content)
    return Shards(tmp_path), int(made.positions("train")[0])


def test_a_corrupt_window_is_an_error_that_says_where_it_is(damaged):
    made, bad = damaged
    with pytest.raises(DataError, match=r"train-000000.tar at offset 0: window 'made-1-000000'"):
        Collator(made, rows)([bad + 1, bad, bad + 2])


def test_a_corrupt_window_is_left_out_and_told_where_that_is_wanted(damaged):
    made, bad = damaged
    collate = Collator(made, rows, on_corrupt="skip")
    batch = collate([bad + 1, bad, bad + 2])
    assert batch.windows == [bad + 1, bad + 2]
    assert len(batch.signals["spikes"].values) == 2
    assert len(batch.skipped) == 1
    assert "train-000000.tar at offset 0" in batch.skipped[0]
    # A window goes with its partner.
    paired = collate([bad + 1, bad + 2], [bad, bad + 3])
    assert paired.windows == [bad + 2, bad + 3]
    with pytest.raises(DataError, match=r"no window of a step can be read. .*at offset 0"):
        collate([bad])


def test_mean_counts_are_found_again_from_the_shrunk_scale():
    counts = np.random.default_rng(0).poisson([0.01, 0.4, 3.0, 20.0], (5000, 4))
    variance = np.sqrt(counts).var(0)
    scale = np.sqrt((variance + variance.mean()) / 2)
    found = mean_counts(np.sqrt(counts).mean(0), scale)
    np.testing.assert_allclose(found, counts.mean(0), rtol=1e-4)
    # Of units that never vary the table says a scale of 1.
    np.testing.assert_allclose(mean_counts(np.array([0.0, 2.0]), np.ones(2)), [0, 4])


def test_only_counts_say_how_they_were_normalised(two):
    batch = Collator(two, rows)(both(two))
    spikes, lfp = batch.signals["spikes"], batch.signals["lfp"]
    assert (spikes.rate[1, 4:] == 0).all()
    assert (spikes.gain[1, 4:] == 0).all()
    assert lfp.gain is lfp.shift is lfp.rate is None
