from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.behavior import SpatialSeries
from reads import opened, read_one

from neurofmx.data.readers.nwb_times import even_rate
from neurofmx.errors import DataError, UserError

START = datetime(2024, 1, 1, tzinfo=UTC)


def write(path: Path, *series: TimeSeries, units: dict | None = None) -> Path:
    """An NWB file with these series as acquisition, and units with these spike times."""
    nwb = NWBFile("test", "test", START)
    for one in series:
        nwb.add_acquisition(one)
    for times in (units or {}).values():
        nwb.add_unit(spike_times=times)
    with NWBHDF5IO(path, "w") as io:
        io.write(nwb)
    return path


def read_all(path: Path) -> None:
    with opened(path):
        pass


def series(name: str = "x", **more) -> TimeSeries:
    more = {"data": np.arange(6.0), "unit": "a.u."} | more
    if "timestamps" not in more:
        more = {"rate": 10.0, "starting_time": 0.0} | more
    return TimeSeries(name=name, **more)


# What values become


def test_values_become_si_units_once_and_only_when_sliced(tmp_path):
    data = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.int16)
    stored = series(data=data, unit="mV", conversion=2.0, offset=1.0)
    path = write(tmp_path / "a.nwb", stored)
    with opened(path, x={"path": "acquisition/x", "modality": "lfp"}) as recording:
        trace = recording.signals["x"]
        assert isinstance(trace.values.stored.stored, h5py.Dataset)
        assert trace.unit == "V"
        # (3 · 2 + 1) mV = 7 mV
        np.testing.assert_allclose(trace.values[1:3], [[7e-3, 9e-3], [11e-3, 13e-3]], rtol=1e-6)


@pytest.mark.parametrize(
    ("written", "unit", "factor"),
    [("volts", "V", 1), ("uV", "V", 1e-6), ("cm/s", "m/s", 0.01), ("degrees", "rad", np.pi / 180)],
)
def test_units_with_an_si_name_are_converted(tmp_path, written, unit, factor):
    path = write(tmp_path / "a.nwb", series(unit=written))
    trace = read_one(path, "acquisition/x", "behavior")

    assert trace.unit == unit
    np.testing.assert_allclose(trace.values[:][:, 0], np.arange(6) * factor)


def test_a_pose_on_a_spatial_series_keeps_its_unit(tmp_path):
    pose = SpatialSeries(
        name="x", data=np.ones((6, 2)), unit="centimeters", reference_frame="box", rate=30.0
    )
    trace = read_one(write(tmp_path / "a.nwb", pose), "acquisition/x", "pose")

    assert trace.unit == "m"
    np.testing.assert_allclose(trace.values[:], 0.01)


def test_an_unknown_unit_is_kept_as_written_and_counts_stay_integers(tmp_path):
    counts = series("counts", data=np.ones((4, 3), dtype=np.uint8), unit="counts")
    path = write(tmp_path / "a.nwb", series(unit="furlongs"), counts)

    assert read_one(path, "acquisition/x", "behavior").unit == "furlongs"
    binned = read_one(path, "acquisition/counts", "binned_counts")
    assert (binned.unit, binned.values.dtype, binned.values.shape) == ("count", np.uint8, (4, 3))


def test_timestamps_on_a_grid_become_a_rate_and_others_stay(tmp_path):
    even, uneven = 5.0 + np.arange(6) / 30.0, np.array([0.0, 0.1, 0.2, 0.31, 0.4, 0.5])
    stored = [series("even", timestamps=even), series("uneven", timestamps=uneven)]
    path = write(tmp_path / "a.nwb", *stored)

    regular = read_one(path, "acquisition/even", "behavior")
    assert (regular.rate, regular.t0) == (pytest.approx(30.0), 5.0)
    irregular = read_one(path, "acquisition/uneven", "behavior")
    assert irregular.rate is None
    np.testing.assert_array_equal(irregular.times, uneven)


def test_a_grid_far_from_zero_is_still_seen_as_one():
    assert even_rate(1e4 + np.arange(1000) / 3e4) == pytest.approx(3e4)


