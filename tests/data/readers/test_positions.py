"""Where electrodes are: NWB says it in micrometres, the recording in metres."""

import h5py
import numpy as np
import pandas as pd
import pytest
from dialects.base import electrodes_of, new_file, save
from pynwb.ecephys import ElectricalSeries
from reads import opened, read_one

from neurofmx.data.readers.nwb_tables import places
from neurofmx.types import POSITION, REGION

PLACES = {"x": [1200.0, 0.0, -1.0], "y": [-300.0, 0.0, -1.0], "z": [50.0, 0.0, -1.0]}


@pytest.fixture
def path(tmp_path):
    """A file with a potential on three electrodes and units on the third and the first."""
    nwb = new_file()
    region = electrodes_of(nwb, 3, location=["CA1", "CA3", "DG"], **PLACES)
    potential = ElectricalSeries(name="lfp", data=np.zeros((9, 3)), electrodes=region, rate=1e3)
    nwb.add_acquisition(potential)
    nwb.add_unit(spike_times=[0.1], electrodes=[2, 0])
    nwb.add_unit(spike_times=[0.2], electrodes=[0])
    return save(nwb, tmp_path / "a.nwb")


def test_electrodes_are_in_metres_and_what_files_write_for_nowhere_is_not_a_place(path):
    channels = read_one(path, "acquisition/lfp", "lfp").channels

    np.testing.assert_allclose(channels[list(POSITION)].iloc[0], [1.2e-3, -3e-4, 5e-5], rtol=1e-12)
    assert channels[list(POSITION)].iloc[1:].isna().all(axis=None)
    assert channels["x"].tolist() == PLACES["x"]  # the file's own column stays as it is
    assert channels[REGION].tolist() == ["CA1", "CA3", "DG"]


def test_a_unit_is_where_its_first_electrode_is(path):
    units = read_one(path, "units", "spikes").units

    assert units[REGION].tolist() == ["DG", "CA1"]
    assert units["x_m"].iloc[0] != units["x_m"].iloc[0]  # NaN: the third is nowhere
    assert units["x_m"].iloc[1] == pytest.approx(1.2e-3)


@pytest.mark.parametrize(("unit", "metres"), [("mm", 1.2), ("m", 1200.0)])
def test_a_card_can_name_another_unit(path, unit, metres):
    signal = {"path": "acquisition/lfp", "modality": "lfp", "position_unit": unit}
    with opened(path, x=signal) as recording:
        assert recording.signals["x"].channels["x_m"].iloc[0] == pytest.approx(metres)


def test_the_human_units_are_millimetres_in_mni_space(shared_data):
    path = shared_data / "other" / "nwb_native" / "sub-4_ses-4_ecephys+image.nwb"
    with h5py.File(path) as file:
        stored = file["general/extracellular_ephys/electrodes"]
        rows = file["units/electrodes"][:]
        millimetres = np.stack([stored[axis][:][rows] for axis in "xyz"], axis=1)
    with opened(path, x={"path": "units", "modality": "spikes", "position_unit": "mm"}) as found:
        position = found.signals["x"].units[list(POSITION)].to_numpy()

    np.testing.assert_allclose(position, millimetres * 1e-3)
    assert np.linalg.norm(position, axis=1).min() > 0.02  # within a human head, not a mouse's
    assert np.linalg.norm(position, axis=1).max() < 0.12


def test_electrodes_without_a_place_give_none():
    assert places(pd.DataFrame({"id": [0], "location": ["CA1"]})).keys() == {REGION}
    assert places(pd.DataFrame({"id": [0], "x": [1.0]})) == {}


@pytest.mark.parametrize(
    ("dialect", "column", "electrode"),
    [("allen", "peak_channel_id", 848), ("ibl", "max_electrode", 1)],
)
def test_a_unit_of_a_dialect_is_where_its_strongest_electrode_is(
    tmp_path, dialect, column, electrode
):
    nwb, ids = new_file(), [850, 848] if dialect == "allen" else [0, 1]
    electrodes_of(
        nwb, 2, id=ids, location=["VISp", "LP"], x=[1.0, 7000.0], y=[2.0, 8000.0], z=[3.0] * 2
    )
    nwb.add_unit_column(column, column)
    nwb.add_unit(spike_times=[0.1], **{column: electrode})
    path = save(nwb, tmp_path / "sub-1_ses-1.nwb")
    with opened(path, dialect=dialect, x={"path": "units", "modality": "spikes"}) as recording:
        units = recording.signals["x"].units

    assert units[REGION].tolist() == ["LP"]
    np.testing.assert_allclose(units[list(POSITION)], [[7e-3, 8e-3, 3e-6]])
