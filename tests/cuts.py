"""Windows in shards held to the aligned recording that they were cut from, instant by instant."""

import dataclasses

import numpy as np
import reads
import torch
from windows import tiny_model

from neurofmx.data.cards import Card
from neurofmx.data.loader import Collator, Loader
from neurofmx.data.plan import Plan
from neurofmx.data.shards import Sample, Shards
from neurofmx.interpretability.window import draw
from neurofmx.signal.spectra import log_mel
from neurofmx.types import AlignedRecording, Events, Intervals, Samples

LOOKED_AT = 40  # windows of a recording, evenly over its splits


def compare(shards: Shards, recording: AlignedRecording, card: Card) -> None:
    """Every split has windows, and what a window holds is what the recording has there."""
    assert set(shards.index["split"]) == {"train", "valid", "test"}
    assert set(shards.signals) == set(card.inputs)
    loaded = {name: reads.loaded(signal) for name, signal in recording.signals.items()}
    recording = dataclasses.replace(recording, signals=loaded)
    _compare_channels(shards, recording)
    sounds = {
        name: _spectrum(s, card) for name, s in recording.signals.items() if _heard(s, name, card)
    }
    for position in np.unique(np.linspace(0, len(shards) - 1, LOOKED_AT).astype(int)):
        sample = shards[position]
        length = sample.info["stop"] - sample.info["start"]
        assert 0 < length <= card.windows.duration + 1e-6
        for name, spec in card.inputs.items():
            signal = recording.signals[name]
            if spec.tokenized_by == "spikes":
                _compare_events(sample, name, signal)
            elif isinstance(signal, Events):
                _compare_counts(sample, name, signal, card.windows.bin_width)
            elif spec.tokenized_by == "audio":
                _compare_sound(sample, name, signal, *sounds[name])
            else:
                _compare_samples(sample, name, signal)
        for task, spec in card.tasks.items():
            signal = recording.signals[spec.signal]
            if isinstance(signal, Samples):
                _compare_target(sample, task, signal)
            else:
                _compare_classes(sample, task, signal, spec.column, shards.tasks[task]["classes"])


def check_drawing(shards: Shards) -> None:
    """A window can be drawn, with every signal and every task in it."""
    figure = draw(shards[0], shards)
    titles = {title.text.split(":")[0] for title in figure.layout.annotations}

    assert set(shards.signals) | set(shards.tasks) <= titles
    assert figure.data


def check_loading(shards: Shards) -> None:
    """A loader brings every train window once, and each signal becomes tokens and features."""
    model = tiny_model(shards, shards.recordings.labels)
    windows = shards.positions("train")
    loader = Loader(Plan(shards, windows, seed=0, batch_size=8), Collator(shards, model.rows))
    seen = []
    for batch in loader:
        seen += batch.windows
        if len(seen) > len(batch.windows):
            continue
        for name, signal in (batch.signals | batch.events).items():
            sequence = model.encode(name, signal)
            assert sequence.tokens.isfinite().all()
            assert sequence.mask.any()
            assert torch.equal(sequence.t0, signal.t0)
    assert sorted(seen) == windows.tolist()


def _compare_channels(shards: Shards, recording: AlignedRecording) -> None:
    for name, rows in shards.channels.groupby("signal"):
        signal, about = recording.signals[name], shards.signals[name]
        own = len(signal.units) if isinstance(signal, Events) else signal.values.shape[1]
        assert len(rows) == (about["grid"][0] if about["tokenizer"] == "audio" else own)
        assert np.isfinite(rows[["mean", "scale"]]).all(axis=None)
        assert (rows["scale"] > 0).all()
        if about["tokenizer"] == "image" and about["grid"]:
            assert np.prod(about["grid"]) == own


def _compare_events(sample: Sample, name: str, signal: Events) -> None:
    start, stop = sample.info["start"], sample.info["stop"]
    inside = (signal.times >= start) & (signal.times < stop)
    times = sample.arrays[f"{name}.events"]

    assert name not in sample.info["dt"]
    np.testing.assert_allclose(times, signal.times[inside] - start, rtol=0, atol=1e-6)
    assert len(times) == 0 or 0 <= times.min() <= times.max() < stop - start
    np.testing.assert_array_equal(sample.arrays[f"{name}.units"], signal.index[inside])


