"""Files of the Allen Institute's Neuropixels sets."""

from pathlib import Path

import numpy as np
from pynwb import NWBFile, TimeSeries, get_class
from pynwb.ecephys import LFP, ElectricalSeries
from pynwb.epoch import TimeIntervals

from dialects.base import cursor, electrodes_of, lfp, new_file, save, spike_trains, trials_of


def allen(folder: Path, data: Path) -> list[Path]:
    """A session of Visual Coding and the LFP of its probe."""
    base = "sub-699733573/sub-699733573_ses-715093703"
    session = save(allen_session(data), folder / f"{base}.nwb")
    return [session, allen_probe(folder / f"{base}_probe-810755797_ecephys.nwb", data)]


def allen_session(data: Path) -> NWBFile:
    """Units with peak channels, running speed in intervals, gaze, stimuli and invalid times."""
    nwb = new_file("699733573")
    places = {"location": ["VISp", "CA1", "LP"], "id": [850, 848, 846]}
    columns = {"probe_id": [810755797] * 3, "probe_vertical_position": [60, 40, 20]}
    electrodes_of(nwb, 3, **places, **columns)
    allen_units(nwb, data)
    running = nwb.create_processing_module("running", "running")
    start = 10.0 + np.arange(300) / 60.0
    start[200:] += 1.0
    stop = start + 1 / 60.0
    stop[199] = start[200]  # one sample bridges the second that is missing
    speed = 10 * np.abs(cursor(data, 300)[:, 0]).astype(np.float64)
    running.add(TimeSeries(name="running_speed", data=speed, timestamps=start, unit="cm/s"))
    nothing = np.full(300, np.nan)
    ends = {"data": nothing, "timestamps": stop, "unit": "cm/s"}
    running.add(TimeSeries(name="running_speed_end_times", **ends))
    allen_eye(nwb, data)
    allen_times(nwb)
    return nwb


def allen_units(nwb: NWBFile, data: Path) -> None:
    """Units, of which every third fails one of the Institute's own criteria."""
    metrics = ("amplitude_cutoff", "presence_ratio", "isi_violations")
    for name in ("peak_channel_id", "quality", *metrics):
        nwb.add_unit_column(name, name)
    for k, train in enumerate(spike_trains(data)[:9]):
        row = {"amplitude_cutoff": 0.01, "presence_ratio": 0.99, "isi_violations": 0.1}
        if k % 3 == 0:
            row[metrics[k // 3]] = np.nan if k == 0 else 0.7
        nwb.add_unit(spike_times=train, peak_channel_id=846 + 2 * (k % 3), quality="good", **row)


def allen_eye(nwb: NWBFile, data: Path) -> None:
    """Gaze on the screen, as Visual Coding has it, and ellipses, as Visual Behavior does."""
    times, walk = 10.0 + np.arange(300) / 30.0, cursor(data, 300).astype(np.float64)
    gaze = nwb.create_processing_module("raw_gaze_mapping", "gaze")
    screen = {"data": walk, "timestamps": times, "unit": "Centimeters"}
    gaze.add(TimeSeries(name="screen_coordinates", **screen))
    area = {"data": np.abs(walk[:, 0]), "timestamps": times, "unit": "Pixels ^ 2"}
    gaze.add(TimeSeries(name="pupil_area", **area))
    tracking, series = (
        get_class(n, "test-layouts") for n in ("EllipseEyeTracking", "EllipseSeries")
    )
    ellipses = [
        series(
            name=name,
            data=walk,
            timestamps=times,
            unit="meters",
            reference_frame="nose",
            area=np.abs(walk[:, 0]),
            width=np.abs(walk[:, 1]),
            height=np.abs(walk[:, 1]) / 2,
            angle=np.full(300, 0.25),
        )
        for name in ("eye_tracking", "pupil_tracking", "corneal_reflection_tracking")
    ]
    blink = TimeSeries(name="likely_blink", data=walk[:, 0] > 10, timestamps=times, unit="N/A")
    parts = {part.name: part for part in [*ellipses, blink]}
    nwb.add_acquisition(tracking(name="EyeTracking", **parts))


def allen_times(nwb: NWBFile) -> None:
    """Presentations of gratings and trials, and what spoiled them."""
    shown = TimeIntervals(name="drifting_gratings_presentations", description="gratings")
    shown.add_column("orientation", "of the grating (degrees)")
    for k in range(20):
        row = {"orientation": 45.0 * (k % 8)}
        shown.add_interval(start_time=10.0 + k, stop_time=10.5 + k, **row)
    nwb.add_time_intervals(shown)
    spoiled = TimeIntervals(name="invalid_times", description="invalid")
    for start, stop, tag in ((12.2, 12.3, "stimulus"), (11.0, 11.5, "probeA"), (0, 1, "probeB")):
        spoiled.add_interval(start_time=float(start), stop_time=float(stop), tags=[tag, "spoiled"])
    nwb.add_time_intervals(spoiled)
    hits = np.arange(20) % 2 == 0
    values = {"change_time": 10.2 + np.arange(20), "hit": hits, "miss": ~hits}
    flags = {"go": np.ones(20, bool), "catch": np.zeros(20, bool)}
    trials_of(nwb, values | flags, 10.0 + np.arange(20), 10.5 + np.arange(20))


def allen_probe(path: Path, data: Path) -> Path:
    """LFP of one probe, stamped sample by sample."""
    nwb = new_file("699733573")
    columns = {"location": ["VISp", "CA1"], "id": [850, 848], "probe_id": [810755797] * 2}
    region = electrodes_of(nwb, 2, **columns)
    volts = 1e-4 * np.c_[lfp(data, 2500), lfp(data, 2500)]
    times = 10.0 + np.arange(2500) / 1250.0
    series = {"data": volts, "timestamps": times, "electrodes": region}
    name = "probe_810755797_lfp"
    whole = LFP(name=name, electrical_series=ElectricalSeries(name=f"{name}_data", **series))
    nwb.add_acquisition(whole)
    return save(nwb, path)
