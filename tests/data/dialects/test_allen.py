"""Sessions and probes of the Allen Institute, and what a plain reader makes of them."""

import numpy as np
import pytest
from dialects.allen import allen
from dialects.base import cursor, spike_trains
from dialects.types import layouts
from reads import UNITS, read

from neurofmx.errors import DataError


@pytest.fixture(scope="module", autouse=True)
def types(tmp_path_factory):
    """Neurodata types of extensions that are not installed."""
    layouts(tmp_path_factory.mktemp("types"))


def test_allen_units_have_region_and_probe_of_their_peak_channel(tmp_path, shared_data):
    units = read(allen(tmp_path, shared_data), "allen", spikes=UNITS)["spikes"].units

    # channels 846, 848, 850 in turn, which the file lists in another order
    assert units["region"].tolist()[:3] == ["LP", "CA1", "VISp"]
    assert units["depth"].tolist()[:3] == [20, 40, 60]
    assert set(units["probe"]) == {"probeA"}


def test_allen_criteria_leave_good_units(tmp_path, shared_data):
    good = {
        "amplitude_cutoff": [None, 0.1],
        "presence_ratio": [0.95, None],
        "isi_violations": [None, 0.5],
    }
    spikes = read(allen(tmp_path, shared_data), "allen", spikes=UNITS | {"keep": good})["spikes"]

    assert spikes.units["id"].tolist() == [1, 2, 4, 5, 7, 8]  # 0 has no cutoff, 3 and 6 fail
    train = spike_trains(shared_data)[1]
    np.testing.assert_array_equal(spikes.times[spikes.index == 0], train)


def test_a_sample_of_running_that_bridges_a_gap_is_masked(tmp_path, shared_data):
    speed = {"path": "processing/running/running_speed", "modality": "behavior"}
    paths = allen(tmp_path, shared_data)[:1]
    running = read(paths, "allen", speed=speed)["speed"]

    assert np.flatnonzero(~running.mask).tolist() == [199]
    np.testing.assert_allclose(
        running.values[:, 0], 0.1 * np.abs(cursor(shared_data, 300)[:, 0]), rtol=1e-6
    )
    assert running.unit == "m/s"
    assert read(paths, "plain", speed=speed)["speed"].mask is None


def test_ends_of_running_samples_are_no_signal(tmp_path, shared_data):
    ends = {"path": "processing/running/running_speed_end_times", "modality": "behavior"}
    values = read(allen(tmp_path, shared_data), "plain", x=ends)["x"].values
    assert np.isnan(values).all()


def test_invalid_times_of_a_probe_mask_its_lfp(tmp_path, shared_data):
    lfp = {"path": "acquisition/probe_*_lfp/probe_*_lfp_data", "modality": "lfp"}
    paths = allen(tmp_path, shared_data)
    found = read(paths, "allen", lfp=lfp)["lfp"]

    # probeA is invalid from 11.0 to 11.5 s; LFP starts at 10 s with 1250 Hz
    np.testing.assert_array_equal(np.flatnonzero(~found.mask), np.arange(1250, 1875))
    assert found.channels["region"].tolist() == ["VISp", "CA1"]
    assert read(paths, "plain", lfp=lfp)["lfp"].mask is None


def test_stimuli_in_invalid_times_are_left_out(tmp_path, shared_data):
    gratings = {"path": "intervals/drifting_gratings_presentations", "modality": "trials"}
    shown = read(allen(tmp_path, shared_data), "allen", shown=gratings)["shown"]

    assert len(shown) == 19
    assert 12.0 not in shown.start  # shown from 12.0 to 12.5 s, spoiled at 12.2 s


def test_an_ellipse_has_its_centre_and_its_shape(tmp_path, shared_data):
    tracked = {"path": "acquisition/EyeTracking/pupil_tracking", "modality": "eye"}
    pupil = read(allen(tmp_path, shared_data), "allen", pupil=tracked)["pupil"]

    assert pupil.channels["name"].tolist() == ["x", "y", "area", "width", "height", "angle"]
    centre = cursor(shared_data, 300)
    np.testing.assert_allclose(pupil.values[:, :3], np.c_[centre, np.abs(centre[:, 0])])
    assert set(pupil.values[:, 5]) == {0.25}


def test_a_session_without_eye_tracking_is_read_all_the_same(tmp_path, shared_data):
    gaze = {"path": "processing/filtered_gaze_mapping/screen_coordinates", "modality": "eye"}
    paths = allen(tmp_path, shared_data)
    assert list(read(paths, "allen", spikes=UNITS, gaze=gaze | {"optional": True})) == ["spikes"]
    with pytest.raises(DataError, match="filtered_gaze_mapping"):
        read(paths, "allen", gaze=gaze)
