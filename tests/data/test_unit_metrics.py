from contextlib import closing
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from pynwb import NWBFile
from scipy.stats import norm

from neurofmx.data.nwb_write import write_nwb
from neurofmx.data.readers.nwb import open_nwb
from neurofmx.data.signal_cards import SignalCard
from neurofmx.data.unit_metrics import (
    amplitude_cutoff,
    contamination,
    isi_violations,
    presence,
    unit_rows,
)
from neurofmx.types import Events


def test_violations_and_contamination_of_a_hand_worked_train():
    # 6 spikes in 100 s; 3 intervals below 1.5 ms, and one pair that spans two of them.
    times = np.array([1.0, 1.001, 2.0, 2.0007, 2.0014, 50.0])

    assert isi_violations(times, 100.0) == pytest.approx(3 * 100 / (2 * 6**2 * 1.5e-3))
    assert contamination(times, 1e-3) == pytest.approx(1 - np.sqrt(1 - 4 * 1e-3 / (36 * 1.5e-3)))
    assert contamination(times, 100.0) == 1.0


def test_contamination_of_a_planted_mixture_is_found():
    """A neuron that keeps its refractory period, and a fifth of the spikes from elsewhere."""
    rng = np.random.default_rng(0)
    own = np.cumsum(3e-3 + rng.exponential(0.1 - 3e-3, 80_000))
    others = rng.uniform(0, own[-1], 20_000)
    times = np.sort(np.concatenate([own, others]))

    assert contamination(own, own[-1]) == 0.0
    assert contamination(times, own[-1]) == pytest.approx(0.2, abs=0.02)


def test_presence_counts_whole_minutes_with_a_spike():
    times = np.array([0.5, 61.0, 62.0, 185.0])

    assert presence(times, 0.0, 200.0) == 2 / 3  # the last 20 s are no minute
    assert presence(times, 0.0, 240.0) == 3 / 4
    assert np.isnan(presence(times, 0.0, 59.0))


@pytest.mark.parametrize("lost", [0.02, 0.1, 0.25])
def test_planted_cutoff_of_amplitudes_is_found(lost):
    amplitudes = np.random.default_rng(1).normal(10.0, 2.0, 100_000)
    seen = amplitudes[amplitudes > 10.0 + 2.0 * norm.ppf(lost)]

    assert amplitude_cutoff(seen) == pytest.approx(lost / (1 - lost), abs=0.02)
    assert amplitude_cutoff(amplitudes) < 0.002
    assert np.isnan(amplitude_cutoff(seen[:2000]))


def test_amplitudes_of_a_file_become_cutoffs(tmp_path):
    amplitudes = np.random.default_rng(2).normal(10.0, 2.0, 20_000)
    clipped = amplitudes[amplitudes > 10.0 + 2.0 * norm.ppf(0.2)]
    start = datetime(2024, 1, 1, tzinfo=UTC)
    nwb = NWBFile("two units", "two-units", start, file_create_date=start)
    nwb.add_unit_column("spike_amplitudes", "of each spike (V)", index=True)
    for sizes in (-amplitudes, -clipped):
        nwb.add_unit(spike_times=np.arange(len(sizes)) * 0.01, spike_amplitudes=sizes * 1e-5)
    write_nwb(nwb, tmp_path / "two.nwb")

    with closing(open_nwb(tmp_path / "two.nwb")) as contents:
        units = contents.read("units", SignalCard(path="units", modality="spikes")).units

    assert units["amplitude_cutoff"].tolist() == pytest.approx([0.0, 0.25], abs=0.03)


def test_rows_of_units_by_hand():
    table = pd.DataFrame({"id": [4, 5, 6], "isi_violations": [0.1, np.nan, 0.3]})
    spikes = Events(np.array([0.0, 0.001, 1.0, 61.0, 500.0]), np.array([0, 0, 1, 0, 1]), table)

    rows = pd.DataFrame(unit_rows(spikes, (0.0, 120.0), (-1.0, 121.0))).set_index("unit")

    assert rows["n_spikes"].to_dict() == {"4": 3, "5": 2, "6": 0}
    assert rows["rate"].to_dict() == pytest.approx({"4": 0.025, "5": 1 / 60, "6": 0.0})
    assert rows["presence"].to_dict() == {"4": 1.0, "5": 0.5, "6": 0.0}
    assert rows["n_outside"].to_dict() == {"4": 0, "5": 1, "6": 0}
    assert rows["isi_violations"].loc["4"] == pytest.approx(120 / (2 * 9 * 1.5e-3))
    assert np.isnan(rows["isi_violations"].loc["6"])
    assert rows["file_isi_violations"].loc[["4", "6"]].tolist() == [0.1, 0.3]
    assert rows["amplitude_cutoff"].isna().all()
