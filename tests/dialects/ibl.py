"""Files of IBL's Brain-Wide Map."""

from pathlib import Path

import numpy as np
import pandas as pd
from hdmf.common import DynamicTableRegion, VectorData
from ndx_pose import PoseEstimation, PoseEstimationSeries
from pynwb import NWBFile, TimeSeries, get_class
from pynwb.behavior import SpatialSeries
from pynwb.ecephys import ElectricalSeries

from dialects.base import (
    cursor,
    electrodes_of,
    lfp,
    new_file,
    pose,
    save,
    spike_trains,
    trials_of,
)

EID = "c99d53e6-c317-4c53-99ba-070b26673ac4"
TURN = {1: "clockwise", -1: "counter_clockwise", 0: "no_go"}


def ibl_trials(data: Path, n: int = 40) -> pd.DataFrame:
    """Trials of an IBL mouse under their ALF names."""
    return pd.read_csv(data / "other" / "ibl_fixtures" / "trials_df_test.csv", index_col=0)[:n]


def ibl(folder: Path, data: Path) -> list[Path]:
    """A session of the Brain-Wide Map as it is converted now, and what is left of before."""
    base = f"sub-CSHL046/sub-CSHL046_ses-{EID}"
    processed = save(ibl_processed(data), folder / f"{base}_desc-processed_behavior+ecephys.nwb")
    raw = save(ibl_raw(data), folder / f"{base}_desc-raw_ecephys.nwb")
    return [processed, raw, ibl_legacy(folder, data)]


def ibl_processed(data: Path) -> NWBFile:
    """Units, trials in percent and words, wheel, pose and licks."""
    nwb, alf = new_file("CSHL046"), ibl_trials(data)
    left = alf["contrastLeft"].notna()
    columns = {
        "gabor_stimulus_onset_time": alf["stimOn_times"],
        "feedback_time": alf["feedback_times"],
        "gabor_stimulus_contrast": 100 * alf["contrastLeft"].fillna(alf["contrastRight"]),
        "gabor_stimulus_side": np.where(left, "left", "right"),
        "mouse_wheel_choice": [TURN[int(c)] for c in alf["choice"]],
        "is_mouse_rewarded": (alf["feedbackType"] == 1).to_numpy(),
        "probability_left": alf["probabilityLeft"],
    }
    start = alf["goCue_times"].to_numpy() - 0.6
    values = {name: np.asarray(column) for name, column in columns.items()}
    trials_of(nwb, values, start, alf["feedback_times"].to_numpy() + 1.0)
    ibl_units(nwb, data)
    wheel = nwb.create_processing_module("wheel", "wheel")
    turned = np.cumsum(cursor(data, 200)[:, 0]).astype(np.float64)
    times = np.arange(200) * 0.3 + np.tile([0.0, 0.01], 100)  # irregular
    frame = {"reference_frame": "start", "unit": "radians"}
    wheel.add(SpatialSeries(name="WheelPosition", data=turned, timestamps=times, **frame))
    speed = np.gradient(np.repeat(turned, 300))
    smooth = {"unit": "rad/s", "rate": 1000.0, "starting_time": 0.0}
    wheel.add(TimeSeries(name="WheelVelocitySmoothed", data=speed, **smooth))
    ibl_camera(nwb, data)
    return nwb


