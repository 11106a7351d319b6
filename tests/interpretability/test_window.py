"""The picture of a window shows every signal at its time, and what is asked."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from windows import card, recording, shards

from neurofmx.interpretability.window import MISSING, draw
from neurofmx.types import Samples


def with_signals():
    """A recording with a signal of each kind that is drawn in its own way, and their cards."""
    made = recording(units=12)
    n, rng = len(made.signals["lfp"]), np.random.default_rng(0)
    mask = np.ones(n, bool)
    mask[10:25] = False  # 0.2 to 0.5 s
    pixels = pd.DataFrame([{"row": r, "column": c} for r in range(4) for c in range(6)])
    frames = np.arange(n)[:, None] + np.zeros(24)  # each has the colour of its number
    song = np.sin(2 * np.pi * 440 * np.arange(n * 80) / 4000)[:, None].astype(np.float32)
    more = {
        "lfp": dataclasses.replace(made.signals["lfp"], mask=mask),
        "eeg": Samples(rng.normal(size=(n, 20)), "V", 50.0, modality="eeg"),
        "video": Samples(frames, "1", 50.0, channels=pixels, modality="video"),
        "song": Samples(song, "1", 4000.0, modality="audio"),
        "events": made.signals["spikes"],
    }
    cards = {name: {"path": name, "modality": s.modality} for name, s in more.items()}
    cards["events"]["tokenizer"] = "spikes"
    cards["song"]["mel"] = {"bands": 16}
    content = card().model_dump(mode="json")["signals"] | cards
    return dataclasses.replace(made, signals=made.signals | more), card(signals=content)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    aligned, spec = with_signals()
    return shards(tmp_path_factory.mktemp("shards"), [aligned], spec)


@pytest.fixture(scope="module")
def panels(made):
    """Traces by the word that begins the title of their panel."""
    figure = draw(made[0], made)
    titles = [a.text.partition(":")[0] for a in figure.layout.annotations]
    axes = [f"y{k}" if k > 1 else "y" for k in range(1, len(titles) + 1)]
    return {
        title: [trace for trace in figure.data if (trace.yaxis or "y") == axis]
        for title, axis in zip(titles, axes, strict=True)
    }


def test_every_signal_and_task_has_a_panel(panels):
    signals = {"spikes", "lfp", "eeg", "video", "song", "events"}
    assert panels.keys() == signals | {"velocity", "cue"}
    assert all(panels.values())


def test_what_is_drawn_is_in_the_window(made, panels):
    sample = made[0]
    (ticks,) = panels["events"]
    np.testing.assert_array_equal(ticks.x, sample.arrays["events.events"])
    np.testing.assert_array_equal(ticks.y, sample.arrays["events.units"])
    (counts,) = panels["spikes"]
    np.testing.assert_array_equal(counts.z, sample.arrays["spikes.values"].T)
    np.testing.assert_allclose(counts.x[:2], [0.025, 0.075])  # the middles of bins of 50 ms
    assert [len(trace.x) for trace in panels["lfp"]] == [50, 50, 50]
    assert panels["song"][0].z.shape[0] == 16


def test_frames_lie_where_they_were_taken(panels):
    (strip,) = panels["video"]
    assert strip.z.shape == (4, 10 * 7)  # ten frames of 4 × 6 with a line between
    # Of 50 frames in 1 s, the one in the middle of each tenth.
    np.testing.assert_array_equal(strip.z[0, ::7], 2 + 5 * np.arange(10))
    assert strip.x[0] == pytest.approx(0.5 / 70)
    assert strip.x[-1] == pytest.approx(1 - 0.5 / 70)


def test_where_nothing_was_recorded_is_grey(made, panels):
    figure = draw(made[0], made)
    grey = [(shape.x0, shape.x1) for shape in figure.layout.shapes if shape.fillcolor == MISSING]
    assert any(spans == pytest.approx((0.2, 0.5)) for spans in grey)
    assert np.isnan(panels["lfp"][0].y[10:25]).all()


def test_what_is_asked_stands_out(made, panels):
    sample = made[0]
    (cue,) = panels["cue"]
    assert list(cue.text) == [["left", "right"][int(sample.arrays["cue.target"][0, 0])]]
    points = [trace for trace in panels["velocity"] if trace.mode == "markers"]
    asked = sample.arrays["velocity.asked"]
    for dim, trace in enumerate(points):
        np.testing.assert_array_equal(trace.y, sample.arrays["velocity.target"][asked, dim])


def test_a_window_without_some_of_the_signals_and_without_tasks_is_drawn(tmp_path):
    layout = {"duration": 1.0, "step": 0.5, "bin_width": 0.05}
    made = shards(tmp_path, spec=card(tasks={}, windows=layout))
    figure = draw(made[0], made)
    assert [a.text.partition(":")[0] for a in figure.layout.annotations] == ["lfp", "spikes"]
