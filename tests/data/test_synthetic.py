import h5py
import numpy as np
import pytest
from conftest import SMALL
from reads import opened

from neurofmx.data import synthetic
from neurofmx.data.sources.synthetic import SyntheticSource
from neurofmx.signal.clocks import fit_clock

SIGNALS = {
    "spikes": {"path": "units", "modality": "spikes"},
    "hand_vel": {"path": "processing/behavior/hand_vel", "modality": "behavior"},
    "lfp": {"path": "processing/ecephys/LFP/lfp", "modality": "lfp"},
    "pose": {"path": "processing/behavior/pose/hand", "modality": "pose"},
    "trials": {"path": "intervals/trials", "modality": "trials"},
    "sync": {"path": "acquisition/sync", "modality": "pulses"},
    "camera_sync": {"path": "acquisition/camera_sync", "modality": "pulses"},
}


@pytest.fixture(scope="module")
def planted(small_synthetic):
    """A recording as it is read, and its truth."""
    with opened(small_synthetic / "synthetic-1-1.nwb", **SIGNALS) as recording:
        yield recording, np.load(small_synthetic / "truth" / "synthetic-1-1.npz")


def test_equal_settings_and_seed_give_equal_bytes(small_synthetic, tmp_path):
    again, truth = tmp_path / "synthetic-2-1.nwb", tmp_path / "synthetic-2-1.npz"
    synthetic.write_recording(SMALL, again.stem, f"test-{again.stem}", again, truth)

    assert again.read_bytes() == (small_synthetic / again.name).read_bytes()
    assert truth.read_bytes() == (small_synthetic / "truth" / truth.name).read_bytes()


def test_another_seed_gives_other_spikes(small_synthetic, tmp_path):
    path = tmp_path / "synthetic-1-1.nwb"
    other = SMALL.model_copy(update={"seed": 1})
    synthetic.write_recording(other, path.stem, "other", path, tmp_path / "truth.npz")

    with h5py.File(path) as new, h5py.File(small_synthetic / path.name) as old:
        times = [file["units/spike_times"][:10] for file in (new, old)]
        assert not np.array_equal(*times)


def test_recordings_of_a_subject_share_tuning_and_subjects_do_not(tmp_path):
    source = SyntheticSource(subjects=2, recordings=2, units=4, duration=10.0)
    tuning = {}
    for recording, who in synthetic.recordings(source).items():
        truth = tmp_path / f"{recording}.npz"
        synthetic.write_recording(source, recording, "x", tmp_path / "one.nwb", truth)
        tuning[who] = np.load(truth)["tuning"]

    np.testing.assert_array_equal(tuning[1, 1], tuning[1, 2])
    assert not np.allclose(tuning[1, 1], tuning[2, 1])


def test_spike_counts_follow_the_planted_rates(planted):
    recording, truth = planted
    rates = np.exp(truth["base"] + truth["latents"] @ truth["tuning"].T)
    expected = rates.sum(axis=0) / synthetic.RATE
    counts = np.bincount(recording.signals["spikes"].index, minlength=SMALL.units)

    # Poisson: a count lies within 4 standard deviations of its expectation.
    assert np.all(np.abs(counts - expected) < 4 * np.sqrt(expected))


def test_velocity_is_linear_in_the_latents(planted):
    recording, truth = planted
    velocity = recording.signals["hand_vel"].values[:]
    map_, *_ = np.linalg.lstsq(truth["latents"], velocity, rcond=None)

    np.testing.assert_allclose(map_.T, synthetic.VELOCITY, atol=0.002)


def test_lfp_power_at_20_hz_follows_the_first_latent(planted):
    recording, truth = planted
    lfp = recording.signals["lfp"]
    t = lfp.clock
    volts = lfp.values[:][:, -1] * np.exp(-2j * np.pi * 20.0 * t)
    half = np.ones(50) / 50  # 0.2 s: mean of the demodulated trace is the rhythm's amplitude
    power = np.abs(np.convolve(volts, half, mode="same")) ** 2
    z = np.interp(t, truth["times"], truth["latents"][:, 0])

    assert lfp.unit == "V"
    assert np.corrcoef(np.log(power), z)[0, 1] > 0.5


def test_the_cue_moves_the_latents(planted):
    recording, truth = planted
    trials, z = recording.signals["trials"], truth["latents"][:, 2]
    middle = ((trials.start + trials.stop) / 2 * synthetic.RATE).astype(int)
    right = trials.columns["cue"].to_numpy() == "right"

    assert set(trials.columns["cue"]) == {"left", "right"}
    assert z[middle][right].mean() > z[middle][~right].mean()


def test_pulses_give_back_the_clock_of_the_camera(planted):
    recording, truth = planted
    device, reference = (recording.signals[name].times for name in ("camera_sync", "sync"))
    clock = fit_clock(device, reference)
    pose = recording.signals["pose"]

    # 50 µs of jitter over 30 s leave a few ppm of drift open.
    assert clock.drift == pytest.approx(float(truth["drift"]), abs=5.0)
    assert clock.offset == pytest.approx(float(truth["offset"]), abs=1e-4)
    assert pose.rate is None  # frames jitter
    assert clock(pose.times)[-1] == pytest.approx(30.0, abs=0.1)


def test_every_file_says_that_it_is_synthetic(small_synthetic):
    with h5py.File(small_synthetic / "synthetic-1-1.nwb") as file:
        texts = ["session_description", "general/subject/description", "general/notes"]
        assert all("synthetic" in file[text].asstr()[()] for text in texts)
        assert file["general/keywords"].asstr()[:].tolist() == ["synthetic"]
