import numpy as np
import pandas as pd
import pytest

from neurofmx.data import store
from neurofmx.data.align import align
from neurofmx.data.cards import load_card
from neurofmx.data.reading import read_recording
from neurofmx.interpretability import planted
from neurofmx.types import Events


def split(x):
    return {"train": x[:600], "valid": x[600:800], "test": x[800:]}


def test_a_linear_mixture_is_undone_and_noise_is_not():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1000, 3))
    mixed = z @ rng.normal(size=(3, 12)) + 0.05 * rng.normal(size=(1000, 12))
    noise = rng.normal(size=(1000, 12))

    assert (planted.linear_map(split(mixed), split(z))[0] > 0.98).all()
    assert (planted.linear_map(split(noise), split(z))[0] < 0.05).all()


def test_smoothed_counts_are_rates():
    times = np.arange(0, 60, 0.1)  # 10 spikes per second
    spikes = Events(times, np.zeros(600, int), pd.DataFrame({"id": [0]}))
    rate = planted.smoothed_counts(spikes, {"train": np.array([20.0, 30.0, 40.0])}, 0.5)
    np.testing.assert_allclose(rate["train"], 10.0, rtol=0.02)


def test_the_camera_of_a_synthetic_recording_is_found_to_one_ppm(small_synthetic, tmp_path):
    card = load_card("demo")
    path = sorted(small_synthetic.glob("*.nwb"))[0]
    with read_recording(path.stem, [path], card) as recording:
        store.write(align(recording, card), tmp_path / "a.zarr", "key")
    truth = planted.read_truth(small_synthetic / "truth" / f"{path.stem}.npz")
    errors = planted.clock_errors(store.read(tmp_path / "a.zarr"), truth)

    assert errors["planted"].tolist() == [80.0]
    # Jitter of 50 µs over 30 s of pulses leaves a few ppm; the demo's 300 s leave 0.1.
    assert abs(errors["error_ppm"][0]) < 5.0
    assert errors["error_ppm"][0] == pytest.approx(errors["fitted"][0] - 80.0)
