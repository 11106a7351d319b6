"""Signals of every modality from NWB, by what the neurodata types say."""

import subprocess
import sys

import numpy as np
import pytest
from dialects.base import new_file, pose, save, stored
from ndx_pose import PoseEstimation, PoseEstimationSeries
from pynwb import TimeSeries
from pynwb.behavior import BehavioralTimeSeries, EyeTracking, Position, PupilTracking, SpatialSeries
from pynwb.icephys import CurrentClampSeries, VoltageClampSeries
from pynwb.ophys import (
    DfOverF,
    Fluorescence,
    ImageSegmentation,
    OpticalChannel,
    RoiResponseSeries,
)
from reads import read_one

from neurofmx.data.readers import open_contents
from neurofmx.errors import DataError


def guesses(path):
    contents = open_contents(path)
    return {where: contents.guess(where) for where in contents.kinds}


def place(name, data, **more):
    more = {"unit": "m", "reference_frame": "box", "rate": 30.0} | more
    return SpatialSeries(name=name, data=data, **more)


# Pose


@pytest.fixture
def posed(tmp_path, shared_data):
    """A fly's keypoints as ndx-pose has them, and what was written."""
    nwb, places = new_file(), pose(shared_data, ("thorax", "abdomen", "head"), 50)
    times = 1.0 + np.arange(50) / 25.0
    parts = [
        PoseEstimationSeries(
            name=name,
            data=xy,
            unit="pixels",
            reference_frame="upper left",
            timestamps=times,
            confidence=np.linspace(0.0, k, 50),
        )
        for k, (name, xy) in enumerate(places.items())
    ]
    module = nwb.create_processing_module("behavior", "pose")
    module.add(PoseEstimation(name="camera", pose_estimation_series=parts))
    return save(nwb, tmp_path / "a.nwb"), places


def test_keypoints_of_one_camera_are_one_signal(posed):
    path, places = posed
    signal = read_one(path, "processing/behavior/camera", "pose")

    assert (signal.rate, signal.t0, signal.unit) == (pytest.approx(25.0), 1.0, "pixels")
    # Series are in alphabetical order, as HDF5 lists them.
    names = ["abdomen_x", "abdomen_y", "head_x", "head_y", "thorax_x", "thorax_y"]
    assert signal.channels["name"].tolist() == names
    assert signal.channels["id"].tolist() == list(range(6))
    expected = np.c_[places["abdomen"], places["head"], places["thorax"]]
    np.testing.assert_array_equal(signal.values, expected.astype(np.float64))
    # thorax rises to 0, abdomen to 1, head to 2 with means of half of that
    assert signal.channels["confidence"].tolist() == pytest.approx([0.5, 0.5, 1, 1, 0, 0])


def test_a_pose_is_guessed_once_and_not_per_keypoint(posed):
    assert {k: v for k, v in guesses(posed[0]).items() if v} == {
        "processing/behavior/camera": "pose"
    }


def test_a_pose_is_read_where_ndx_pose_is_not_imported(posed):
    path, places = posed
    code = (
        "import sys; from pathlib import Path; from neurofmx.data.readers import open_contents;"
        "from neurofmx.data.cards import SignalCard;"
        f"c = open_contents(Path({str(path)!r})); p = 'processing/behavior/camera';"
        "s = c.read(p, SignalCard(path=p, modality='pose'));"
        "assert 'ndx_pose' not in sys.modules; print(c.guess(p), *s.values[3:4][0])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    guess, *values = done.stdout.split()
    assert guess == "pose"
    assert float(values[0]) == pytest.approx(places["abdomen"][3, 0])


def test_places_side_by_side_are_a_pose_where_they_are_called_one(tmp_path):
    nwb, box = new_file(), Position(name="keypoints")
    for name, offset in (("snout", 0.0), ("tail", 10.0)):
        box.add_spatial_series(place(name, offset + np.arange(8.0).reshape(4, 2)))
    nwb.create_processing_module("behavior", "b").add(box)
    path = save(nwb, tmp_path / "a.nwb")

    where = "processing/behavior/keypoints"
    assert guesses(path) == {where: "pose", f"{where}/snout": None, f"{where}/tail": None}
    signal = read_one(path, where, "pose")
    np.testing.assert_array_equal(signal.values[1], [2, 3, 12, 13])
    assert signal.channels["name"].tolist() == ["snout_x", "snout_y", "tail_x", "tail_y"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"unit": "cm"}, r"muscle_b is in 'm', muscle_a in 'V'"),
        ({"rate": 20.0}, "were not sampled together"),
        ({"data": np.zeros(5)}, "were not sampled together"),
    ],
)
def test_series_that_do_not_belong_together_are_refused(tmp_path, other, message):
    nwb, box = new_file(), BehavioralTimeSeries(name="emg")
    same = {"data": np.zeros(4), "unit": "V", "rate": 30.0}
    box.add_timeseries(TimeSeries(name="muscle_a", **same))
    box.add_timeseries(TimeSeries(name="muscle_b", **same | other))
    nwb.add_acquisition(box)
    with pytest.raises(DataError, match=message):
        read_one(save(nwb, tmp_path / "a.nwb"), "acquisition/emg", "emg")


