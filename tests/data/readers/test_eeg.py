import datetime
import json
from pathlib import Path

import dask
import edfio
import h5py
import mne
import numpy as np
import pytest
import scipy.io

from neurofmx.data import store
from neurofmx.data.align import align
from neurofmx.data.cards import Card
from neurofmx.data.readers import open_contents
from neurofmx.data.readers.base import Contents
from neurofmx.data.reading import read_recording
from neurofmx.data.signal_cards import SignalCard
from neurofmx.errors import DataError, UserError
from neurofmx.types import POSITION, Events, Intervals

NAME = "sub-01_ses-1_task-ssvep"
SIX = np.sin(np.arange(1024) / 20)  # 4 s at 256 Hz
TRACE = edfio.EdfSignal(SIX * 50, 256, label="Cz", physical_dimension="uV")


class Real:
    """The first 60 s of a real EEG, and the EDF in a BIDS folder that is made of it."""

    def __init__(self, folder: Path, nwb: Path):
        with h5py.File(nwb) as file:
            self.values = file["acquisition/eeg/data"][: 60 * 256].astype(np.float64)
            labels = file["general/extracellular_ephys/electrodes/label"][:]
            trials = file["intervals/trials"]
            self.start, self.stop = trials["start_time"][:], trials["stop_time"][:]
            self.kinds = [kind.decode() for kind in trials["stimulus_class"][:]]
        self.labels = [label.decode() for label in labels]
        self.step = (self.values.max() - self.values.min()) / 65534  # V, of 16 bits
        self.path = folder / "sub-01/ses-1/eeg" / f"{NAME}_eeg.edf"
        self.path.parent.mkdir(parents=True)
        low, high = np.floor(self.values.min() * 1e6) - 1, np.ceil(self.values.max() * 1e6) + 1
        channels = [
            edfio.EdfSignal(
                self.values[:, k] * 1e6,
                256,
                label=label,
                physical_dimension="uV",
                physical_range=(low, high),
            )
            for k, label in enumerate(self.labels)
        ]
        edfio.Edf(channels).write(self.path)
        self._sidecars(folder)

    def _sidecars(self, root: Path) -> None:
        (root / "dataset_description.json").write_text('{"Name": "SSVEP", "License": "CC0"}')
        (root / "participants.tsv").write_text(
            "participant_id\tspecies\tage\nsub-02\tmus musculus\t1\nsub-01\thomo sapiens\t24\n"
        )
        # The nearer file completes and corrects the one at the root.
        (root / "task-ssvep_eeg.json").write_text('{"TaskName": "?", "PowerLineFrequency": 50}')
        self.path.with_suffix(".json").write_text('{"TaskName": "flicker"}')
        rows = [f"{x}\tEEG\tuV\t{'bad' if x == 'O2' else 'good'}" for x in self.labels[:-1]]
        rows.append(f"{self.labels[-1]}\tVEOG\tuV\tgood")
        table = "\n".join(["name\ttype\tunits\tstatus", *rows])
        (root / "sub-01" / "sub-01_task-ssvep_channels.tsv").write_text(table + "\n")
        (root / "task-rest_channels.tsv").write_text("name\ttype\nOz\tEMG\n")  # of another task
        marks = zip(self.start, self.stop - self.start, self.kinds, strict=True)
        rows = [f"{start}\t{lasts}\t{kind}" for start, lasts, kind in marks]
        table = "\n".join(["onset\tduration\ttrial_type", "0.5\tn/a\tn/a", *rows])
        (self.path.parent / f"{NAME}_events.tsv").write_text(table + "\n")


@pytest.fixture(scope="module")
def real(tmp_path_factory, shared_data) -> Real:
    nwb = shared_data / "ssvep_exo_eeg/subject01-2012.07.06-19.02.16.nwb"
    return Real(tmp_path_factory.mktemp("bids"), nwb)


def read(path: Path, where: str, modality: str = "eeg"):
    return open_contents(path).read(where, SignalCard(path=where, modality=modality))


def edf(path: Path, *signals: edfio.EdfSignal, **more) -> Path:
    edfio.Edf(signals, **more).write(path)
    return path


def guesses(contents: Contents) -> dict[str, str | None]:
    return {path: contents.guess(path) for path in contents.kinds}


