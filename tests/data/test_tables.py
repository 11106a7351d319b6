import shutil

import dask
import numpy as np
import pandas as pd
import pytest
from faults import CARD, SYNC, clip, good, scaled, summary, value

from neurofmx.data import signal_metrics, store
from neurofmx.data.arrays import Scaled
from neurofmx.data.checks import checks_of
from neurofmx.data.expectations import validate
from neurofmx.data.inspection import inspector_rows
from neurofmx.data.tables import summarise
from neurofmx.errors import DataError
from neurofmx.types import Events, Recording, Samples


def only(**signals):
    return Recording("r", "s", "Mus musculus", "small", signals)


def stream(signal, name="lfp"):
    return summary(only(**{name: signal}))["streams"].iloc[0]


def test_summary_of_a_recording_worked_out_by_hand():
    spikes = Events(
        np.array([0.0, 0.001, 1.0, 61.0]), np.array([0, 0, 1, 0]), pd.DataFrame({"id": [4, 5, 6]})
    )
    values = np.array([[0.0, 5.0], [1.0, 5.0], [1.0, 5.0], [np.nan, 5.0]])
    lfp = Samples(values, "V", 0.04, modality="lfp")

    tables = summary(only(spikes=spikes, lfp=lfp))

    units = tables["units"].set_index("unit")
    assert units["presence"].to_dict() == {"4": 1.0, "5": 1.0, "6": 0.0}  # one whole minute
    row = tables["streams"].set_index("signal").loc["lfp"]
    assert row["nan_fraction"] == 1 / 8
    assert (row["n_flat"], row["flat_channels"], row["n_dead"]) == (1, "1", 0)
    assert row["saturation"] == 1 / 4  # of the channel that moves
    whole = tables["recordings"].iloc[0]
    assert (whole["start"], whole["stop"], whole["n_units"]) == (0.0, 100.0, 3)


def test_alignment_tells_the_planted_clock():
    row = summary(good())["alignment"].iloc[0]

    assert row["clock"] == "camera"
    assert row["drift"] == pytest.approx(50.0, abs=0.01)
    assert row["offset"] == pytest.approx(3.0, abs=1e-3)
    assert (row["n_events"], row["matched"], row["pieces"]) == (len(SYNC), 1.0, 1)
    assert row["residual"] < 1e-9


def test_a_clock_without_its_pulses_says_so():
    signals = {name: s for name, s in good().signals.items() if name != "camera_sync"}

    row = summary(only(**signals))["alignment"].iloc[0]

    assert (row["n_events"], row["problem"]) == (0, "there is no signal camera_sync")


def test_frames_have_their_rate_and_drops_told_apart():
    kept = np.delete(np.arange(3600), np.arange(50, 3600, 100))
    row = stream(Samples(np.zeros((len(kept), 1)), "m", times=kept / 30.0), "place")

    assert row["dropped"] == pytest.approx(36 / 3600, abs=1e-4)
    assert row["rate"] == pytest.approx(30.0, rel=1e-6)


def test_spikes_may_lie_beyond_behaviour_but_not_anywhere():
    place = Samples(np.zeros((1000, 1)), "m", 10.0, t0=100.0)
    spikes = Events(np.array([30.0, 150.0, 4e6]), np.zeros(3, int), pd.DataFrame({"id": [1]}))

    units = summary(only(place=place, spikes=spikes))["units"]

    assert units["n_outside"].tolist() == [1]


def test_masked_samples_are_not_judged():
    values = np.random.default_rng(0).normal(size=(5000, 2))
    mask = np.arange(5000) >= 2000
    values[~mask] = np.nan

    row = stream(Samples(values, "V", 250.0, mask=mask, modality="lfp"))

    assert (row["nan_fraction"], row["saturation"], row["n_flat"]) == (0.0, 0.0, 0.0)


def test_packed_integers_are_judged_as_they_are_stored(monkeypatch):
    stored = np.random.default_rng(0).integers(-200, 200, (5000, 3)).astype(np.int16)
    stored[:, 1] = 5
    monkeypatch.setattr(Scaled, "convert", None)

    row = stream(Samples(Scaled(stored, 2e-7, 1e-3), "V", 250.0, modality="lfp"))

    assert (row["n_flat"], row["flat_channels"], row["nan_fraction"]) == (1, "1", 0.0)


def test_many_odd_channels_are_counted_and_the_first_named():
    values = np.zeros((2000, 14))

    row = stream(Samples(values, "V", 250.0, modality="lfp"))

    assert row["n_flat"] == 14
    assert row["flat_channels"] == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, and 4 more"


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_summaries_depend_neither_on_blocks_nor_on_workers(tmp_path, monkeypatch, dtype):
    recording = value("lfp", clip)(scaled("lfp", 1, 0.01)(good()))
    lfp = recording.signals["lfp"]
    values = (lfp.values * 1000).astype(dtype)
    signals = recording.signals | {"lfp": Samples(values, "V", lfp.rate, modality="lfp")}
    store.write(only(**signals), tmp_path / "r.zarr", "key")
    stored = store.read(tmp_path / "r.zarr")
    whole = summarise("r", stored, CARD)

    monkeypatch.setattr(signal_metrics, "BLOCK_BYTES", 20_000)
    with dask.config.set(scheduler="threads", num_workers=3):
        blocks = summarise("r", stored, CARD)

    assert whole["streams"].set_index("signal")["saturation"]["lfp"] > 0.003
    for name, table in whole.items():
        pd.testing.assert_frame_equal(table, blocks[name], rtol=1e-9)


def test_a_damaged_store_is_a_data_error(tmp_path):
    path = tmp_path / "good.zarr"
    store.write(good(), path, "key")
    chunk = next(p for p in (path / "lfp" / "values" / "c").rglob("*") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-1000])

    with pytest.raises(DataError, match="damaged"):
        summarise("good", store.read(path), CARD)


def test_a_recording_that_inspector_cannot_read_is_blocked(tmp_path):
    source = tmp_path / "broken.nwb"
    source.write_bytes(b"\x89HDF\r\n\x1a\n cut off")

    found = validate(summarise("good", good(), CARD, [source]), checks_of({}), tmp_path)

    assert [(f.check, f.severity) for f in found] == [("inspector", "critical")]
    assert found[0].reason.startswith("file broken.nwb, ")
    assert str(tmp_path) not in found[0].reason


def test_inspector_tells_structure_from_metadata_in_a_real_file(shared_data, tmp_path):
    shutil.copy(shared_data / "m1_contdata95" / "contdata95-dev.nwb", tmp_path / "m1.nwb")

    messages = pd.DataFrame(inspector_rows(tmp_path / "m1.nwb"))

    assert set(messages["file"]) == {"m1.nwb"}
    assert "blocking" not in set(messages["level"])
    serious = set(messages.loc[messages["level"] == "serious", "check"])
    assert serious == {"check_subject_age", "check_units_table_has_spikes"}
