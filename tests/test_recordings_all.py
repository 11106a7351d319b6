"""Every set of real recordings goes through ingest, validate, align and tokenize, unchanged.

What the stages wrote is compared with the source file as h5py reads it: values, times, units and
tables; and windows with the aligned recording. Then one is drawn. One file stands for sets of
files that are alike.
"""

from pathlib import Path

import cuts
import h5py
import numpy as np
import pytest

from neurofmx.data import store
from neurofmx.data.cards import Card, save_card
from neurofmx.data.dialects import stem
from neurofmx.data.manifests import resolve, save_manifest
from neurofmx.data.shards import Shards
from neurofmx.data.suggest import suggest
from neurofmx.stages import align, ingest, tokenize, validate
from neurofmx.types import AlignedRecording, Events, Intervals, Samples

FILES = [
    "affinewarp_mixed/olfactory-bulb-pinene.nwb",
    "affinewarp_mixed/premotor-lfp.nwb",
    "affinewarp_mixed/rat-motor-taps.nwb",
    "fly_heading_calcium/PEN1-EB-20160423-Fly1-1x-1.nwb",
    "grasshopper_audio/receptor1.nwb",
    "haxby_fmri/sub001-runs1to8.nwb",
    "hd_adn_peyrache/hd-sleep-rem.nwb",
    "hd_adn_peyrache/hd-wake-dev.nwb",
    "m1_contdata95/contdata95-dev.nwb",
    "mc_maze_trials/mc-maze-trial-748.nwb",
    "mouse_openfield_calcium/mouse1004-day1-session1.nwb",
    "myo_emg/person12345-1.nwb",
    "other/nwb_native/A8604-211122.nwb",
    "other/nwb_native/FergusonEtAl2015_PYR2.nwb",
    "other/nwb_native/LantyerEtAl2018_170315_AL_216_VC.nwb",
    "other/nwb_native/LantyerEtAl2018_170328_AB_277_ST50_C.nwb",
    "other/nwb_native/LantyerEtAl2018_171220_NC_156_ST100_C.nwb",
    "other/nwb_native/sub-4_ses-4_ecephys+image.nwb",
    "rat_hpc_nelpy/linear-track.nwb",
    "songbird_hvc/songbird-hvc.nwb",
    "ssvep_exo_eeg/subject01-2012.07.06-19.02.16.nwb",
    "steinmetz_decision/session01.nwb",
    "ziv_ca1_multiday/C6_M4-envA-day1.nwb",
]
# What a person would write into a suggested card: gaps that are NaN in the file, and a schema that
# is kept in the file but lacks a part, which nwbinspector refuses.
CHECKS = {
    "premotor-lfp.nwb": {"input_nan": {"max": 0.02}},
    "sub-4_ses-4_ecephys+image.nwb": {"inspector": {"severity": "warning"}},
}
# What else a person would write: how voxels lie, of what a sound consists, spikes one by one.
SIGNALS = {
    "sub001-runs1to8.nwb": {"bold": {"grid": [40, 20]}},
    "receptor1.nwb": {"sound_envelope": {"mel": {"bands": 12, "high": 400.0, "span": 0.05}}},
    "A8604-211122.nwb": {"spikes": {"tokenizer": "spikes"}},
}
# Word in the file → SI unit and factor; any other word stays.
UNITS = {
    "volts": ("V", 1.0),
    "amperes": ("A", 1.0),
    "meters": ("m", 1.0),
    "m/s": ("m/s", 1.0),
    "radians": ("rad", 1.0),
    "degrees": ("rad", np.pi / 180),
    "counts": ("count", 1.0),
}


@pytest.fixture
def card(request, shared_data, tmp_path, monkeypatch) -> Card:
    """The card that is suggested for a file, in a project of its own."""
    monkeypatch.chdir(tmp_path)
    path = shared_data / request.param
    content = suggest(path, "x").model_dump()
    content["checks"] = CHECKS.get(path.name, {})
    for name, keys in SIGNALS.get(path.name, {}).items():
        content["signals"][name] |= keys
    return started(Card.model_validate(content))


def started(card: Card) -> Card:
    """The card in a project that has resolved it."""
    save_card(card)
    save_manifest(resolve(card))
    return card


@pytest.mark.parametrize("card", FILES, indirect=True)
def test_a_recording_goes_through_and_stays_what_it_was(card):
    run_to_tokenize()

    source, name = card.source.path, stem(card.source.path.name)
    ingested = store.read(Path(f"storage/ingest/{name}.zarr"))
    aligned = store.read(Path(f"storage/align/{name}.zarr"))
    assert isinstance(aligned, AlignedRecording)
    assert list(ingested.signals) == list(aligned.signals) == sorted(card.signals)
    with h5py.File(source) as file:
        subject = file.get("general/subject/subject_id", {(): "unknown"})
        assert ingested.subject == (text(subject[()]) or "unknown")
        for key, signal in ingested.signals.items():
            assert signal.source == card.signals[key].path
            COMPARE[type(signal)](signal, aligned.signals[key], file[signal.source], file)
    shards = Shards(Path("storage/tokenize"))
    cuts.compare(shards, aligned, card)
    cuts.check_drawing(shards)
    cuts.check_loading(shards)