# A real recording in a BIDS folder


def test_values_are_the_recordings_within_half_a_step(real):
    eeg = read(real.path, "eeg")

    assert (eeg.unit, eeg.rate, eeg.t0, eeg.mask) == ("V", 256.0, 0.0, None)
    assert np.abs(eeg.values[:] - real.values[:, :-1]).max() < 0.501 * real.step
    np.testing.assert_array_equal(eeg.values[1000:1300], eeg.values[:][1000:1300])
    assert eeg.values[5:5].shape == (0, 7)


def test_sidecars_say_type_and_quality_of_channels(real):
    contents = open_contents(real.path)
    eeg = read(real.path, "eeg").channels

    assert guesses(contents) == {"eeg": "eeg", "eog": "behavior", "events": "trials"}
    assert list(eeg["label"]) == real.labels[:-1]
    assert list(eeg["label"][eeg["bad"]]) == ["O2"]
    assert list(read(real.path, "eog", "behavior").channels["label"]) == real.labels[-1:]


def test_sidecars_say_who_and_what_and_the_nearest_counts(real):
    about = open_contents(real.path).about

    assert (about.subject, about.species, about.title) == ("01", "homo sapiens", "SSVEP: flicker")
    assert about.notes == "licence: CC0"
    kept = {key: about.provenance[key] for key in ("TaskName", "PowerLineFrequency", "age")}
    assert kept == {"TaskName": "flicker", "PowerLineFrequency": 50, "age": "24"}


def test_events_are_trials_where_they_last_and_pulses_all(real):
    trials, pulses = read(real.path, "events", "trials"), read(real.path, "events", "pulses")
    assert isinstance(trials, Intervals)
    assert isinstance(pulses, Events)

    np.testing.assert_allclose(trials.start, real.start)
    np.testing.assert_allclose(trials.stop, real.stop)
    assert list(trials.columns["trial_type"]) == real.kinds
    assert len(pulses) == 33
    assert pulses.times[0] == 0.5
    assert pulses.units["trial_type"][pulses.index[0]] == ""


def test_ingest_and_align_keep_the_values(real, tmp_path):
    signals = {
        "eeg": SignalCard(path="eeg", modality="eeg", keep={"bad": [False]}),
        "trials": SignalCard(path="events", modality="trials"),
    }
    where = {"kind": "local", "path": "x"}
    card = Card(name="x", title="", licence="", source=where, signals=signals, tasks={})
    with read_recording("r", [real.path], card) as recording:
        with dask.config.set(scheduler="threads", num_workers=4):
            store.write(recording, tmp_path / "in.zarr", "key")
        assert (recording.subject, recording.species) == ("01", "homo sapiens")
    aligned = align(store.read(tmp_path / "in.zarr"), card)

    kept = [k for k, label in enumerate(real.labels[:-1]) if label != "O2"]
    eeg = aligned.signals["eeg"]
    assert np.abs(eeg.values[:] - real.values[:, kept]).max() < 0.501 * real.step
    assert len(aligned.signals["trials"]) == 32


def test_sidecars_that_do_not_fit_are_refused(tmp_path):
    path = edf(tmp_path / "sub-1_eeg.edf", TRACE)
    assert "eeg" in open_contents(path).kinds
    (tmp_path / "dataset_description.json").write_text("{}")
    for name, text, why in (
        ("channels.tsv", "name\ttype\nFz\tEEG\n", "names Fz, the file has Cz"),
        ("channels.tsv", "type\nEEG\n", "column `name`"),
        ("events.tsv", "onset\ttrial_type\n1\ta\n", "needs onset and duration"),
        ("eeg.json", "{", "cannot be read as JSON"),
        ("eeg.json", json.dumps({"RecordingType": "epoched"}), "epoched"),
    ):
        beside = tmp_path / f"sub-1_{name}"
        beside.write_text(text)
        with pytest.raises(DataError, match=why):
            open_contents(path)
        beside.unlink()


# EDF alone


