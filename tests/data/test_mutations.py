"""Real recordings pass; each fault injected into one of them fails its own check and no other."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from faults import (
    at,
    changed,
    clip,
    dropping,
    faster,
    hum,
    scaled,
    summary,
    value,
    with_nan,
)

from neurofmx.data import store
from neurofmx.data.cards import Card
from neurofmx.data.checks import CHECKS, checks_of, graded
from neurofmx.data.expectations import validate
from neurofmx.data.readers.video import Film, frames_of
from neurofmx.data.reading import read_recording
from neurofmx.data.tables import joined
from neurofmx.types import Recording, Samples

FILES = {
    "m1": "m1_contdata95/contdata95-dev.nwb",
    "hpc": "rat_hpc_nelpy/linear-track.nwb",
    "ca1": "ziv_ca1_multiday/C6_M4-envA-day1.nwb",
    "ssvep": "ssvep_exo_eeg/subject01-2012.07.06-19.02.16.nwb",
    "myo": "myo_emg/person12345-1.nwb",
    "lfp": "affinewarp_mixed/premotor-lfp.nwb",
    "fly": "fly_heading_calcium/PEN1-EB-20160423-Fly1-1x-1.nwb",
    "haxby": "haxby_fmri/sub001-runs1to8.nwb",
    "audio": "grasshopper_audio/receptor1.nwb",
    "eye": "other/eye_tracking/002_rlmw_samples_short.asc",
    "pose": "other/pose_video/predictions.analysis.h5",
    "video": "other/pose_video/m3v1mp4.mp4",
}
TRIALS = {"path": "intervals/trials", "modality": "trials"}
POSITION = {"path": "processing/behavior/Position/position", "modality": "behavior"}
SIGNALS = {
    "m1": {
        "counts": {"path": "processing/ecephys/binned_spikes", "modality": "binned_counts"},
        "cursor_vel": {"path": "processing/behavior/cursor_vel", "modality": "behavior"},
        "segments": {"path": "intervals/segments", "modality": "trials"},
    },
    "hpc": {
        "spikes": {"path": "units", "modality": "spikes"},
        "position": POSITION | {"frames": True, "nominal": 60.0},
    },
    "ca1": {
        "events": {"path": "processing/ophys/events", "modality": "calcium"},
        "position": POSITION,
        "observed": {"path": "intervals/observed", "modality": "trials"},
    },
    "ssvep": {"eeg": {"path": "acquisition/eeg", "modality": "eeg"}, "trials": TRIALS},
    "myo": {
        "emg": {"path": "acquisition/emg", "modality": "emg", "nominal": 200.0},
        "gestures": {"path": "intervals/gestures", "modality": "trials"},
    },
    "lfp": {"lfp": {"path": "processing/ecephys/lfp", "modality": "lfp"}, "trials": TRIALS},
    "fly": {
        "green": {"path": "processing/ophys/green", "modality": "calcium"},
        "rotation": {
            "path": "processing/behavior/rotation",
            "modality": "behavior",
            "frames": True,
            "nominal": 120.0,
        },
        "refresh": {"path": "acquisition/vr_refresh", "modality": "pulses"},
    },
    "haxby": {
        "bold": {"path": "processing/fmri/bold", "modality": "fmri", "nominal": 0.4},
        "trials": TRIALS,
    },
    "audio": {
        "sound": {"path": "stimulus/presentation/sound_envelope", "modality": "audio"},
        "spikes": {"path": "units", "modality": "spikes"},
    },
    "eye": {"gaze": {"path": "gaze", "modality": "eye", "nominal": 500.0}},
    "pose": {"pose": {"path": "tracks", "modality": "pose", "nominal": 25.0}},
    "video": {"video": {"path": "video", "modality": "video", "frames": True, "nominal": 30.0}},
}
# Every trial of that file ends in NaN, 1.7 % of all samples: a gap, as its card says.
CHANGES = {"lfp": {"input_nan": {"max": 0.02}}}
# What the files have for themselves.
WARNINGS = {"hpc": {"presence", "times_differ"}}


def flat(values):
    values[:, -1] = values[0, -1]
    return values


def dead(values):
    values[:, 2] = np.round(values[:, 2] * 0.01)  # counts of a converter
    return values


def of_unit(unit, function):
    """The spikes of one unit, changed by a function of their times."""

    def change(recording):
        spikes = recording.signals["spikes"]
        mine = spikes.index == unit
        new = function(spikes.times[mine])
        times = np.concatenate([spikes.times[~mine], new])
        index = np.concatenate([spikes.index[~mine], np.full(len(new), unit)])
        order = np.argsort(times, kind="stable")
        return changed("spikes", times=times[order], index=index[order])(recording)

    return change


def same_id(recording):
    units = recording.signals["spikes"].units.copy()
    units.loc[1, "id"] = units.loc[0, "id"]
    return changed("spikes", units=units)(recording)


def said(column, number):
    def change(recording):
        units = recording.signals["spikes"].units.assign(**{column: number})
        return changed("spikes", units=units)(recording)

    return change


def reversed_(signal, place):
    def change(recording):
        start = recording.signals[signal].start[place]
        return at(signal, "stop", place, start - 0.1)(recording)

    return change


# Recording → fault → what is done to it.
FAULTS = {
    "m1": {
        "active_unit": value("counts", np.zeros_like),
        "usual_rate_binned_counts": changed("counts", rate=0.5),
        "intervals_are_numbers": at("segments", "stop", 3, np.nan),
        "start_before_stop": reversed_("segments", 8),
        "other_nan": with_nan("cursor_vel", 0.02),
    },
    "hpc": {
        "spikes_inside": of_unit(0, lambda times: np.append(times, 30_000 * times[-1])),
        "refractory": of_unit(4, lambda times: np.sort(np.append(times, times + 1e-3))),
        "unique_unit": same_id,
        "amplitude_cutoff": said("amplitude_cutoff", [0.2] + [0.01] * 30),
        "file_isi_violations": said("isi_violations", [0.9] + [0.01] * 30),
        "file_presence": said("presence_ratio", [0.9] + [0.99] * 30),
        "ibl_score": said("ibl_quality_score", [0.33] + [1.0] * 30),
        "times_ascend": at("position", "times", 500, 0.0),
        "times_are_numbers": at("position", "times", 500, np.nan),
        "nominal_rate": faster("position", 1.002),
        "dropped_frames": dropping("position"),
        "not_empty": changed("position", values=np.zeros((0, 2)), times=np.zeros(0)),
    },
    "ca1": {
        "input_nan": with_nan("events", 0.02),
        "other_nan": with_nan("position", 0.02),
        "usual_rate_calcium": faster("events", 0.04),
        "times_differ": lambda r: at("position", "times", 9, r.signals["position"].times[8])(r),
        "times_ascend": at("events", "times", 9, 0.0),
    },
    "ssvep": {
        "saturation": value("eeg", clip),
        "flat_channels": value("eeg", flat),
        "dead_channels": scaled("eeg", 3, 0.01),
        "line_noise": value("eeg", hum(256.0, 50.0)),
        "input_nan": with_nan("eeg", 0.02),
        "usual_rate_eeg": changed("eeg", rate=90.0),
        "start_before_stop": reversed_("trials", 8),
    },
    "myo": {
        "saturation": value("emg", clip),
        "flat_channels": value("emg", flat),
        "dead_channels": value("emg", dead),
        "line_noise": value("emg", hum(200.0, 60.0)),
        "nominal_rate": faster("emg", 1.002),
    },
    "lfp": {
        "saturation": value("lfp", clip),
        "flat_channels": value("lfp", np.zeros_like),
        "line_noise": value("lfp", hum(2000.0, 60.0)),
        "input_nan": with_nan("lfp", 0.02),
        "times_ascend": at("lfp", "times", 9, -1.0),
    },
    "fly": {
        "input_nan": with_nan("green", 0.02),
        "nominal_rate": faster("rotation", 0.998),
        "dropped_frames": dropping("rotation"),
        "times_ascend": at("refresh", "times", 9, 0.0),
    },
    "haxby": {
        "not_empty": changed("bold", values=np.zeros((0, 800), np.int16)),
        "nominal_rate": faster("bold", 1.002),
        "start_before_stop": reversed_("trials", 8),
    },
    "audio": {
        "input_nan": with_nan("sound", 0.02),
        "usual_rate_audio": changed("sound", rate=2e3),
    },
    "eye": {"tracked_nan": with_nan("gaze", 0.3), "nominal_rate": faster("gaze", 1.002)},
    "pose": {"tracked_nan": with_nan("pose", 0.3), "nominal_rate": faster("pose", 1.002)},
    "video": {"dropped_frames": dropping("video"), "nominal_rate": faster("video", 1.002)},
}
CASES = [(name, fault) for name, faults in FAULTS.items() for fault in faults]


def card(name):
    content = {"name": name, "title": name, "licence": "see the README beside the file"}
    source = {"kind": "local", "path": FILES[name]}
    rest = {"signals": SIGNALS[name], "tasks": {}, "checks": CHANGES.get(name, {})}
    return Card.model_validate(content | {"source": source} | rest)


def ingested(name, path, folder):
    """The recording as ingest leaves it, or the real values of a file that has no reader."""
    if name == "pose":
        with h5py.File(path) as file:
            tracks = file["tracks"][0].reshape(26, -1).T
        return one("pose", Samples(tracks, "pixel", 25.0, modality="pose"))
    if name == "video":
        times, _ = frames_of(path)
        return one("video", Samples(Film([path], (8, 8)), "1", times=times, modality="video"))
    with read_recording(name, [path], card(name)) as recording:
        store.write(recording, folder / f"{name}.zarr", "key")
    return store.read(folder / f"{name}.zarr")


def one(name, samples):
    return Recording(name, "subject", "species", name, {name: samples})


@pytest.fixture(scope="module")
def findings(shared_data, tmp_path_factory):
    """Check → severity of what is found, by recording and fault ("clean" for none)."""
    folder, found = tmp_path_factory.mktemp("mutations"), {}
    groups = [[name for name in FILES if name not in CHANGES], list(CHANGES)]
    for group in groups:
        parts, checks = [], checks_of(card(group[0]).checks)
        for name in group:
            clean = ingested(name, shared_data / FILES[name], folder)
            for fault, change in ({"clean": lambda recording: recording} | FAULTS[name]).items():
                key = f"{name} {fault}"
                found[key] = {}
                parts.append(summary(replace(change(clean), id=key), key, card(name)))
        for each in validate(graded(joined(parts), checks), checks, folder):
            found[each.recording][each.check] = each.severity
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_clean_recording_passes(findings, name):
    found = findings[f"{name} clean"]

    assert set(found) == WARNINGS.get(name, set())


@pytest.mark.parametrize(("name", "fault"), CASES)
def test_a_fault_fails_its_check_and_no_other(findings, name, fault):
    clean, found = findings[f"{name} clean"], findings[f"{name} {fault}"]

    assert set(found) - set(clean) == {fault}
    assert found[fault] == CHECKS[fault].severity
