from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from neurofmx.data import store
from neurofmx.data.cards import Card
from neurofmx.data.checks import CHECKS, KEYS, data_docs, validate
from neurofmx.data.tables import COLUMNS, joined, summarise
from neurofmx.types import Events, Intervals, Recording, Samples

CARD = Card.model_validate(
    {
        "name": "small",
        "title": "two recordings",
        "licence": "CC0",
        "source": {"kind": "synthetic"},
        "signals": {
            "lfp": {"path": "lfp", "modality": "lfp"},
            "spikes": {"path": "units", "modality": "spikes"},
            "counts": {"path": "counts", "modality": "binned_counts"},
            "place": {"path": "place", "modality": "behavior"},
            "trials": {"path": "trials", "modality": "trials"},
        },
        "tasks": {"where": {"kind": "regression", "signal": "place"}},
    }
)


def good(recording="good"):
    """120 s of everything, with nothing to object to."""
    rng = np.random.default_rng(0)
    spikes = np.sort(rng.choice(np.arange(1, 24000), 900, replace=False) * 5e-3)
    units = pd.DataFrame({"id": [7, 8, 9]})
    start = np.arange(10.0) * 10.0
    signals = {
        "lfp": Samples(rng.normal(size=(30000, 2)), "V", 250.0, modality="lfp"),
        "spikes": Events(spikes, np.arange(900) % 3, units),
        "counts": Samples(
            rng.poisson(1.0, (1200, 4)).astype(np.uint8), "count", 10.0, modality="binned_counts"
        ),
        "place": Samples(rng.normal(size=(3600, 2)), "m", times=np.arange(3600) / 30.0),
        "trials": Intervals(start, start + 5.0, pd.DataFrame({"cue": ["left", "right"] * 5})),
    }
    return Recording(recording, "s1", "Mus musculus", "small", signals)


def changed(signal, **fields):
    def change(recording):
        signals = recording.signals
        return replace(recording, signals=signals | {signal: replace(signals[signal], **fields)})

    return change


def with_nan(signal, share):
    def change(recording):
        values = recording.signals[signal].values.copy()
        values[: round(share * len(values))] = np.nan
        return changed(signal, values=values)(recording)

    return change


def at(signal, field, place, value):
    def change(recording):
        array = np.array(getattr(recording.signals[signal], field))
        array[place] = value
        return changed(signal, **{field: array})(recording)

    return change


def fast_pairs(recording):
    times = np.sort(np.concatenate([np.arange(450) * 0.25 + 0.1, np.arange(450) * 0.25 + 0.101]))
    return changed("spikes", times=times, index=np.repeat(np.arange(450) % 3, 2))(recording)


def clipped(recording):
    values = np.clip(recording.signals["lfp"].values, -1.0, 1.0)
    return changed("lfp", values=values)(recording)


def slow(recording):
    values = recording.signals["lfp"].values[:12000]
    return changed("lfp", values=values, rate=100.0)(recording)


def drifted(recording):
    """Of three units only one is left in the second minute."""
    spikes = recording.signals["spikes"]
    return changed("spikes", index=np.where(spikes.times > 60.0, 0, spikes.index))(recording)


NONE = np.zeros(0)
# Fault → the check that finds it, and it alone.
FAULTS = {
    "times_ascend": at("place", "times", 100, 0.0),
    "times_are_numbers": at("place", "times", 100, np.nan),
    "input_nan": with_nan("lfp", 0.05),
    "spikes_inside": at("spikes", "times", -1, 120.0),
    "unique_unit": changed("spikes", units=pd.DataFrame({"id": [7, 8, 8]})),
    "start_before_stop": at("trials", "stop", 3, 29.0),
    "intervals_are_numbers": at("trials", "stop", 3, np.nan),
    "active_unit": changed("counts", values=np.zeros((1200, 4), np.uint8)),
    "not_empty": changed("place", values=np.zeros((0, 2)), times=NONE),
    "unique_recording": lambda recording: replace(recording, id="good"),
    "times_differ": at("place", "times", 100, 99 / 30.0),
    "other_nan": with_nan("place", 0.05),
    "saturation": clipped,
    "usual_rate_lfp": slow,
    "refractory": fast_pairs,
    "presence": drifted,
}


def summary(recording, folder, name=None):
    path = folder / f"{name or recording.id}.zarr"
    store.write(recording, path, "key")
    return summarise(path, CARD)


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    """What is found in one good recording and one recording for each fault, together."""
    folder = tmp_path_factory.mktemp("validate")
    parts = [summary(good(), folder)]
    parts += [summary(change(good(check)), folder, check) for check, change in FAULTS.items()]
    return folder, validate(joined(parts), folder)


