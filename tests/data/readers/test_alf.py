import numpy as np
import pytest
from alf import CLUSTERS, SPIKES, real_trials, write_session

from neurofmx.data.readers.alf import Alf, is_alf, open_alf, session_of
from neurofmx.data.signal_cards import SignalCard
from neurofmx.errors import DataError

SPIKES_PATH = "alf/probe00/pykilosort/spikes"


@pytest.fixture
def folder(tmp_path, shared_data):
    return write_session(tmp_path, real_trials(shared_data))


@pytest.fixture
def session(folder) -> Alf:
    return opened(folder)


def opened(folder) -> Alf:
    return open_alf([path for path in folder.rglob("*") if path.is_file()])


def read(session, path, modality):
    return session.read(path, SignalCard(path=path, modality=modality))


def test_the_contents_of_a_session(session):
    assert {path: session.guess(path) for path in session.kinds} == {
        "alf/leftCamera.dlc": "pose",
        "alf/licks": "pulses",
        SPIKES_PATH: "spikes",
        "alf/trials": "trials",
        "alf/wheel.position": "behavior",
    }
    assert session.about.subject == "CSHL046"


def test_spikes_with_the_quality_and_region_of_every_cluster(session):
    spikes = read(session, SPIKES_PATH, "spikes")

    np.testing.assert_array_equal(spikes.times, SPIKES)
    np.testing.assert_array_equal(spikes.index, CLUSTERS)
    assert spikes.units["id"].tolist() == [0, 1, 2, 3]  # the silent ones too
    assert spikes.units["location_id"].tolist() == [672, 385, 672, 672]
    np.testing.assert_array_equal(spikes.units["label"], [1.0, np.nan, 0.5, 0.0])


def test_trials_are_those_of_the_table(session, shared_data):
    trials, real = read(session, "alf/trials", "trials"), real_trials(shared_data)

    np.testing.assert_array_equal(trials.start, real["stimOn_times"])
    np.testing.assert_array_equal(trials.stop, real["feedback_times"] + 1.0)
    np.testing.assert_array_equal(trials.columns["choice"], real["choice"])


def test_trials_in_a_file_for_each_column(folder, shared_data):
    real = real_trials(shared_data)
    (folder / "alf/_ibl_trials.table.pqt").unlink()
    intervals = real[["intervals_0", "intervals_1"]].to_numpy()
    np.save(folder / "alf/_ibl_trials.intervals.npy", intervals)
    np.save(folder / "alf/_ibl_trials.choice.npy", real["choice"].to_numpy())
    trials = read(opened(folder), "alf/trials", "trials")

    np.testing.assert_array_equal(trials.start, real["stimOn_times"])
    np.testing.assert_array_equal(trials.columns["choice"], real["choice"])


def test_timestamps_of_a_few_samples_are_joined_by_lines(session):
    wheel = read(session, "alf/wheel.position", "behavior")

    assert (wheel.rate, wheel.t0, wheel.unit) == (2.0, 1.0, "rad")
    np.testing.assert_array_equal(wheel.values[:], [[0.0], [0.1], [0.2], [0.3], [0.4]])


def test_points_that_the_tracker_was_not_sure_of_are_missing(session):
    pose = read(session, "alf/leftCamera.dlc", "pose")

    np.testing.assert_array_equal(pose.values[:], [[1, 4], [np.nan, np.nan], [3, 6]])
    np.testing.assert_array_equal(pose.times, [0.0, 0.02, 0.05])
    assert pose.channels["label"].tolist() == ["paw_l_x", "paw_l_y"]


def test_licks_are_pulses(session):
    np.testing.assert_array_equal(read(session, "alf/licks", "pulses").times, [1.0, 2.0, 4.0])


def test_the_last_revision_counts(folder):
    later = folder / "alf/probe00/pykilosort/#2024-05-06#"
    later.mkdir()
    np.save(later / "spikes.times.npy", SPIKES + 1)

    np.testing.assert_array_equal(read(opened(folder), SPIKES_PATH, "spikes").times, SPIKES + 1)


def test_files_that_do_not_fit_each_other_are_refused(folder):
    np.save(folder / "alf/probe00/pykilosort/spikes.clusters.npy", CLUSTERS[:3])
    np.save(folder / "alf/_ibl_leftCamera.times.npy", np.arange(4.0))
    session = opened(folder)
    with pytest.raises(DataError, match="5 spike times but 3 clusters"):
        read(session, SPIKES_PATH, "spikes")
    with pytest.raises(DataError, match="3 samples but 4 times"):
        read(session, "alf/leftCamera.dlc", "pose")
    with pytest.raises(DataError, match="holds samples, which are no spikes"):
        read(session, "alf/wheel.position", "spikes")


def test_python_objects_are_never_unpickled(folder):
    path = folder / "alf/licks.times.npy"
    np.save(path, np.array([{}, None], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"licks\.times\.npy cannot be read"):
        read(opened(folder), "alf/licks", "pulses")


def test_the_id_of_a_session(folder):
    path = folder / "alf/probe00/pykilosort/spikes.times.npy"

    assert session_of(path.as_posix()) == "CSHL046_2020-06-20_002"
    assert is_alf(path)
    assert not is_alf(path.with_suffix(".nwb"))
    assert not is_alf(path.parents[6] / "spikes.times.npy")
    with pytest.raises(DataError, match="lies in no session"):
        session_of("alf/spikes.times.npy")