# Eye


def test_gaze_pupil_and_blinks(tmp_path):
    nwb, clock = new_file(), {"rate": 60.0, "unit": "m"}
    gaze = place("left", np.ones((4, 2)), unit="degrees", rate=60.0)
    nwb.add_acquisition(EyeTracking(name="EyeTracking", spatial_series=gaze))
    size = TimeSeries(name="diameter", data=np.arange(4.0), conversion=1e-3, **clock)
    nwb.add_acquisition(PupilTracking(name="Pupils", time_series=size))
    blinks = {"data": np.array([0, 1, 1, 0], bool), "rate": 60.0, "unit": "n.a."}
    nwb.add_acquisition(TimeSeries(name="blink", **blinks))
    path = save(nwb, tmp_path / "a.nwb")

    assert set(guesses(path).values()) == {"eye"}
    assert read_one(path, "acquisition/EyeTracking/left", "eye").unit == "rad"
    pupil = read_one(path, "acquisition/Pupils/diameter", "eye")
    assert pupil.unit == "m"
    np.testing.assert_allclose(pupil.values[:, 0], [0, 1e-3, 2e-3, 3e-3])
    closed = read_one(path, "acquisition/blink", "eye")
    assert (closed.values.dtype, closed.values[:, 0].tolist()) == (np.uint8, [0, 1, 1, 0])


# Calcium


@pytest.mark.parametrize(
    ("box", "written", "unit", "factor"),
    [
        (DfOverF, "n.a.", "1", 1.0),
        (DfOverF, "dF/F", "1", 1.0),
        (DfOverF, "percent", "1", 0.01),
        (Fluorescence, "n.a.", "n.a.", 1.0),
        (Fluorescence, "lumens", "lumens", 1.0),
    ],
)
def test_a_change_of_fluorescence_has_no_unit(tmp_path, box, written, unit, factor):
    nwb = new_file()
    device = nwb.create_device("microscope")
    channel = {"name": "green", "description": "d", "emission_lambda": 510.0}
    plane = nwb.create_imaging_plane(
        name="plane",
        optical_channel=OpticalChannel(**channel),
        description="d",
        device=device,
        excitation_lambda=900.0,
        indicator="GCaMP6",
        location="V1",
    )
    module, segments = nwb.create_processing_module("ophys", "o"), ImageSegmentation()
    module.add(segments)
    cells = segments.create_plane_segmentation("cells", plane, name="cells")
    for k in range(2):
        cells.add_roi(pixel_mask=[(k, k, 1.0)])
    rois = cells.create_roi_table_region("all", region=[0, 1])
    data = np.arange(6.0).reshape(3, 2)
    series = RoiResponseSeries(name="trace", data=data, rois=rois, unit=written, rate=30.0)
    module.add(box(name="box", roi_response_series=series))
    path, where = save(nwb, tmp_path / "a.nwb"), "processing/ophys/box/trace"

    assert guesses(path)[where] == "calcium"
    signal = read_one(path, where, "calcium")
    assert signal.unit == unit
    np.testing.assert_allclose(signal.values, factor * data)
    assert signal.channels["id"].tolist() == [0, 1]


# Patch clamp and sound