def test_an_edf_alone_says_whose_it_is_and_what_happened(tmp_path):
    patient = edfio.Patient(code="P7", sex="F")
    recording = edfio.Recording(startdate=datetime.date(2020, 2, 3))
    notes = [edfio.EdfAnnotation(1.0, 0.5, "lights"), edfio.EdfAnnotation(2.0, None, "cough")]
    path = edf(tmp_path / "a.edf", TRACE, patient=patient, recording=recording, annotations=notes)
    contents = open_contents(path)

    assert (contents.about.subject, contents.about.species) == ("P7", "unknown")
    assert contents.about.provenance["session_start_time"].startswith("2020-02-03")
    assert guesses(contents) == {"eeg": "eeg", "annotations": "trials"}
    lights = read(path, "annotations", "trials")
    assert (list(lights.start), list(lights.stop)) == ([1.0], [1.5])
    assert list(read(path, "annotations", "pulses").units["description"]) == ["cough", "lights"]


def test_channels_of_different_rates_are_signals_of_their_own(tmp_path):
    slow = np.repeat([-50.0, 50.0], 128)  # a step, which resampling would smear
    low = edfio.EdfSignal(slow, 64, label="Pz", physical_dimension="uV")
    path = edf(tmp_path / "a.edf", TRACE, low)
    fast, slower = read(path, "eeg_256Hz"), read(path, "eeg_64Hz")

    assert (fast.rate, slower.rate) == (256.0, 64.0)
    assert list(slower.channels["label"]) == ["Pz"]
    np.testing.assert_allclose(fast.values[:][:, 0], SIX * 50e-6, atol=1e-9)
    np.testing.assert_allclose(slower.values[100:140][:, 0], slow[100:140] * 1e-6, atol=1e-9)


def test_type_and_unit_are_what_the_header_says(tmp_path):
    signals = [
        edfio.EdfSignal(SIX, 256, label=label, physical_dimension=unit)
        for label, unit in (
            ("EEG Fp1", "mV"),
            ("EMG chin", "V"),
            ("EOG left", "uV"),
            ("Temp rectal", "degC"),
            ("T7", "nV"),
            ("T8", ""),
        )
    ]
    path = edf(tmp_path / "a.edf", *signals)

    found = {"eeg": "eeg", "emg": "emg", "eog": "behavior", "temp": "behavior", "misc": "behavior"}
    assert guesses(open_contents(path)) == found
    for where, unit, scale in (("eeg", "V", 1e-3), ("emg", "V", 1.0), ("temp", "degC", 1.0)):
        signal = read(path, where)
        assert signal.unit == unit
        np.testing.assert_allclose(signal.values[:][:, 0], SIX * scale, atol=2e-5 * scale)
    # MNE would call both volts.
    assert list(read(path, "misc").channels["unit"]) == ["nV", "unknown"]


def test_a_unit_that_the_file_lacks_is_taken_from_bids(tmp_path):
    bare = edfio.EdfSignal(SIX, 256, label="Cz")
    path = edf(tmp_path / "sub-1_eeg.edf", bare)
    (tmp_path / "dataset_description.json").write_text("{}")
    (tmp_path / "sub-1_channels.tsv").write_text("name\ttype\tunits\nCz\tEEG\tuV\n")

    np.testing.assert_allclose(read(path, "eeg").values[:][:, 0], SIX * 1e-6, atol=2e-11)


def test_files_that_mne_would_read_wrong_are_refused(tmp_path):
    path = edf(tmp_path / "a.edf", TRACE, annotations=[edfio.EdfAnnotation(0.0, None, "x")])
    whole = path.read_bytes()
    assert whole[192:197] == b"EDF+C"
    for content, why in (
        (whole[:192] + b"EDF+D" + whole[197:], "discontinuous"),
        (whole[:-100], "cut off: 3 of the 4 records"),
        (whole[:300], "EDF header"),
        (whole[:184] + b"999     " + whole[192:], "cannot be read"),
        (b"no EDF " * 200, "EDF header"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"a.edf: .*{why}"):
            open_contents(path)


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path):
    path = edf(tmp_path / "a.edf", TRACE)
    eeg = read(path, "eeg")
    path.write_bytes(path.read_bytes()[:1500])

    with pytest.raises(DataError, match="samples 512 to 1024 cannot be read"):
        eeg.values[512:]


def test_an_eyelink_file_is_not_taken_for_eeg(shared_data):
    with pytest.raises(DataError, match="edf2asc"):
        open_contents(shared_data / "other/eye_tracking/test.edf")


