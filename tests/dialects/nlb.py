"""Files of the Neural Latents Benchmark."""

from pathlib import Path

import numpy as np
from pynwb import TimeSeries

from dialects.base import new_file, save, stored, trials_of


def nlb(folder: Path, data: Path) -> list[Path]:
    """Train and test files of the benchmark."""
    base = "sub-Jenkins/sub-Jenkins_ses-full_desc"
    train = nlb_part(folder / f"{base}-train_behavior+ecephys.nwb", data, test=False)
    return [train, nlb_part(folder / f"{base}-test_ecephys.nwb", data, test=True)]


def nlb_part(path: Path, data: Path, test: bool) -> Path:
    """One trial, cut into two with an unobserved half second between them."""
    source = data / "mc_maze_trials" / "mc-maze-trial-748.nwb"
    nwb, t0 = new_file("Jenkins"), stored(source, "intervals/trials/start_time")[0]
    spans = t0 + np.array([[0.0, 1.0], [1.5, 2.5]])
    splits = ["test", "test"] if test else ["train", "val"]
    values = {"split": splits, "is_short": [True, False], "is_eye": [False, True]}
    trials_of(nwb, values, *spans.T)
    trains = np.split(
        stored(source, "units/spike_times"), stored(source, "units/spike_times_index")
    )
    nwb.add_unit_column("heldout", "not to be seen")
    for k, train in enumerate(trains[:20]):
        heldout = k % 4 == 3
        if not (test and heldout):
            nwb.add_unit(spike_times=np.sort(train), obs_intervals=spans, heldout=heldout)
    if test:
        return save(nwb, path)
    behavior = nwb.create_processing_module("behavior", "behaviour")
    places = ("hand_pos", "cursor_pos", "eye_pos", "finger_pos", "hand_vel", "finger_vel")
    for name in (*places, "force", "joint_ang", "muscle_len"):
        like = {"finger_pos": "hand_pos", "finger_vel": "hand_vel", "eye_pos": "eye_pos"}
        values = stored(source, f"processing/behavior/{like.get(name, 'hand_vel')}/data")
        times = stored(source, f"processing/behavior/{like.get(name, 'hand_vel')}/timestamps")
        seen = ((times >= spans[:, :1]) & (times < spans[:, 1:])).any(axis=0)
        more = {"unit": "m", "conversion": 0.001, "comments": "columns=[x,y]"}
        behavior.add(TimeSeries(name=name, data=values[seen], timestamps=times[seen], **more))
    return save(nwb, path)