def ibl_units(nwb: NWBFile, data: Path) -> None:
    """Units of one probe, with regions at electrodes and in a table of atlas places."""
    names = ["Field CA1", "Dentate gyrus", "Thalamus", "Thalamus"]
    electrodes_of(nwb, 4, location=names)
    for name in ("probe_name", "max_electrode", "ibl_quality_score"):
        nwb.add_unit_column(name, name)
    for k, train in enumerate(spike_trains(data)[:8]):
        score = 1.0 if k % 2 == 0 else 1 / 3
        row = {"probe_name": "Probe00", "max_electrode": (k + 1) % 4, "ibl_quality_score": score}
        nwb.add_unit(spike_times=train, **row)
    localization, atlas = (get_class(n, "test-layouts") for n in ("Localization", "AtlasTable"))
    rows = DynamicTableRegion(
        name="localized_entity", data=[3, 2, 1, 0], description="in reverse", table=nwb.electrodes
    )
    places = {
        "beryl_location": ["TH", "TH", "DG", "CA1"],
        "cosmos_location": ["TH", "TH", "H", "H"],
    }
    columns = [VectorData(name=n, description=n, data=v) for n, v in places.items()]
    table = atlas(name="ElectrodesIBLBregma", description="places", columns=[rows, *columns])
    nwb.add_lab_meta_data(localization(name="localization", atlas_tables=[table]))


def ibl_camera(nwb: NWBFile, data: Path) -> None:
    """Pose of the left camera (a tongue in the mouth is NaN), pupil, motion energy and licks."""
    body = pose(data, ("thorax", "head"), 300)
    places = dict(zip(("NoseTip", "LeftPaw"), body.values(), strict=True))
    places["LeftTongueEnd"] = np.full((300, 2), np.nan)
    times = 1.0 + np.arange(300) / 60.0
    parts = [
        PoseEstimationSeries(
            name=f"PoseEstimationSeries{name}",
            data=place,
            unit="px",
            reference_frame="upper left",
            timestamps=times,
            confidence=np.where(np.isnan(place[:, 0]), 0.5, 0.95),
        )
        for name, place in places.items()
    ]
    module = nwb.create_processing_module("pose_estimation", "pose")
    module.add(PoseEstimation(name="LeftCamera", pose_estimation_series=parts))
    video = nwb.create_processing_module("video", "from video")
    width = np.abs(places["LeftPaw"][:, 0] - places["NoseTip"][:, 0])
    pupil = {"data": width, "timestamps": times, "unit": "px"}
    video.add(TimeSeries(name="TimeSeriesLeftSmoothedPupilDiameter", **pupil))
    energy = np.abs(np.diff(places["NoseTip"][:, 0], append=0.0))
    moved = {"data": energy, "timestamps": times, "unit": "a.u."}
    video.add(TimeSeries(name="TimeSeriesLeftMotionEnergy", **moved))
    licks = nwb.create_processing_module("lick_times", "licks")
    events = get_class("Events", "test-layouts")
    licks.add(events(name="EventsLickTimes", description="licks", timestamps=times[::50]))


def ibl_raw(data: Path) -> NWBFile:
    """LFP with a time stamp for every sample and no rate."""
    nwb = new_file("CSHL046")
    region = electrodes_of(nwb, 2)
    volts = (np.c_[lfp(data, 5000), lfp(data, 5000)] * 1000).astype(np.int16)
    times = 0.5 + np.arange(5000) / 2500.0
    series = {"data": volts, "timestamps": times, "conversion": 4.69e-6, "electrodes": region}
    nwb.add_acquisition(ElectricalSeries(name="ElectricalSeriesProbe00LF", **series))
    return nwb


def ibl_legacy(folder: Path, data: Path) -> Path:
    """The same trials in the older layout: fractions and numbers."""
    nwb, alf = new_file("CSHL046"), ibl_trials(data)
    names = {
        "stim_on_time": "stimOn_times",
        "feedback_time": "feedback_times",
        "contrast_left": "contrastLeft",
        "contrast_right": "contrastRight",
        "choice": "choice",
        "feedback_type": "feedbackType",
        "probability_left": "probabilityLeft",
    }
    values = {new: alf[old].to_numpy(np.float64) for new, old in names.items()}
    start = alf["goCue_times"].to_numpy() - 0.6
    trials_of(nwb, values, start, alf["feedback_times"].to_numpy() + 1.0)
    for train in spike_trains(data)[:8]:
        nwb.add_unit(spike_times=train)
    path = folder / f"sub-CSHL046/sub-CSHL046_ses-{EID}_behavior+ecephys+image.nwb"
    return save(nwb, path)