def run_to_tokenize():
    for stage in (ingest, validate, align, tokenize):
        stage.run(stage.Params(dataset="x", workers=1))


def compare_samples(signal: Samples, aligned: Samples, raw: h5py.Group, file: h5py.File):
    data = raw["data"]
    word = text(data.attrs["unit"])
    unit, factor = UNITS.get(word, (word, 1.0))
    values = data[:].reshape(len(data), -1)
    scale = data.attrs["conversion"] * factor
    if signal.modality == "video":
        unit, scale = "1", 1.0
    assert signal.unit == aligned.unit == unit
    np.testing.assert_allclose(signal.values[:], values * scale, rtol=1e-6)
    times = times_of(raw)
    np.testing.assert_allclose(signal.clock, times, atol=1e-9 * max(1.0, times[-1]))
    compare_channels(signal, raw, file)
    compare_aligned(signal, aligned)


def compare_channels(signal: Samples, raw: h5py.Group, file: h5py.File):
    """Rows of electrodes or cells that the file refers to; units for counts; else numbers."""
    n = signal.values.shape[1]
    region = next((raw[name] for name in ("electrodes", "rois") if name in raw), None)
    if region is not None:
        compare_table(signal.channels, file[region.attrs["table"]], region[:])
    elif signal.modality == "binned_counts":
        compare_table(signal.channels, file["units"], np.arange(n))
    else:
        assert signal.channels["id"].tolist() == list(range(n))


def compare_aligned(signal: Samples, aligned: Samples):
    """A rate that was regular stays; other samples are read between their neighbours."""
    values, mask = aligned.values[:], aligned.mask
    kept = slice(None) if mask is None else mask
    if signal.rate is not None:
        assert (aligned.rate, aligned.t0) == (signal.rate, signal.t0)
        np.testing.assert_array_equal(values[kept], signal.values[:][kept])
    elif signal.modality == "binned_counts":
        assert values.sum() == signal.values[:].sum()
    else:
        assert mask is None or mask.mean() > 0.5
        own, clock = signal.values[:], aligned.clock[kept]
        known = np.isfinite(own).all(axis=1)
        if len(clock) == known.sum() and np.array_equal(values[kept], own[known]):
            # Nearly regular already: each sample was moved by a hundredth of its step at most.
            assert np.abs(clock - signal.clock[known]).max() <= 0.0101 / aligned.rate
            return
        expected = [np.interp(clock, signal.clock[known], column[known]) for column in own.T]
        np.testing.assert_allclose(values[kept], np.stack(expected, axis=1), rtol=1e-5, atol=1e-5)


def compare_events(signal: Events, aligned: Events, raw: h5py.Group, file: h5py.File):
    if signal.modality == "pulses":
        np.testing.assert_array_equal(signal.times, raw["timestamps"][:])
    else:
        ends = raw["spike_times_index"][:].astype(int)
        trains = np.split(raw["spike_times"][:], ends[:-1])
        for unit, train in enumerate(trains):
            mine = signal.times[signal.index == unit]
            np.testing.assert_array_equal(mine, np.sort(train))
        compare_table(signal.units, raw, np.arange(len(trains)))
    np.testing.assert_array_equal(aligned.times, signal.times)
    np.testing.assert_array_equal(aligned.index, signal.index)


def compare_intervals(signal: Intervals, aligned: Intervals, raw: h5py.Group, file: h5py.File):
    np.testing.assert_array_equal(signal.start, raw["start_time"][:])
    np.testing.assert_array_equal(signal.stop, raw["stop_time"][:])
    compare_table(signal.columns, raw, np.arange(len(signal)))
    np.testing.assert_array_equal(aligned.start, signal.start)
    assert aligned.columns.equals(signal.columns)


def compare_table(table, raw: h5py.Group, rows: np.ndarray):
    """Every plain column of the file is there, and says the same."""
    names = [text(name) for name in raw.attrs["colnames"]]
    plain = ["id"] + [
        name
        for name in names
        if raw[name].shape == raw["id"].shape
        and raw[name].dtype != h5py.ref_dtype
        and f"{name}_index" not in raw
        and name not in ("start_time", "stop_time")
    ]
    assert len(table) == len(rows)
    for name in plain:
        stored = raw[name][:][rows]
        if stored.dtype == object:
            stored = np.array([text(value) for value in stored], object)
        np.testing.assert_array_equal(table[name].to_numpy(), stored, err_msg=name)


def times_of(raw: h5py.Group) -> np.ndarray:
    if "timestamps" in raw:
        times = raw["timestamps"][:]
    else:
        start = raw["starting_time"]
        times = start[()] + np.arange(len(raw["data"])) / start.attrs["rate"]
    assert "bin_end" not in text(raw.attrs["comments"])  # stamps are starts in all these files
    return times


def text(value) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


COMPARE = {Samples: compare_samples, Events: compare_events, Intervals: compare_intervals}
