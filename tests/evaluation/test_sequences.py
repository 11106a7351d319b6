"""Runs, chunks and what they ask, by hand."""

import numpy as np
import pytest
import torch
from oscillating import oscillating, pose, spec
from windows import card, recording

from neurofmx.evaluation.baselines import networks
from neurofmx.evaluation.baselines.attention import Transformer
from neurofmx.evaluation.baselines.base import NetworkParams
from neurofmx.evaluation.baselines.chunks import anew, overlapping, placed
from neurofmx.evaluation.baselines.events import Spikes, _spread
from neurofmx.evaluation.baselines.recurrent import GRU
from neurofmx.evaluation.baselines.sequences import sequences


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder, spec = tmp_path_factory.mktemp("made"), card()
    return {task: pose(folder / task, recording(), spec, task) for task in spec.tasks}


def test_runs_stay_within_trials_and_splits(made):
    data = sequences(made["velocity"], 25.0)
    trials = made["velocity"].recording.signals["trials"]
    seen = {split: set(data.bins([split]).tolist()) for split in data.asked}
    assert not seen["train"] & seen["valid"]
    assert not (seen["train"] | seen["valid"]) & seen["test"]
    for asked in data.asked.values():
        for first, end in asked.runs:
            start, stop = first / data.rate, end / data.rate
            inside = (trials.start <= start + 0.04) & (stop <= trials.stop + 0.04)
            assert inside.sum() == 1
        runs = asked.runs[np.searchsorted(asked.runs[:, 0], asked.at[:, 0], side="right") - 1]
        assert ((runs[:, 0] <= asked.at[:, 0]) & (asked.at[:, 0] < runs[:, 1])).all()


def test_a_bin_has_an_answer_for_each_sample_that_it_holds(made):
    """The hand has 50 Hz, so that a bin of 25 Hz is asked for two of its samples."""
    asked = made["velocity"]
    data = sequences(asked, 25.0)
    assert (data.slots, data.outputs) == (2, 4)
    bins, slot = data.asked["test"].at.T
    np.testing.assert_allclose((2 * bins + slot) / 50.0, asked.queries["test"].time, atol=1e-6)
    np.testing.assert_array_equal(data.asked["test"].truth, asked.queries["test"].truth)


def test_features_are_read_between_bins(made):
    data = sequences(made["velocity"], 25.0)
    found = data.read(np.arange(data.n, dtype=np.float32)[:, None], "test")[:, 0]
    bins, slot = data.asked["test"].at.T
    first, end = data.run_of("test")[bins].T
    expected = bins + np.where(slot == 0, -0.25, 0.25)  # samples lie at quarters of a bin
    np.testing.assert_allclose(found, expected.clip(first, end - 1), atol=1e-3)


def test_events_are_counted_in_bins_and_in_frames(made):
    spikes = made["velocity"].recording.signals["spikes"]
    data = sequences(made["velocity"], 25.0)
    assert data.signals["spikes"].sum() == len(spikes)
    labels = sequences(made["cue"], 25.0)
    (first, end), at = labels.asked["test"].runs[0], made["cue"].positions["test"][0]
    window = made["cue"].shards[at].arrays["spikes.values"]  # counted in bins of the card
    assert labels.signals["spikes"][first:end].sum() == window.sum()
    assert end - first == 20


def test_counts_of_a_faster_signal_stay_counts(tmp_path):
    recording, _, _ = oscillating(n=600)
    asked = pose(tmp_path / "shards", recording, spec(), "velocity")
    counts = recording.signals["spikes"].values
    data = sequences(asked, 10.0)  # bins of two
    np.testing.assert_allclose(
        data.counts(asked.card), counts.reshape(300, 2, -1).sum(axis=1), atol=1e-5
    )


def test_chunks_hold_every_bin_once_and_each_in_its_run():
    runs, rng = np.array([[3, 8], [10, 43]]), np.random.default_rng(0)
    chunks = anew(runs, 10, rng)
    held = chunks[chunks >= 0]
    assert sorted(held) == [*range(3, 8), *range(10, 43)]
    for chunk in chunks:
        inside = chunk[chunk >= 0]
        assert np.array_equal(inside, np.arange(inside[0], inside[0] + len(inside)))
        assert (inside[0] >= 10) == (inside[-1] >= 10)
    assert not np.array_equal(chunks, anew(runs, 10, rng))


def test_a_bin_is_answered_where_it_is_seen_best():
    chunks = overlapping(np.array([[0, 12]]), 8)
    assert chunks[:, 0].tolist() == [0, 4]
    chunk, place = placed(chunks, 12, 6)  # late in a chunk: most before it is seen
    assert np.array_equal(chunks[chunk, place], np.arange(12))
    assert chunk.tolist() == [0] * 8 + [1] * 4  # bin 8 lies at place 4 of the second


@pytest.mark.parametrize("make", ["gru", "transformer"])
def test_the_past_does_not_see_what_comes(make):
    torch.manual_seed(0)
    network = GRU(3, 2, 8, 0.2, False) if make == "gru" else Transformer(3, 2, 8, 0.2, 12)
    network.eval()
    x, seen = torch.randn(2, 12, 3), torch.ones(2, 12, dtype=torch.bool)
    later = x.clone()
    later[:, 7:] += 1.0
    a, b = network(x, seen), network(later, seen)
    torch.testing.assert_close(a[:, :7], b[:, :7])
    assert not torch.allclose(a[:, 7:], b[:, 7:])


def test_counted_spikes_are_laid_evenly():
    at, unit = _spread(np.array([[0.0, 1.0], [2.0, 0.0]], np.float32))
    assert at.tolist() == [0.5, 1.25, 1.75]
    assert unit.tolist() == [1, 0, 0]


def test_poyo_is_shown_the_spikes_of_each_chunk(made):
    asked, given = made["velocity"], NetworkParams()
    data = sequences(asked, 25.0)
    spikes = Spikes(asked, data, networks.chunk_length(data, given))
    first, end = data.asked["test"].runs[0]
    bins = torch.arange(first, end)[None]
    shown = spikes(bins)
    found = asked.recording.signals["spikes"]
    inside = (found.times >= first / 25) & (found.times < end / 25)
    marks = 2 * 6  # a start and an end of each unit
    times = shown["input_timestamps"][0, marks:]
    np.testing.assert_allclose(times, found.times[inside] - first / 25, atol=1e-5)
    assert (shown["input_unit_index"][0, marks:] == torch.tensor(found.index[inside] + 1)).all()
    np.testing.assert_allclose(
        shown["output_timestamps"][0], np.arange(2 * (end - first)) / 50, atol=1e-6
    )
