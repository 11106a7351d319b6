"""What is in no NWB file goes the same way: videos, ALF and EyeLink, as far as they can."""

from pathlib import Path

import av
import cuts
import numpy as np
import pytest
from alf import SESSION, real_trials, write_session
from dialects.base import new_file, pose, save, spike_trains
from one.alf.cache import make_parquet_db
from pynwb.behavior import Position, SpatialSeries
from pynwb.image import ImageSeries
from test_recordings_all import run_to_tokenize, started

from neurofmx.data import store
from neurofmx.data.cards import Card
from neurofmx.data.readers.video import Film, frames_of
from neurofmx.data.shards import Shards
from neurofmx.data.suggest import suggest
from neurofmx.errors import DataError, UserError

FRAMES = 150  # of 3000; decoding them all takes 20 s


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cut(card: Card, name: str) -> Shards:
    """The windows of a recording, compared with what align made of it, and drawn."""
    run_to_tokenize()
    shards = Shards(Path("storage/tokenize"))
    cuts.compare(shards, store.read_aligned(Path(f"storage/align/{name}.zarr")), card)
    cuts.check_drawing(shards)
    cuts.check_loading(shards)
    return shards


def first_frames(source: Path, path: Path) -> Path:
    """The start of a video, its packets as they are, up to a frame that needs none before it."""
    with av.open(source) as whole, av.open(path, "w") as piece:
        stream = piece.add_stream_from_template(whole.streams.video[0])
        for number, packet in enumerate(whole.demux(video=0)):
            if number >= FRAMES and packet.is_keyframe:
                break
            packet.stream = stream
            piece.mux(packet)
    return path


def test_a_video_with_its_keypoints(project, shared_data):
    source = shared_data / "other" / "pose_video" / "20190128_113421.120s.mp4"
    video = first_frames(source, project / "flies.mp4")
    times, _ = frames_of(video)
    nwb = new_file()
    nwb.add_acquisition(
        ImageSeries(
            name="camera",
            external_file=["flies.mp4"],
            format="external",
            starting_frame=[0],
            unit="n.a.",
            timestamps=times,
        )
    )
    points = [
        SpatialSeries(name=node, data=xy, unit="pixels", reference_frame="video", timestamps=times)
        for node, xy in pose(shared_data, ("head", "thorax"), len(times)).items()
    ]
    nwb.create_processing_module("behavior", "tracked").add(Position(points, name="pose"))
    content = suggest(save(nwb, project / "flies.nwb"), "x").model_dump()
    content["signals"]["camera"] |= {"size": [8, 16]}
    shards = cut(started(Card.model_validate(content)), "flies")

    assert shards.signals["camera"]["grid"] == [8, 16]
    assert shards.signals["camera"]["tokenizer"] == "image"
    assert shards.signals["pose"]["tokenizer"] == "continuous"
    sample, film = shards[0], Film([video], (8, 16))
    frames = sample.arrays["camera.values"]
    first = int(np.abs(times - sample.info["start"]).argmin())
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, film[first : first + len(frames)])


def test_an_alf_session(project, shared_data):
    trials = real_trials(shared_data)
    probe = write_session(project / "one", trials) / "alf" / "probe00" / "pykilosort"
    trains = spike_trains(shared_data, duration=trials["intervals_1"].max())[:3]
    times, clusters = np.concatenate(trains), np.repeat(np.arange(3), [len(t) for t in trains])
    order = np.argsort(times)
    for name, values in (
        ("times", times),
        ("clusters", clusters),
        ("amps", np.full(len(times), 1.0)),
    ):
        np.save(probe / f"spikes.{name}.npy", values[order])
    make_parquet_db(project / "one")
    card = {
        "name": "x",
        "title": "x",
        "licence": "MIT",
        "dialect": "alf",
        "source": {"kind": "ibl", "mode": "local", "path": str(project / "one")},
        "signals": {
            "spikes": {"path": "alf/probe*/spikes", "modality": "spikes", "tokenizer": "spikes"},
            "trials": {"path": "alf/trials", "modality": "trials"},
        },
        "tasks": {"choice": {"kind": "classification", "signal": "trials", "column": "choice"}},
        "windows": {"duration": 2.0, "step": 2.0, "within": "trials"},
        "split": {"by": "trial", "guard": 0.0},
    }
    shards = cut(started(Card.model_validate(card)), "_".join(SESSION.split("/")[-3:]))

    assert shards.channels["region"].tolist() == ["", "", "", ""]  # ids of an atlas are no names


def test_gaze_and_pupil_of_a_person(project, shared_data):
    card = suggest(shared_data / "other" / "eye_tracking" / "002_rlmw_samples_short.asc", "x")
    shards = cut(started(card), "002_rlmw_samples_short")

    assert {name: about["dt"] for name, about in shards.signals.items()} == {
        "gaze": 0.002,
        "pupil": 0.002,
    }
    assert any("gaze.mask" in shards[position].arrays for position in range(len(shards)))


def test_events_of_an_eye_tracker_alone_are_nothing_to_read(project, shared_data):
    started(suggest(shared_data / "other" / "eye_tracking" / "002_rlmw_events_short.asc", "x"))
    message = r"nothing for the model to read among blinks, fixations, inputs, messages, saccades"
    with pytest.raises(DataError, match=message):
        run_to_tokenize()


@pytest.mark.parametrize(
    ("file", "error", "message"),
    [
        ("pose_video/m3v1mp4.mp4", UserError, r"m3v1mp4\.mp4: no reader for '\.mp4' files"),
        ("pose_video/predictions.analysis.h5", UserError, r"no reader for '\.h5' files"),
        ("pose_video/CollectedData_Pranav.csv", UserError, r"no reader for '\.csv' files"),
        ("ibl_fixtures/trials_df_test.csv", UserError, r"no reader for '\.csv' files"),
        ("ibl_fixtures/parquet_records.json", UserError, r"no reader for '\.json' files"),
        ("eye_tracking/test.edf", DataError, r"EyeLink"),
    ],
)
def test_what_is_no_recording_by_itself_says_so(shared_data, file, error, message):
    with pytest.raises(error, match=message):
        suggest(shared_data / "other" / file, "x")