def test_each_sweep_of_a_patch_clamp_is_a_signal_in_volts_or_amperes(tmp_path):
    nwb = new_file()
    device = nwb.create_device("amplifier")
    pipette = nwb.create_icephys_electrode(name="pipette", description="d", device=device)
    sweep = {"electrode": pipette, "gain": 1.0, "rate": 1e4, "starting_time": 2.0}
    potential = {"data": np.array([-70, -69], np.int16), "conversion": 1e-3, "sweep_number": 3}
    nwb.add_acquisition(CurrentClampSeries(name="sweep_3", **potential, **sweep))
    current = {"data": np.array([1.0, 2.0]), "conversion": 1e-12}
    nwb.add_acquisition(VoltageClampSeries(name="sweep_4", **current, **sweep))
    path = save(nwb, tmp_path / "a.nwb")

    assert set(guesses(path).values()) == {"intracellular"}
    volts = read_one(path, "acquisition/sweep_3", "intracellular")
    assert (volts.unit, volts.rate, volts.t0) == ("V", 1e4, 2.0)
    np.testing.assert_allclose(volts.values[:, 0], [-70e-3, -69e-3])
    assert volts.channels.to_dict("list") == {"id": [0], "electrode": ["pipette"], "sweep": ["3"]}
    amperes = read_one(path, "acquisition/sweep_4", "intracellular")
    assert amperes.unit == "A"
    np.testing.assert_allclose(amperes.values[:, 0], [1e-12, 2e-12])


def test_sound_is_told_from_its_envelope_by_its_rate(tmp_path):
    nwb, data = new_file(), np.zeros(100)
    nwb.add_acquisition(TimeSeries(name="microphone", data=data, unit="V", rate=44100.0))
    nwb.add_acquisition(TimeSeries(name="sound_level", data=data, unit="V", rate=100.0))

    assert guesses(save(nwb, tmp_path / "a.nwb")) == {
        "acquisition/microphone": "audio",
        "acquisition/sound_level": "behavior",
    }


# Spikes that are not lists of times, labels that are not tables


def test_a_matrix_of_crossings_becomes_events(tmp_path):
    crossed = np.array([[0, 1], [2, 0], [0, 0], [1, 1]], np.int8)
    times = np.array([0.0, 0.001, 5.0, 5.001])  # two trials
    nwb = new_file()
    nwb.add_acquisition(TimeSeries(name="tx", data=crossed, timestamps=times, unit="int"))
    spikes = read_one(save(nwb, tmp_path / "a.nwb"), "acquisition/tx", "spikes")

    np.testing.assert_array_equal(spikes.times, [0.0, 0.001, 0.001, 5.001, 5.001])
    np.testing.assert_array_equal(spikes.index, [1, 0, 0, 0, 1])
    assert len(spikes.units) == 2


@pytest.mark.parametrize("wrong", [0.5, -1.0, np.nan])
def test_a_matrix_of_other_numbers_holds_no_spikes(tmp_path, wrong):
    nwb = new_file()
    nwb.add_acquisition(TimeSeries(name="tx", data=np.full((3, 2), wrong), unit="int", rate=1.0))
    with pytest.raises(DataError, match="holds other values than counts"):
        read_one(save(nwb, tmp_path / "a.nwb"), "acquisition/tx", "spikes")


def test_runs_of_a_label_become_intervals(tmp_path):
    nwb = new_file()
    label = {"data": np.array([1, 1, 2, 2, 2, 1]), "unit": "n.a.", "rate": 10.0}
    nwb.add_acquisition(TimeSeries(name="trial", **label))
    runs = read_one(save(nwb, tmp_path / "a.nwb"), "acquisition/trial", "trials")

    np.testing.assert_allclose(runs.start, [0.0, 0.2, 0.5])
    np.testing.assert_allclose(runs.stop, [0.2, 0.5, 0.6])
    assert runs.columns["value"].tolist() == [1, 2, 1]


def test_what_was_observed_is_the_union_over_units(tmp_path):
    nwb = new_file()
    nwb.add_unit(spike_times=[0.5], obs_intervals=[[0.0, 1.0], [2.0, 3.0]])
    nwb.add_unit(spike_times=[0.7], obs_intervals=[[0.5, 1.5], [2.0, 3.0]])
    observed = read_one(save(nwb, tmp_path / "a.nwb"), "units/obs_intervals", "trials")

    np.testing.assert_array_equal(observed.start, [0.0, 2.0])
    np.testing.assert_array_equal(observed.stop, [1.5, 3.0])


def test_a_unit_has_the_region_of_its_first_electrode(shared_data):
    path = shared_data / "other" / "nwb_native" / "sub-4_ses-4_ecephys+image.nwb"
    units = read_one(path, "units", "spikes").units

    rows = stored(path, "units/electrodes")
    places = stored(path, "general/extracellular_ephys/electrodes/location")
    assert units["region"].tolist() == [place.decode() for place in places[rows]]
    assert "hippocampus_right" in set(units["region"])
