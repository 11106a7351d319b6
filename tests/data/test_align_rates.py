"""Signals of very different rates on one clock: a scene with EEG, a camera and spikes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from neurofmx.data import store
from neurofmx.data.align import align, regular
from neurofmx.data.cards import Card
from neurofmx.data.signal_cards import SignalCard
from neurofmx.data.slices import Slices
from neurofmx.errors import DataError
from neurofmx.stages.base import threads
from neurofmx.types import Events, Recording, Samples

DURATION, DRIFT = 60.0, 150.0
SIGNALS = {
    "eeg": {"path": "eeg", "modality": "eeg"},
    "video": {"path": "video", "modality": "behavior", "frames": True, "nominal": 30.0},
    "spikes": {"path": "units", "modality": "spikes"},
    "ttl": {"path": "ttl", "modality": "pulses"},
    "camera_ttl": {"path": "camera_ttl", "modality": "pulses"},
}
CLOCKS = {"camera": {"signals": ["video"], "device": "camera_ttl", "reference": "ttl"}}


def card(**changes):
    signals = {name: spec | changes.get(name, {}) for name, spec in SIGNALS.items()}
    content = {"name": "x", "title": "", "licence": "", "source": {"kind": "synthetic"}}
    causal = {"causal": changes.get("causal", False)}
    return Card.model_validate(
        content | causal | {"signals": signals, "clocks": CLOCKS, "tasks": {}}
    )


def scene(shift=0.0, seed=0):
    """EEG at 1000 Hz, a camera of 30 Hz with jitter and drops that films the time, spikes."""
    rng = np.random.default_rng(seed)
    eeg = np.cumsum(rng.normal(size=(int(DURATION * 1000), 4)), axis=0).astype(np.float32) * 1e-6
    kept = np.sort(rng.choice(1800, 1782, replace=False))  # 1 % of the frames are dropped
    kept[[0, -1]] = 0, 1799
    shown = kept / 30.0
    pulses = np.arange(0.5, DURATION, 2.0) + rng.uniform(-0.3, 0.3, 30)
    spikes = np.sort(rng.uniform(0, DURATION, 5000))
    one, zero = pd.DataFrame({"id": [0]}), np.zeros(30, int)

    def device(times):
        return (times - 3.0) / (1 + DRIFT * 1e-6)

    def stamped(times):
        return device(times) + rng.normal(0, 2e-3, len(times))

    return Recording(
        "r", "s", "Mus musculus", "x",
        {
            "eeg": Samples(eeg, "V", 1000.0, shift, modality="eeg"),
            "video": Samples(
                shown[:, None], "s", times=np.maximum.accumulate(stamped(shown)) + shift
            ),
            "spikes": Events(spikes + shift, rng.integers(0, 9, 5000),
                             pd.DataFrame({"id": range(9)})),
            "ttl": Events(pulses + shift, zero, one, "pulses"),
            "camera_ttl": Events(device(pulses) + shift, zero, one, "pulses"),
        },
    )  # fmt: skip


def test_frames_lose_their_jitter_and_dropped_ones_are_masked():
    video = align(scene(), card()).signals["video"]

    assert video.rate == pytest.approx(30.0, rel=1e-5)
    assert (len(video), int((~video.mask).sum())) == (1800, 18)
    error = np.abs(video.values[:][video.mask, 0] - video.clock[video.mask])
    assert np.quantile(error, 0.99) < 1e-3
    # Without frame recovery the jitter stays in the times, which only interpolation hides.
    raw = align(scene(), card(video={"frames": False})).signals["video"]
    assert np.quantile(np.abs(raw.values[:][raw.mask, 0] - raw.clock[raw.mask]), 0.99) > 1e-3


def test_frames_of_a_device_without_a_fixed_rate_are_refused():
    made = scene()
    rng = np.random.default_rng(2)
    times = np.cumsum(rng.exponential(1 / 30, 1782))  # as events come, not frames
    video = replace(made.signals["video"], times=times)
    with pytest.raises(DataError, match=r"'video': stamps lie .* the device ran at no fixed rate"):
        align(replace(made, signals=made.signals | {"video": video}), card())


def test_a_window_holds_each_signal_at_its_rate_and_windows_tile(tmp_path):
    store.write(align(scene(), card(video={"rate": 30.0})), tmp_path / "a.zarr", "key")
    slices = Slices(tmp_path / "a.zarr")
    parts = [slices.read(start, start + 1.0).signals for start in (20.0, 21.0)]

    assert [len(p["eeg"]) for p in parts] == [1000, 1000]
    assert [len(p["video"]) for p in parts] == [30, 30]
    whole = slices.read(20.0, 22.0).signals
    for name in ("eeg", "video"):
        joined = np.concatenate([p[name].values[:] for p in parts])
        np.testing.assert_array_equal(joined, whole[name].values[:])
        assert parts[1][name].t0 == pytest.approx(parts[0][name].span[1], abs=1 / 30)
    spikes = np.concatenate([p["spikes"].times for p in parts])
    np.testing.assert_array_equal(spikes, whole["spikes"].times)
    assert ((spikes >= 20.0) & (spikes < 22.0)).all()


def test_a_shift_of_all_clocks_shifts_the_result_only():
    rates = {"eeg": {"rate": 250.0}, "video": {"rate": 60.0}}
    here, there = (align(scene(shift), card(**rates)) for shift in (0.0, 4096.0))

    for name in ("eeg", "video"):
        a, b = here.signals[name], there.signals[name]
        assert b.t0 - a.t0 == pytest.approx(4096.0, abs=1e-6)
        np.testing.assert_allclose(b.values[:], a.values[:], atol=2e-6 * np.abs(a.values[:]).max())
        np.testing.assert_array_equal(a.mask, b.mask)
    assert there.clocks["camera"].drift == pytest.approx(here.clocks["camera"].drift, abs=1e-3)


@pytest.mark.parametrize("rates", [{}, {"eeg": {"rate": 250.0}, "video": {"rate": 60.0}}])
def test_bytes_do_not_depend_on_workers_or_on_laziness(tmp_path, rates):
    lazy = align(scene(), card(**rates))
    eager = replace(
        lazy,
        signals={
            name: replace(s, values=s.values[:]) if isinstance(s, Samples) else s
            for name, s in lazy.signals.items()
        },
    )
    for name, recording, workers in (("1", lazy, 1), ("2", lazy, 2), ("3", eager, 1)):
        with threads(workers):
            store.write(recording, tmp_path / name / "a.zarr", "key")

    files = [p.relative_to(tmp_path / "1") for p in (tmp_path / "1").rglob("*") if p.is_file()]
    assert len(files) > 10
    for other in ("2", "3"):
        for file in files:
            assert (tmp_path / "1" / file).read_bytes() == (tmp_path / other / file).read_bytes()


@pytest.mark.parametrize("rate", [250.0, 300.0, 1000.0, 1500.0])
@pytest.mark.parametrize("kind", ["regular", "irregular"])
def test_in_causal_mode_the_future_never_changes_the_past(kind, rate):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(4000, 2))
    times = np.arange(4000) / 1000.0
    when = {"rate": 1000.0}
    if kind == "irregular":
        when = {"times": np.sort(times + rng.uniform(-3e-4, 3e-4, 4000))}
    other = values.copy()
    other[2500:] = rng.normal(size=(1500, 2)) * 100
    spec = SignalCard(path="x", modality="eeg", rate=rate)
    first, second = (regular(Samples(v, "V", **when), spec, causal=True) for v in (values, other))
    past = first.clock < 2.4995

    np.testing.assert_array_equal(first.values[:][past], second.values[:][past])
    assert not np.array_equal(first.values[:], second.values[:])
    if rate < 1000.0:  # the same change does reach back where the future may be seen
        acausal = [regular(Samples(v, "V", **when), spec) for v in (values, other)]
        assert not np.array_equal(*(a.values[:][past] for a in acausal))
