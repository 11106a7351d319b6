"""A small recording with nothing to object to, and ways to spoil a recording."""

from dataclasses import replace

import numpy as np
import pandas as pd

from neurofmx.data.cards import Card
from neurofmx.data.tables import summarise
from neurofmx.types import Events, Intervals, Recording, Samples

CARD = Card.model_validate(
    {
        "name": "small",
        "title": "two recordings",
        "licence": "CC0",
        "source": {"kind": "synthetic"},
        "signals": {
            "lfp": {"path": "lfp", "modality": "lfp", "nominal": 250.0},
            "spikes": {"path": "units", "modality": "spikes"},
            "counts": {"path": "counts", "modality": "binned_counts"},
            "place": {"path": "place", "modality": "behavior", "frames": True},
            "pose": {"path": "pose", "modality": "pose"},
            "trials": {"path": "trials", "modality": "trials"},
            "sync": {"path": "sync", "modality": "pulses"},
            "camera_sync": {"path": "camera_sync", "modality": "pulses"},
        },
        "clocks": {"camera": {"signals": ["place"], "device": "camera_sync", "reference": "sync"}},
        "tasks": {"where": {"kind": "regression", "signal": "place"}},
    }
)
SYNC = np.cumsum(np.random.default_rng(1).uniform(0.5, 1.5, 100))
QUALITY = {  # what a file may say about its units
    "amplitude_cutoff": 0.01,
    "isi_violations": 0.1,
    "presence_ratio": 0.99,
    "ibl_quality_score": 1.0,
}


def pulses(times):
    return Events(times, np.zeros(len(times), int), pd.DataFrame({"id": [0]}), "pulses")


def good(recording="good"):
    """120 s of everything, with nothing to object to."""
    rng = np.random.default_rng(0)
    spikes = np.sort(rng.choice(np.arange(1, 24000), 900, replace=False) * 5e-3)
    units = pd.DataFrame({"id": [7, 8, 9]} | {name: [v] * 3 for name, v in QUALITY.items()})
    start = np.arange(10.0) * 10.0
    signals = {
        "lfp": Samples(rng.normal(size=(30000, 4)), "V", 250.0, modality="lfp"),
        "spikes": Events(spikes, np.arange(900) % 3, units),
        "counts": Samples(
            rng.poisson(1.0, (1200, 4)).astype(np.uint8), "count", 10.0, modality="binned_counts"
        ),
        "place": Samples(rng.normal(size=(3600, 2)), "m", times=np.arange(3600) / 30.0),
        "pose": Samples(rng.normal(size=(3000, 6)), "m", 25.0, modality="pose"),
        "trials": Intervals(start, start + 5.0, pd.DataFrame({"cue": ["left", "right"] * 5})),
        "sync": pulses(SYNC),
        "camera_sync": pulses(SYNC * (1 - 50e-6) - 3.0),
    }
    return Recording(recording, "s1", "Mus musculus", "small", signals)


def changed(signal, **fields):
    def change(recording):
        signals = recording.signals
        return replace(recording, signals=signals | {signal: replace(signals[signal], **fields)})

    return change


def with_nan(signal, share):
    def change(recording):
        values = recording.signals[signal].values[:].copy()
        values[: round(share * len(values))] = np.nan
        return changed(signal, values=values)(recording)

    return change


def at(signal, field, place, value):
    def change(recording):
        array = np.array(getattr(recording.signals[signal], field))
        array[place] = value
        return changed(signal, **{field: array})(recording)

    return change


def scaled(signal, channel, factor):
    def change(recording):
        values = recording.signals[signal].values[:].copy()
        values[:, channel] *= factor
        return changed(signal, values=values)(recording)

    return change


def value(signal, function):
    """The values of a signal, changed by a function of them."""

    def change(recording):
        return changed(signal, values=function(recording.signals[signal].values[:].copy()))(
            recording
        )

    return change


def clip(values):
    """A hundredth of the samples of one channel is cut off on both sides."""
    low, high = np.nanquantile(values[:, 0], [0.01, 0.99]).astype(values.dtype)
    values[:, 0] = np.clip(values[:, 0], low, high)
    return values


def hum(rate, hertz):
    def function(values):
        phase = 2 * np.pi * hertz * np.arange(len(values)) / rate
        amplitude = np.nanstd(values)
        return values + (amplitude * np.sin(phase)[:, None]).astype(values.dtype)

    return function


def faster(signal, factor):
    """Its times, or its rate, say that it ran faster than it did."""

    def change(recording):
        found = recording.signals[signal]
        if found.rate is not None:
            return changed(signal, rate=found.rate * factor)(recording)
        return changed(signal, times=found.times[0] + (found.times - found.times[0]) / factor)(
            recording
        )

    return change


def dropping(signal):
    """One frame in thirty is lost."""

    def change(recording):
        samples = recording.signals[signal]
        kept = np.arange(len(samples)) % 30 != 7
        values = samples.values[:][kept] if signal != "video" else np.zeros((kept.sum(), 1))
        return changed(signal, values=values, times=samples.clock[kept], rate=None)(recording)

    return change


def said_of_unit(column, value):
    """The file says so of unit 8."""

    def change(recording):
        units = recording.signals["spikes"].units.copy()
        units.loc[1, column] = value
        return changed("spikes", units=units)(recording)

    return change


def fast_pairs(recording):
    """Every other spike of unit 9 comes a millisecond after the one before."""
    spikes = recording.signals["spikes"]
    mine = np.flatnonzero(spikes.index == 2)
    times = spikes.times.copy()
    times[mine[1::2]] = times[mine[::2]] + 1e-3
    order = np.argsort(times)
    return changed("spikes", times=times[order], index=spikes.index[order])(recording)


def drifted(recording):
    """Of unit 9 nothing is left in the second minute."""
    spikes = recording.signals["spikes"]
    lost = (spikes.times > 60.0) & (spikes.index == 2)
    return changed("spikes", index=np.where(lost, 0, spikes.index))(recording)


def jittered(recording):
    times = SYNC + np.random.default_rng(2).normal(0, 5e-3, len(SYNC))
    return changed("camera_sync", times=np.sort(times))(recording)


def summary(recording, name=None, card=CARD):
    """The tables of a recording, under its own name or another."""
    return summarise(name or recording.id, recording, card)