def _compare_counts(sample: Sample, name: str, signal: Events, width: float) -> None:
    counts = sample.arrays[f"{name}.values"]
    edges = sample.info["start"] + np.arange(len(counts) + 1) * width
    trains = [signal.times[signal.index == unit] for unit in range(len(signal.units))]
    expected = [np.diff(np.searchsorted(train, edges)) for train in trains]

    assert sample.info["dt"][name] == width
    assert abs(edges[-1] - sample.info["stop"]) <= width / 2 + 1e-6
    np.testing.assert_array_equal(counts, np.stack(expected, axis=1))


def _compare_samples(sample: Sample, name: str, signal: Samples) -> None:
    values, clock, step = sample.arrays[f"{name}.values"], signal.clock, 1 / signal.rate
    first = int(np.abs(clock - sample.info["start"]).argmin())
    rows = slice(first, first + len(values))
    seen = np.ones(len(values), bool) if signal.mask is None else signal.mask[rows]

    assert sample.info["dt"][name] == step
    assert abs(clock[first] - sample.info["start"]) <= step / 2 + 1e-6
    assert abs(clock[first] + len(values) * step - sample.info["stop"]) <= step + 1e-6
    assert (f"{name}.mask" in sample.arrays) == (not seen.all())
    np.testing.assert_array_equal(sample.arrays.get(f"{name}.mask", seen), seen)
    expected = np.where(seen[:, None], signal.values[rows], 0)
    np.testing.assert_array_equal(values, expected.astype(np.float32))


def _heard(signal, name: str, card: Card) -> bool:
    return name in card.inputs and card.inputs[name].tokenized_by == "audio"


def _spectrum(signal: Samples, card: Card) -> tuple[np.ndarray, float, float]:
    """The spectrum of the whole sound, its hop (s), and what a frame reaches back beyond it (s)."""
    (mel,) = [s.mel for s in card.inputs.values() if s.tokenized_by == "audio"]
    whole, _ = log_mel(signal.values[:], signal.rate, **mel.model_dump(), mask=signal.mask)
    return whole, mel.hop, mel.span - mel.hop


def _compare_sound(
    sample: Sample, name: str, signal: Samples, whole: np.ndarray, hop: float, reach: float
) -> None:
    frames, seen = sample.arrays[f"{name}.values"], sample.arrays[f"{name}.mask"]
    first = round((sample.info["start"] - signal.t0) / hop)

    assert sample.info["dt"][name] == hop
    assert np.flatnonzero(seen)[0] == np.ceil(reach / hop - 1e-6)  # nothing from before the window
    assert seen[np.flatnonzero(seen)[0] :].all()
    np.testing.assert_allclose(frames[seen], whole[first : first + len(frames)][seen], rtol=1e-4)


def _compare_target(sample: Sample, task: str, signal: Samples) -> None:
    values, times, asked = (
        sample.arrays[f"{task}.{part}"] for part in ("target", "times", "asked")
    )
    clock = signal.clock
    inside = (clock > sample.info["start"] - 1e-6) & (clock < sample.info["stop"] - 1e-6)
    seen = np.ones(len(clock), bool) if signal.mask is None else signal.mask

    assert abs(len(times) - inside.sum()) <= 1  # a stamp on the edge may be rounded
    rows = np.round((sample.info["start"] + times - signal.t0) * signal.rate).astype(int)
    np.testing.assert_allclose(sample.info["start"] + times, clock[rows], atol=1e-6)
    assert not (asked & ~seen[rows]).any()
    if sample.info["split"] == "train":
        np.testing.assert_array_equal(asked, seen[rows] & np.isfinite(signal.values[rows]).all(1))
    np.testing.assert_array_equal(values[asked], signal.values[rows][asked].astype(np.float32))


def _compare_classes(
    sample: Sample, task: str, table: Intervals, column: str, classes: list[str]
) -> None:
    values, times, asked = (
        sample.arrays[f"{task}.{part}"] for part in ("target", "times", "asked")
    )
    labels = table.columns[column].astype(str).to_numpy()
    for value, time, is_asked in zip(values[:, 0], times, asked, strict=True):
        before = sample.info["start"] + time - 1e-6
        rows = (table.start <= before) & (before < table.stop)
        assert not is_asked or classes[int(value)] in labels[rows]
