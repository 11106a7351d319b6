"""Files laid out as those of FALCON M1, of a population that drives 16 muscles."""

from pathlib import Path

import numpy as np
from dialects.base import new_file, save, trials_of
from pynwb import TimeSeries
from pynwb.behavior import BehavioralTimeSeries

BIN, UNITS, MUSCLES = 0.02, 64, 16
DATES = ("20120924", "20120926", "20120927", "20120928")


def m1_file(folder: Path, part: str, date: str, n: int) -> Path:
    """A session of `n` bins; the first ten do not count."""
    rng = np.random.default_rng(int(date) + n)
    kernel = np.hanning(25)
    z = np.stack(
        [np.convolve(x, kernel / kernel.sum() * 5, "same") for x in rng.normal(size=(3, n))]
    )
    plan = np.random.default_rng(0)  # the same population every day
    into, out = plan.normal(size=(3, UNITS)), plan.normal(size=(3, MUSCLES))
    counts = rng.poisson(0.3 * np.exp(0.7 * z.T @ into).clip(0, 20))
    nwb, ends = new_file("MonkeyL"), BIN * (1.0 + np.arange(n))
    for unit in range(UNITS):
        bins = np.repeat(np.arange(n), counts[:, unit])
        nwb.add_unit(spike_times=BIN * np.sort(bins + rng.uniform(0.05, 0.95, len(bins))))
    box = BehavioralTimeSeries(name="preprocessed_emg")
    for muscle, trace in enumerate((z.T @ out).T):
        series = {"data": trace, "timestamps": ends, "unit": "mV"}
        box.add_timeseries(TimeSeries(name=f"{'DBAC'[muscle % 4]}{muscle}", **series))
    nwb.add_acquisition(box)
    mask = {"data": np.arange(n) >= 10, "timestamps": ends, "unit": "bool"}
    nwb.add_acquisition(TimeSeries(name="eval_mask", **mask))
    start = np.arange(max(1, n // 100)) * 2.0
    trials_of(nwb, {"tgt_loc": np.zeros(len(start))}, start, start + 2.0)
    name = f"sub-MonkeyL-held-in-{part}_ses-{date}_behavior+ecephys.nwb"
    return save(nwb, folder / name)
