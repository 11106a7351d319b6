import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import SMALL

from neurofmx.data import store
from neurofmx.data.describe import describe, tables
from neurofmx.errors import UserError
from neurofmx.types import Intervals, Recording, Samples

OTHERS = [
    "hd_adn_peyrache/hd-wake-dev.nwb",
    "myo_emg/person12345-1.nwb",
    "steinmetz_decision/session01.nwb",
    "fly_heading_calcium/PEN1-EB-20160423-Fly1-1x-1.nwb",
    "other/nwb_native/A8604-211122.nwb",
    "other/nwb_native/FergusonEtAl2015_PYR2.nwb",
    "other/nwb_native/LantyerEtAl2018_170328_AB_277_ST50_C.nwb",
    "other/nwb_native/sub-4_ses-4_ecephys+image.nwb",
]


def is_series(item) -> bool:
    return isinstance(item, h5py.Group) and bool({"timestamps", "starting_time"} & set(item))


@pytest.mark.parametrize("file", OTHERS)
def test_inspect_shows_every_time_series_of_a_foreign_file(shared_data, file):
    shown = tables(shared_data / file)["streams"]
    with h5py.File(shared_data / file) as h5:
        paths = []
        h5.visititems(lambda name, item: paths.append(name) if is_series(item) else None)

    assert set(paths) <= set(shown["path"])
    assert describe(shared_data / file).renderables


def test_inspect_tells_why_a_stream_cannot_be_used(shared_data):
    shown = tables(shared_data / OTHERS[-1])["streams"].set_index("path")
    assert "time must not run backwards" in shown.loc["acquisition/experiment_ids", "remark"]


def test_inspect_counts_units_and_trials(small_synthetic):
    shown = tables(small_synthetic / "synthetic-1-1.nwb")
    with h5py.File(small_synthetic / "synthetic-1-1.nwb") as file:
        spikes = len(file["units/spike_times"])

    assert shown["units"].loc[0, ["units", "spikes"]].tolist() == [SMALL.units, spikes]
    cue = shown["intervals"].set_index("column").loc["cue", "values"]
    assert "left" in cue
    assert "right" in cue


def test_inspect_shows_what_a_stage_wrote(tmp_path):
    counts = np.array([[1, 0], [3, 0]], dtype=np.uint8)
    signals = {
        "spikes": Samples(counts, "count", rate=0.5, modality="binned_counts"),
        "trials": Intervals(np.array([0.0]), np.array([2.0]), pd.DataFrame({"cue": ["left"]})),
    }
    store.write(Recording("a", "s", "Mus musculus", "d", signals), tmp_path / "a.zarr", "key")
    shown = tables(tmp_path / "a.zarr")

    # 4 spikes of the first unit in 2 bins of 2 s: 1 Hz, and a silent one.
    assert shown["units"].iloc[0].tolist() == ["spikes", 2, 4, 0.5, 1.0, 1]
    assert shown["intervals"]["values"].tolist() == ["1 of 2 s (2 to 2)", "left (1)"]


def test_an_absent_path(tmp_path):
    with pytest.raises(UserError, match="does not exist; give a recording's file or a storage"):
        tables(tmp_path / "a.nwb")