def test_stamps_at_the_end_of_bins_are_moved_to_their_start(tmp_path):
    about = "bin_width_s=0.1; timestamps=bin_end"
    ends = series(data=np.ones((6, 2), np.uint8), unit="counts", starting_time=0.1, comments=about)
    counts = read_one(write(tmp_path / "a.nwb", ends), "acquisition/x", "binned_counts")

    assert counts.t0 == pytest.approx(0.0)


def test_spikes_of_all_units_are_merged_in_time_and_silent_units_stay(tmp_path):
    path = write(tmp_path / "a.nwb", units={"a": [0.1, 0.5], "silent": [], "b": [0.3]})
    spikes = read_one(path, "units", "spikes")

    np.testing.assert_array_equal(spikes.times, [0.1, 0.3, 0.5])
    np.testing.assert_array_equal(spikes.index, [0, 2, 0])
    assert len(spikes.units) == 3


def test_trials_keep_their_plain_columns_and_drop_ragged_ones(tmp_path):
    nwb = NWBFile("test", "test", START)
    nwb.add_trial_column("side", "text")
    nwb.add_trial_column("licks", "ragged", index=True)
    nwb.add_trial(start_time=0.0, stop_time=1.0, side="left", licks=[0.1, 0.2])
    with NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(nwb)
    trials = read_one(tmp_path / "a.nwb", "intervals/trials", "trials")

    assert trials.columns.to_dict("list") == {"id": [0], "side": ["left"]}


# Bad input


def test_an_absent_path(tmp_path):
    with pytest.raises(UserError, match=r"none\.nwb does not exist"):
        read_all(tmp_path / "none.nwb")


def test_a_file_that_is_not_hdf5(tmp_path):
    (tmp_path / "a.nwb").write_text("spikes")
    with pytest.raises(DataError, match=r"a\.nwb: not an HDF5 file"):
        read_all(tmp_path / "a.nwb")


def test_hdf5_that_is_not_nwb(tmp_path):
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file["x"] = 1
    with pytest.raises(DataError, match=r"a\.nwb: HDF5 but not NWB"):
        read_all(tmp_path / "a.nwb")


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.5, 0.9, 0.999])
def test_a_file_cut_off_in_the_middle(small_synthetic, tmp_path, kept):
    whole = (small_synthetic / "synthetic-1-1.nwb").read_bytes()
    (tmp_path / "a.nwb").write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(DataError, match=r"a\.nwb: HDF5, but cut off or damaged"):
        read_all(tmp_path / "a.nwb")


def test_a_damaged_block_is_told_when_it_is_read(tmp_path):
    path = tmp_path / "a.nwb"
    write(path, series(data=np.zeros((6, 1))))
    with h5py.File(path, "r+") as file:
        del file["acquisition/x/data"]
        data = file["acquisition/x"].create_dataset(
            "data", data=np.arange(6.0)[:, None], chunks=(6, 1), fletcher32=True
        )
        data.attrs.update({"unit": "V", "conversion": 1.0, "offset": 0.0, "resolution": -1.0})
        place = data.id.get_chunk_info(0).byte_offset
    raw = bytearray(path.read_bytes())
    raw[place] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"rows .* cannot be read"):
        read_one(path, "acquisition/x", "lfp")


def test_a_signal_that_the_file_lacks(tmp_path):
    path = write(tmp_path / "a.nwb", series())
    with pytest.raises(DataError, match=r"no 'units' \(signal 'x'\)\. There is: acquisition/x"):
        read_one(path, "units", "spikes")


def test_a_file_with_nothing_usable(tmp_path):
    path = write(tmp_path / "a.nwb")
    with pytest.raises(DataError, match="There is: nothing usable"):
        read_one(path, "units", "spikes")


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0.0, 0.1, np.nan, 0.3, 0.4, 0.5], r"timestamps\[2\] is nan"),
        ([0.0, 0.1, 0.2, 0.15, 0.4, 0.5], r"timestamps\[3\] is 0\.15 s, before the 0\.2 s"),
        ([0.0, 0.1, 0.2], r"6 samples but 3 timestamps"),
    ],
)
def test_bad_timestamps(tmp_path, times, message):
    path = write(tmp_path / "a.nwb", series(timestamps=np.arange(6.0)))
    with h5py.File(path, "r+") as file:  # pynwb would not write them
        attributes = dict(file["acquisition/x/timestamps"].attrs)
        del file["acquisition/x/timestamps"]
        file["acquisition/x/timestamps"] = np.array(times)
        file["acquisition/x/timestamps"].attrs.update(attributes)
    with pytest.raises(DataError, match=r"a\.nwb: acquisition/x: " + message):
        read_one(path, "acquisition/x", "behavior")