def test_scattered_rows_and_wrong_modalities_are_refused(tmp_path):
    path = edf(tmp_path / "a.edf", TRACE)
    with pytest.raises(IndexError):
        read(path, "eeg").values[::2]
    with pytest.raises(DataError, match="no trials"):
        read(path, "eeg", "trials")
    with pytest.raises(UserError, match="no file"):
        open_contents(tmp_path / "absent.edf")


# Other formats


def test_bdf_keeps_its_24_bits(tmp_path):
    digital = np.array([-(2**23), -1, 0, 1, 2**23 - 1] * 50, float)
    signal = edfio.BdfSignal(
        digital, 250, label="Cz", physical_dimension="uV", physical_range=(-(2**23), 2**23 - 1)
    )
    edfio.Bdf([signal]).write(tmp_path / "a.bdf")

    np.testing.assert_allclose(read(tmp_path / "a.bdf", "eeg").values[:5][:, 0], digital[:5] * 1e-6)


def fif(path: Path, annotations: mne.Annotations | None = None) -> Path:
    """Ones and zeros at 100 Hz of which an earlier part was cut away, from a cap."""
    info = mne.create_info(["Fz", "Cz", "D1", "STI"], 100.0, ["eeg", "eeg", "seeg", "stim"])
    raw = mne.io.RawArray(np.ones((4, 1000)), info, first_samp=700, verbose="error")
    raw.set_montage("standard_1020", on_missing="ignore", verbose="error")
    raw.set_meas_date(1e9)
    raw.info["bads"] = ["Cz"]
    if annotations is not None:
        raw.set_annotations(annotations)
    raw.save(path, verbose="error")
    return path


def test_fif_counts_time_from_its_first_sample_and_masks_pauses(tmp_path):
    notes = mne.Annotations([1.0, 3.0], [0.5, 1.0], ["go", "BAD_ACQ_SKIP"])
    path = fif(tmp_path / "a_raw.fif", notes)
    eeg, marks = read(path, "eeg"), read(path, "annotations", "trials")

    assert eeg.t0 == 0.0
    np.testing.assert_allclose(np.unique(marks.start), [1.0, 3.0])
    np.testing.assert_array_equal(np.flatnonzero(~eeg.mask), np.arange(300, 400))


def test_fif_gives_types_positions_and_bad_channels(tmp_path):
    path = fif(tmp_path / "a_raw.fif")
    table = read(path, "eeg").channels

    assert guesses(open_contents(path)) == {"eeg": "eeg", "seeg": "lfp", "stim": "behavior"}
    assert list(table["bad"]) == [False, True]
    cz = table.loc[table["label"] == "Cz", list(POSITION)].to_numpy()[0]
    assert 0.08 < np.linalg.norm(cz) < 0.15  # m, on a head


def test_brainvision_and_eeglab_are_read(tmp_path):
    stored = np.arange(400, dtype="<i2").reshape(200, 2)
    stored.tofile(tmp_path / "a.eeg")
    (tmp_path / "a.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nDataFile=a.eeg\n"
        "DataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels=2\n"
        "SamplingInterval=2000\n[Binary Infos]\nBinaryFormat=INT_16\n"
        "[Channel Infos]\nCh1=Fz,,0.5,µV\nCh2=Cz,,0.5,µV\n",
        encoding="utf-8",
    )
    chanlocs = np.array([("Fz",), ("Cz",)], dtype=[("labels", object)])
    eeglab = {"nbchan": 2, "srate": 500.0, "trials": 1, "pnts": 200, "xmin": 0.0, "xmax": 0.398}
    eeglab |= {"data": stored.T / 2, "chanlocs": chanlocs, "event": [], "setname": "a"}
    scipy.io.savemat(tmp_path / "b.set", {"EEG": eeglab})

    for name in ("a.vhdr", "b.set"):
        eeg = read(tmp_path / name, "eeg")
        assert (eeg.rate, list(eeg.channels["label"])) == (500.0, ["Fz", "Cz"])
        np.testing.assert_allclose(eeg.values[:], stored * 0.5e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["a.vhdr", "a_raw.fif", "a.set", "a.bdf"])
def test_a_damaged_file_is_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"neither here nor there\n" * 40)
    with pytest.raises(DataError, match=name):
        open_contents(path)
