"""Statistics of channels are over what the model sees, and say where each channel is."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from windows import card, recording

from neurofmx.data import windows
from neurofmx.data.statistics import ChannelStatistics, Moments, join_tasks
from neurofmx.errors import DataError
from neurofmx.types import AlignedRecording, Events, Samples

SIGNALS = card().model_dump()["signals"]


def table(made: AlignedRecording, spec, split: str = "train") -> pd.DataFrame:
    statistics = ChannelStatistics(made, spec)
    for window in windows.cut(made, spec):
        if window.split == split:
            statistics.add(windows.inputs(made, spec, window))
    return statistics.table()


def length(window) -> float:
    return window.stop - window.start


def only(name: str, signal, modality: str, **keys):
    """The rows of one signal that lies beside the others, without a window."""
    made = recording()
    made.signals[name] = signal
    signals = SIGNALS | {name: {"path": "x", "modality": modality} | keys}
    rows = ChannelStatistics(made, card(signals=signals)).table()
    return rows[rows["signal"] == name].reset_index(drop=True)


def test_counts_are_measured_by_their_roots():
    made, spec = recording(), card()
    rows = table(made, spec)
    seen = np.concatenate(
        [
            windows.inputs(made, spec, window)["spikes"].values
            for window in windows.cut(made, spec)
            if window.split == "train"
        ]
    )
    roots = np.sqrt(seen.astype(np.float64))
    variance = roots.var(axis=0)
    spikes = rows[rows["signal"] == "spikes"]

    assert list(rows) == [
        *("recording", "signal", "channel", "label", "owner", "number"),
        *("mean", "scale", "region", "x", "y", "z"),
    ]
    assert spikes["channel"].tolist() == list(range(6))
    np.testing.assert_allclose(spikes["mean"], roots.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(spikes["scale"] ** 2, (variance + variance.mean()) / 2, rtol=1e-5)


def test_traces_are_measured_as_they_are_and_without_their_gaps():
    made, spec = recording(), card()
    lfp = made.signals["lfp"]
    mask = np.arange(len(lfp)) % 7 != 0
    gone = np.where(mask[:, None], lfp.values, 1e6)
    made.signals["lfp"] = dataclasses.replace(lfp, values=gone, mask=mask)
    rows = table(made, spec)
    found = rows[rows["signal"] == "lfp"]["mean"]

    assert np.abs(found).max() < 10
    seen = [
        lfp.values[rows][mask[rows]]
        for window in windows.cut(made, spec)
        if window.split == "train"
        for rows in [slice(*(round(window.start * 50) + np.array([0, round(50 * length(window))])))]
    ]
    np.testing.assert_allclose(found, np.concatenate(seen).mean(axis=0), rtol=1e-4)


def test_events_have_no_size():
    spec = card(signals=SIGNALS | {"spikes": SIGNALS["spikes"] | {"tokenizer": "spikes"}})
    rows = table(recording(), spec)
    spikes = rows[rows["signal"] == "spikes"]

    assert len(spikes) == 6
    assert (spikes["mean"] == 0).all()
    assert (spikes["scale"] == 1).all()


@pytest.mark.parametrize("volts", [0.0, 0.07, -1e3 / 3])
def test_what_never_varies_has_scale_one(volts):
    made = recording()
    made.signals["lfp"] = Samples(np.full((2500, 3), volts), "V", 50.0, modality="lfp")
    rows = table(made, card())
    lfp = rows[rows["signal"] == "lfp"]

    np.testing.assert_allclose(lfp["mean"], volts, rtol=1e-6)
    assert (lfp["scale"] == 1).all()  # and not what rounding leaves of the variance


# Places


@pytest.mark.parametrize(
    ("columns", "regions"),
    [
        ({"region": ["CA1", "CA3"], "location": ["a", "b"]}, ["CA1", "CA3"]),
        ({"brain_area": ["MOs", "nan"]}, ["MOs", ""]),
        ({"location": [" VISp ", "unknown"]}, ["VISp", ""]),
        ({"ecephys_structure_acronym": ["LP", "None"]}, ["LP", ""]),
        ({"acronym": ["", "N/A"]}, ["", ""]),
        ({"area": [12.5, 13.0]}, ["", ""]),  # of a cell's mask
        ({"tetrode": ["1", "2"]}, ["", ""]),
    ],
)
def test_the_region_of_a_unit(columns, regions):
    units = pd.DataFrame({"id": [7, 8]} | columns)
    rows = only("more", Events(np.zeros(1), np.zeros(1, int), units), "spikes")

    assert rows["region"].tolist() == regions
    assert rows["label"].tolist() == ["7", "8"]


@pytest.mark.parametrize(("column", "regions"), [("label", ["E1", "E2"]), ("side", ["left", ""])])
def test_a_card_says_what_the_region_is(column, regions):
    electrodes = {"label": ["E1", "E2"], "side": ["left", "unknown"], "location": ["arm", "arm"]}
    emg = Samples(np.zeros((2500, 2)), "V", 50.0, channels=pd.DataFrame(electrodes), modality="emg")
    assert only("more", emg, "emg", region=column)["region"].tolist() == regions


def test_a_region_that_is_no_column_is_told():
    emg = Samples(np.zeros((2500, 2)), "V", 50.0, modality="emg")
    with pytest.raises(DataError, match=r"'side'.*no columns"):
        only("more", emg, "emg", region="side")


def test_the_position_of_a_channel_is_what_the_reader_made_of_it():
    channels = pd.DataFrame({"id": [0, 1], "x": [500.0, 600.0], "x_m": [5e-4, 6e-4]})
    channels = channels.assign(y_m=[0.001, np.nan], z_m=[-0.002, np.nan])
    lfp = Samples(np.zeros((2500, 2)), "V", 50.0, channels=channels, modality="lfp")
    rows = only("more", lfp, "lfp")

    np.testing.assert_array_equal(rows[["x", "y", "z"]], channels[["x_m", "y_m", "z_m"]])


def test_pixels_of_a_table_are_no_position():
    cells = pd.DataFrame({"id": [0], "x": [61.5], "y": [8.5]})
    calcium = Samples(np.zeros((2500, 1)), "1", 50.0, channels=cells, modality="calcium")

    assert only("more", calcium, "calcium")[["x", "y", "z"]].isna().all(axis=None)


def test_bands_of_a_sound_are_labelled_by_their_centres():
    sound = Samples(np.zeros((400000, 1)), "1", 8e3, modality="audio")
    mel = {"bands": 3, "low": 0.0, "high": 3400.0}
    rows = only("more", sound, "audio", mel=mel)

    # mel(3400) = 1991.6; a quarter of it is 497.9 mel, 388.9 Hz, and so on.
    assert rows["label"].tolist() == ["389 Hz", "994 Hz", "1935 Hz"]
    assert (rows["region"] == "").all()


def test_pixels_of_a_video_have_rows_without_a_place():
    pixels = pd.DataFrame({"id": range(4), "row": [0, 0, 1, 1], "column": [0, 1, 0, 1]})
    video = Samples(np.zeros((2500, 4), np.uint8), "1", 50.0, channels=pixels, modality="video")

    assert len(only("more", video, "video")) == 4


# Tasks


def test_targets_are_pooled_and_counted():
    values = np.array([[1.0, 5.0], [3.0, 5.0], [8.0, 5.0]])
    parts = []
    for rows in (values[:2], values[2:], values[:0]):
        moments = Moments()
        moments.add(rows)
        parts.append({"velocity": moments.sums(), "cue": Moments().sums()})
    tasks = join_tasks(card(), parts)

    assert tasks["velocity"]["count"] == 3
    assert tasks["velocity"]["mean"] == [4.0, 5.0]
    assert tasks["velocity"]["scale"] == pytest.approx([np.std([1, 3, 8]), 1.0])
    assert tasks["cue"]["kind"] == "classification"


def test_angles_are_neither_centred_nor_scaled():
    signals = card().model_dump(mode="json")["signals"]
    signals["hand"] |= {"method": "nearest"}
    spec = card(signals=signals, tasks={"heading": {"kind": "circular", "signal": "hand"}})
    moments = Moments()
    moments.add(np.array([[1.0, 2.0], [3.0, 2.5]]))
    task = join_tasks(spec, [{"heading": moments.sums()}])["heading"]
    assert task == {"kind": "circular", "mean": [0, 0], "scale": [1, 1], "count": 2}


def test_a_card_without_tasks_has_none():
    assert join_tasks(card(tasks={}), [{}]) == {}


def test_recordings_can_have_the_same_channels():
    def owners(name, same):
        signals = SIGNALS | {"spikes": {"path": "units", "modality": "spikes", "same": same}}
        rows = ChannelStatistics(recording(name), card(signals=signals)).table()
        rows = rows[rows["signal"] == "spikes"]
        return list(zip(rows["owner"], rows["number"], strict=True))

    first, next_day = (owners(name, "^.*-day") for name in ("a-day1", "a-day2"))
    assert first == next_day
    assert len(set(first)) == 6
    assert not set(first) & set(owners("b-day1", "^.*-day"))
    assert owners("a-day1", "") == owners("b-day1", "")
    assert owners("a-day1", None) == [("a-day1", unit) for unit in range(6)]