def test_nan_spike_times(tmp_path):
    path = write(tmp_path / "a.nwb", units={"a": [0.1, np.nan]})
    with pytest.raises(DataError, match=r"units: spike_times\[1\] is nan"):
        read_one(path, "units", "spikes")


def test_zero_units(tmp_path):
    nwb = NWBFile("test", "test", START)
    nwb.add_unit_column("quality", "of the sorting")
    nwb.add_unit(quality="good")
    with NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(nwb)
    with pytest.raises(DataError, match=r"zero units with spike times \(of 1 units\)"):
        read_one(tmp_path / "a.nwb", "units", "spikes")


def test_a_rate_of_zero(tmp_path):
    path = write(tmp_path / "a.nwb", series())
    with h5py.File(path, "r+") as file:
        file["acquisition/x/starting_time"].attrs["rate"] = 0.0
    with pytest.raises(DataError, match=r"rate is 0\.0 Hz; a rate is positive"):
        read_one(path, "acquisition/x", "behavior")


def test_a_modality_that_the_object_cannot_have(tmp_path):
    path = write(tmp_path / "a.nwb", series())
    with pytest.raises(DataError, match="is TimeSeries, which holds no spikes"):
        read_one(path, "acquisition/x", "spikes")


def test_an_image_stack_is_refused(tmp_path):
    path = write(tmp_path / "a.nwb", series(data=np.zeros((6, 2, 2))))
    with pytest.raises(DataError, match="holds no numbers over time × channel"):
        read_one(path, "acquisition/x", "behavior")


@pytest.mark.parametrize("marker", [".zgroup", "zarr.json"])
def test_nwb_in_zarr_is_refused_with_the_way_out(tmp_path, marker):
    folder = tmp_path / "a.nwb.zarr"
    folder.mkdir()
    (folder / marker).write_text("{}")
    with pytest.raises(DataError, match=r"convert it to HDF5 .* NWBZarrIO"):
        read_all(folder)


# Real files


def raw(path: Path, where: str):
    with h5py.File(path) as file:
        return file[where][:]


def test_hpc_as_it_lies(shared_data):
    path = shared_data / "rat_hpc_nelpy" / "linear-track.nwb"
    spikes = read_one(path, "units", "spikes")
    position = read_one(path, "processing/behavior/Position/position", "behavior")

    assert (len(spikes), len(spikes.units)) == (28829, 31)
    # Unit 1 has the spikes between the first two entries of the index.
    np.testing.assert_array_equal(
        spikes.times[spikes.index == 1], np.sort(raw(path, "units/spike_times")[1748:1854])
    )
    np.testing.assert_array_equal(spikes.units["tetrode"], raw(path, "units/tetrode"))
    assert (position.rate, position.unit) == (None, "pixels")
    np.testing.assert_array_equal(
        position.times, raw(path, "processing/behavior/Position/position/timestamps")
    )


def test_ca1_as_it_lies(shared_data):
    path = shared_data / "ziv_ca1_multiday" / "C6_M4-envA-day1.nwb"
    events = read_one(path, "processing/ophys/events", "calcium")
    position = read_one(path, "processing/behavior/Position/position", "behavior")

    np.testing.assert_array_equal(
        events.values[:500], raw(path, "processing/ophys/events/data")[:500]
    )
    ids = raw(path, "processing/ophys/ImageSegmentation/PlaneSegmentation/id")
    np.testing.assert_array_equal(events.channels["id"], ids)
    stored = raw(path, "processing/behavior/Position/position/data")
    # Stored as a fraction of a track of 0.96 m.
    np.testing.assert_allclose(position.values[:], 0.96 * stored, rtol=1e-6)
    assert position.unit == "m"