@pytest.mark.parametrize("check", FAULTS)
def test_each_fault_is_found_by_its_check_and_by_no_other(findings, check):
    found = [finding for finding in findings[1] if finding.recording == check]

    assert {finding.check for finding in found} == {check}
    assert {finding.severity for finding in found} == {CHECKS[check].severity}
    assert all(f"needed: {CHECKS[check].needed}" in finding.reason for finding in found)


def test_a_good_recording_has_only_to_share_its_id(findings):
    assert {f.check for f in findings[1] if f.recording == "good"} == {"unique_recording"}


def test_every_check_but_the_inspectors_was_seen_to_fail(findings):
    usual = {name for name in CHECKS if name.startswith("usual_rate_")}

    assert set(CHECKS) - usual - set(FAULTS) == {"inspector", "inspector_metadata"}


def test_a_reason_says_what_it_was_and_what_was_needed(findings):
    reasons = {finding.check: finding.reason for finding in findings[1]}

    assert reasons["input_nan"].startswith("signal lfp: nan_fraction is 0.05; needed: at most 0.01")
    assert reasons["spikes_inside"].startswith("signal spikes, unit 9: n_outside is 1; needed: 0")
    assert reasons["unique_unit"].startswith("signal spikes, unit 8; needed: an id of its own")


def test_data_docs_are_pages(findings):
    folder, _ = findings

    assert "<html" in data_docs(folder).read_text()
    pages = [page.name for page in data_docs(folder).parent.glob("validations/**/*.html")]
    assert sorted(pages) == sorted(f"tables-{table}.html" for table in KEYS)


def test_the_checks_name_columns_that_the_tables_have():
    for name, check in CHECKS.items():
        columns = check.settings.get("column_list") or [check.settings["column"]]
        assert set(columns) <= set(COLUMNS[check.table]), name


def test_summary_of_a_recording_worked_out_by_hand(tmp_path):
    spikes = Events(
        np.array([0.0, 0.001, 1.0, 61.0]), np.array([0, 0, 1, 0]), pd.DataFrame({"id": [4, 5, 6]})
    )
    flat = np.array([[0.0, 5.0], [1.0, 5.0], [1.0, 5.0], [np.nan, 5.0]])
    lfp = Samples(flat, "V", 0.04, modality="lfp")
    recording = Recording("r", "s", "Mus musculus", "small", {"spikes": spikes, "lfp": lfp})

    tables = summary(recording, tmp_path)

    units = tables["units"].set_index("unit")
    assert units["n_spikes"].to_dict() == {"4": 3, "5": 1, "6": 0}
    assert units["violations"].to_dict() == {"4": 0.5, "5": 0.0, "6": 0.0}
    assert units["presence"].to_dict() == {"4": 1.0, "5": 0.5, "6": 0.0}
    row = tables["signals"].set_index("signal").loc["lfp"]
    assert row["nan_fraction"] == 1 / 8
    assert row["saturation"] == pytest.approx(7 / 8)  # 1 repeat of x = 1; the flat channel twice 3
    whole = tables["recordings"].iloc[0]
    assert (whole["start"], whole["stop"], whole["n_units"]) == (0.0, 100.0, 3)


def test_summaries_do_not_depend_on_the_size_of_blocks(tmp_path, monkeypatch):
    whole = summary(clipped(good()), tmp_path)
    monkeypatch.setattr(store, "BLOCK_BYTES", 40_000)
    blocks = summary(clipped(good()), tmp_path)

    for name, table in whole.items():
        columns = [c for c in table if c != "saturation"]
        pd.testing.assert_frame_equal(table[columns], blocks[name][columns])
    np.testing.assert_allclose(
        whole["signals"]["saturation"], blocks["signals"]["saturation"], atol=0.01
    )


def test_a_recording_that_inspector_cannot_read_is_blocked(tmp_path):
    source = tmp_path / "broken.nwb"
    source.write_bytes(b"\x89HDF\r\n\x1a\n cut off")
    path = tmp_path / "good.zarr"
    store.write(good(), path, "key")

    found = validate(summarise(path, CARD, source), tmp_path)

    assert [(f.check, f.severity) for f in found] == [("inspector", "critical")]
    assert str(tmp_path) not in found[0].reason


def test_inspector_tells_structure_from_metadata_in_a_real_file(shared_data, tmp_path):
    path = tmp_path / "good.zarr"
    store.write(good(), path, "key")

    source = shared_data / "m1_contdata95" / "contdata95-dev.nwb"
    messages = summarise(path, CARD, source)["inspector"]

    assert "blocking" not in set(messages["level"])
    serious = set(messages.loc[messages["level"] == "serious", "check"])
    assert serious == {"check_subject_age", "check_units_table_has_spikes"}
