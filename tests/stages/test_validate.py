import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from neurofmx.data import store
from neurofmx.data.cards import load_card
from neurofmx.data.expectations import Finding
from neurofmx.data.manifests import resolve, save_manifest
from neurofmx.errors import DataError, UserError
from neurofmx.stages import base, ingest, validate

SIGNALS = {
    "spikes": {"path": "units", "modality": "spikes"},
    "lfp": {"path": "processing/ecephys/LFP/lfp", "modality": "lfp"},
    "trials": {"path": "intervals/trials", "modality": "trials"},
}
GOOD, OTHER = "synthetic-1-1", "synthetic-2-1"
TABLES = ("recordings", "units", "streams", "trials", "alignment", "inspector")


@pytest.fixture
def project(tmp_path, monkeypatch, small_synthetic) -> Path:
    """A project with two ingested recordings."""
    monkeypatch.chdir(tmp_path)
    Path("recordings").mkdir()
    for path in small_synthetic.glob("*.nwb"):
        shutil.copy(path, "recordings")
    write_card()
    ingest.run(ingest.Params(dataset="x", workers=1))
    return tmp_path


def write_card(**changes):
    source = {"kind": "local", "path": "recordings"}
    card = {"name": "x", "title": "x", "licence": "CC0", "signals": SIGNALS, "tasks": {}}
    Path("datasets").mkdir(exist_ok=True)
    Path("datasets/x.yaml").write_text(yaml.safe_dump(card | {"source": source} | changes))
    save_manifest(resolve(load_card("x")))


def run(**params):
    validate.run(validate.Params(dataset="x", workers=1, **params))
    return base.read_manifest("validate")


def read(name):
    return json.loads(Path("storage/validate", name).read_text())


def reverse_trial(recording):
    """Make trial 2 of an ingested recording stop before it starts, under the same key."""
    path = Path("storage/ingest", f"{recording}.zarr")
    found, key = store.read(path), store.read_key(path)
    trials = found.signals["trials"]
    stop = np.where(np.arange(len(trials)) == 2, trials.start - 1.0, trials.stop)
    lfp = replace(found.signals["lfp"], values=found.signals["lfp"].values[:])
    signals = found.signals | {"trials": replace(trials, stop=stop), "lfp": lfp}
    store.write(replace(found, signals=signals), path, key)


def test_what_passes_goes_on_under_its_key_and_equal_runs_write_equal_bytes(project):
    manifest = run()
    first = {path: path.read_bytes() for path in Path("storage/validate").glob("*.*")}
    again = run()

    assert manifest["outputs"] == base.read_manifest("ingest")["outputs"]
    assert manifest == again
    assert manifest["quarantined"] == {}
    assert read("quarantine.json") == {}
    assert {f"{table}.parquet" for table in TABLES} <= {path.name for path in first}
    for path, content in first.items():
        if path.name not in base.MEASUREMENTS:
            assert path.read_bytes() == content, path


def test_one_bad_recording_is_quarantined_with_its_reason_and_the_other_goes_on(project):
    reverse_trial(OTHER)

    manifest = run(inspector=False)

    assert list(manifest["outputs"]) == [GOOD]
    reason = "start_before_stop: signal trials: n_reversed is 1; needed: 0 intervals that stop"
    assert read("quarantine.json")[OTHER][0].startswith(reason)
    assert manifest["quarantined"][OTHER].startswith(reason)
    status = pd.read_parquet("storage/validate/status.parquet").set_index("recording")
    assert status["outcome"].to_dict() == {GOOD: "done", OTHER: "quarantined"}
    assert len(pd.read_parquet("storage/validate/inspector.parquet")) == 0


def test_nothing_that_passes_is_a_failure_whatever_is_allowed(project):
    reverse_trial(GOOD)
    reverse_trial(OTHER)

    with pytest.raises(DataError, match="2 of 2 recordings are in quarantine"):
        run(inspector=False, max_quarantined=1.0)


def test_what_ingest_turned_away_is_listed_and_counts(project):
    Path("recordings/broken.nwb").write_bytes(b"no HDF5")
    save_manifest(resolve(load_card("x")))
    ingest.run(ingest.Params(dataset="x", workers=1))

    with pytest.raises(DataError, match=r"1 of 3 recordings (.|\n)*ingest .*: broken: broken.nwb"):
        run(inspector=False, max_quarantined=0.3)

    assert read("quarantine.json")["broken"][0].startswith("ingest: broken.nwb: not an HDF5 file")
    assert not Path("storage/validate/manifest.json").exists()


def test_a_source_that_lies_elsewhere_is_not_inspected(project):
    Path("recordings", f"{OTHER}.nwb").unlink()

    assert set(run()["outputs"]) == {GOOD, OTHER}
    assert set(pd.read_parquet("storage/validate/inspector.parquet")["recording"]) == {GOOD}


def test_a_store_that_cannot_be_read_is_quarantined_and_the_other_goes_on(project, capsys):
    values = Path("storage/ingest", f"{OTHER}.zarr", "lfp", "values", "c")
    chunk = next(path for path in values.rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-1000])

    manifest = run(inspector=False)

    assert list(manifest["outputs"]) == [GOOD]
    assert read("quarantine.json")[OTHER][0].startswith("unreadable: ")
    assert set(pd.read_parquet("storage/validate/recordings.parquet")["recording"]) == {GOOD}
    lines = capsys.readouterr().out
    assert f"{GOOD}  summarised" in lines
    assert f"{OTHER}  unreadable: " in lines


def test_thresholds_of_the_card_hold(project):
    checks = yaml.safe_load("{good_units: {min: 7}, presence: {severity: off}}")
    write_card(checks=checks)

    with pytest.raises(DataError, match="n_good_units is 6; needed: at least 7 units that pass"):
        run(inspector=False)


def test_an_unknown_check_in_the_card_is_refused_before_any_work(project):
    write_card(checks={"sturation": {"max": 0.1}})

    with pytest.raises(UserError, match=r"checks.sturation .* did you mean 'saturation'\?"):
        run(inspector=False)
    assert not Path("storage/validate/recordings.parquet").exists()


def test_of_many_units_with_one_fault_the_first_are_named():
    found = [Finding("r", "presence", "warning", f"unit {k}") for k in range(8)]

    reasons = validate._reasons(found, "warning")

    assert reasons["r"][:2] == ["presence: unit 0", "presence: unit 1"]
    assert reasons["r"][validate.NAMED :] == ["presence: and 3 more"]


def test_validate_before_ingest_says_what_to_run(tmp_path, monkeypatch, project):
    shutil.rmtree("storage")

    with pytest.raises(UserError, match="run `neurofmx ingest`"):
        run()
