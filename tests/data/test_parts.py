"""Recordings are joined only where their signals are the same thing."""

import dataclasses
import json

import numpy as np
import pytest
from windows import card, recording, shards

from neurofmx.errors import DataError
from neurofmx.types import Samples

DT = {"spikes": 0.05, "lfp": 0.02}


def test_a_token_has_its_share_of_the_longest_window(tmp_path):
    made = shards(tmp_path, tokens=10)  # trials of 1 s
    assert made.signals["spikes"]["patch"] == 2  # bins of 50 ms
    assert made.signals["lfp"]["patch"] == 5  # samples of 20 ms
    rows = made.index
    samples = {name: np.round((rows["stop"] - rows["start"]) / dt) for name, dt in DT.items()}
    tokens = np.ceil(samples["spikes"] / 2) + np.ceil(samples["lfp"] / 5)
    np.testing.assert_array_equal(made.tokens, tokens)


def test_a_token_is_never_less_than_a_sample(tmp_path):
    assert {s["patch"] for s in shards(tmp_path, tokens=1000).signals.values()} == {1}


def test_events_are_a_token_each_and_two_for_each_unit(tmp_path):
    signals = card().model_dump(mode="json")["signals"]
    signals["spikes"]["tokenizer"] = "spikes"
    made = shards(tmp_path, spec=card(signals=signals), tokens=10)
    assert made.signals["spikes"]["patch"] == 1
    assert made.signals["spikes"]["dt"] is None
    for position in range(len(made)):
        arrays = made[position].arrays
        lfp = -(-len(arrays["lfp.values"]) // 5)
        assert made.tokens[position] == lfp + len(arrays["spikes.events"]) + 2 * 6


def resampled(name: str, rate: float):
    """A recording whose LFP is said to have another rate."""
    made = recording(name)
    lfp = dataclasses.replace(made.signals["lfp"], rate=rate)
    return dataclasses.replace(made, signals=made.signals | {"lfp": lfp})


def test_recordings_whose_rates_differ_are_not_joined(tmp_path):
    with pytest.raises(
        DataError, match=r"'lfp' is sampled at 50 Hz in a and sampled at 40 Hz in b; .* a `rate`"
    ):
        shards(tmp_path, [recording("a"), resampled("b", 40.0)])


def test_rounding_makes_no_other_rate(tmp_path):
    made = shards(tmp_path, [recording("a"), resampled("b", 50.0 * (1 + 1e-12))])
    assert made.signals["lfp"]["dt"] == 1 / 50


def filmed(name: str, height: int, width: int):
    """A recording with a video."""
    made, lfp = recording(name), recording(name).signals["lfp"]
    rows = [{"row": r, "column": c} for r in range(height) for c in range(width)]
    pixels = np.zeros((len(lfp), len(rows)), np.uint8)
    table = type(made.signals["trials"].columns)(rows)
    video = Samples(pixels, "1", 50.0, channels=table, modality="video")
    return dataclasses.replace(made, signals=made.signals | {"video": video})


def test_videos_of_two_sizes_are_not_joined(tmp_path):
    signals = card().model_dump(mode="json")["signals"]
    spec = card(signals=signals | {"video": {"path": "v", "modality": "video", "optional": True}})
    same = shards(tmp_path / "same", [filmed("a", 2, 3), filmed("b", 2, 3)], spec)
    assert same.signals["video"]["grid"] == [2, 3]
    with pytest.raises(DataError, match=r"grid of \[2, 3\] in a and .* grid of \[3, 2\] in b"):
        shards(tmp_path / "other", [filmed("a", 2, 3), filmed("b", 3, 2)], spec)
    # One that has no video is joined all the same.
    some = shards(tmp_path / "some", [recording("a"), filmed("b", 2, 3)], spec)
    assert set(some.index["signals"]) == {"lfp,spikes", "lfp,spikes,video"}


def test_what_is_joined_is_what_models_read(tmp_path):
    made = shards(tmp_path, [recording("a"), recording("b", seed=1, units=4)])
    assert json.loads((tmp_path / "signals.json").read_text())["spikes"] == {
        "modality": "spikes",
        "tokenizer": "binned",
        "dt": 0.05,
        "grid": [],
        "stabilise": True,
        "patch": 2,
    }
    train = made.positions("train")
    asked = np.concatenate([made[p].arrays["velocity.asked"] for p in train])
    target = np.concatenate([made[p].arrays["velocity.target"] for p in train])[asked]
    assert made.tasks["velocity"]["count"] == len(target)
    np.testing.assert_allclose(made.tasks["velocity"]["mean"], target.mean(axis=0), atol=1e-6)
    assert made.tasks["cue"]["classes"] == ["left", "right"]
    sizes = made.channels.groupby(["recording", "signal"]).size()
    assert sizes.to_dict() == {
        ("a", "lfp"): 3,
        ("a", "spikes"): 6,
        ("b", "lfp"): 3,
        ("b", "spikes"): 4,
    }
