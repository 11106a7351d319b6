import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from neurofmx.data import store
from neurofmx.data.cards import load_card
from neurofmx.data.manifests import resolve, save_manifest
from neurofmx.errors import DataError, TransientError, UserError
from neurofmx.stages import base, ingest

SIGNALS = {
    "spikes": {"path": "units", "modality": "spikes"},
    "lfp": {"path": "processing/ecephys/LFP/lfp", "modality": "lfp"},
    "trials": {"path": "intervals/trials", "modality": "trials"},
}


@pytest.fixture
def project(tmp_path, monkeypatch, small_synthetic) -> Path:
    """A project with a card `x` of two recordings in `recordings/`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recordings").mkdir()
    for path in small_synthetic.glob("*.nwb"):
        shutil.copy(path, tmp_path / "recordings")
    write_card(source={"kind": "local", "path": "recordings"})
    return tmp_path


def write_card(**changes) -> None:
    content = {"name": "x", "title": "x", "licence": "CC0 1.0", "signals": SIGNALS, "tasks": {}}
    Path("datasets").mkdir(exist_ok=True)
    Path("datasets/x.yaml").write_text(yaml.safe_dump(content | changes))
    pin()


def pin() -> None:
    save_manifest(resolve(load_card("x")))


def run() -> dict:
    ingest.run(ingest.Params(dataset="x", workers=1))
    return base.read_manifest("ingest")


def outcomes() -> dict[str, str]:
    table = pd.read_parquet("storage/ingest/status.parquet")
    return dict(zip(table["recording"], table["outcome"], strict=True))


def content(folder: str) -> dict[Path, bytes]:
    paths = [p for p in Path(folder).rglob("*") if p.is_file()]
    return {p: p.read_bytes() for p in paths if p.name not in base.MEASUREMENTS}


def test_recordings_become_zarr_with_their_provenance(project):
    manifest = run()
    recording = store.read(Path("storage/ingest/synthetic-1-1.zarr"))

    assert list(manifest["outputs"]) == ["synthetic-1-1", "synthetic-2-1"]
    assert set(recording.signals) == set(SIGNALS)
    assert recording.signals["lfp"].source == SIGNALS["lfp"]["path"]
    found = recording.provenance
    assert (found["file"], found["licence"]) == ("synthetic-1-1.nwb", "CC0 1.0")
    digest = base.file_digest(Path("recordings/synthetic-1-1.nwb"))
    assert found["sha256"] == {"synthetic-1-1.nwb": digest}
    assert found["session_start_time"] == "2024-01-01T09:00:00+00:00"
    assert json.loads(Path("storage/ingest/metrics.json").read_text())["recordings"] == 2


def test_two_equal_runs_write_equal_bytes(project):
    run()
    first = content("storage/ingest")
    shutil.rmtree("storage")
    run()

    assert content("storage/ingest") == first


def test_an_unchanged_recording_is_skipped_and_a_changed_one_is_not(project):
    run()
    run()
    assert set(outcomes().values()) == {"skipped"}
    shutil.copy("recordings/synthetic-1-1.nwb", "recordings/synthetic-2-1.nwb")
    pin()
    run()
    assert outcomes() == {"synthetic-1-1": "skipped", "synthetic-2-1": "done"}


def test_a_bad_recording_is_quarantined_and_the_others_go_on(project):
    whole = Path("recordings/synthetic-1-1.nwb").read_bytes()
    Path("recordings/synthetic-1-1.nwb").write_bytes(whole[: len(whole) // 2])
    pin()
    manifest = run()

    assert list(manifest["outputs"]) == ["synthetic-2-1"]
    assert "cut off or damaged" in manifest["quarantined"]["synthetic-1-1"]
    assert not Path("storage/ingest/synthetic-1-1.zarr").exists()


def test_a_signal_that_no_file_has_is_an_error_of_the_data(project):
    signals = SIGNALS | {"emg": {"path": "acquisition/emg", "modality": "emg"}}
    write_card(source={"kind": "local", "path": "recordings"}, signals=signals)
    with pytest.raises(DataError, match=r"no recording is usable[^$]*no 'acquisition/emg'"):
        run()


def test_two_recordings_with_one_id_are_both_named(project):
    Path("recordings/day2").mkdir()
    shutil.copy("recordings/synthetic-1-1.nwb", "recordings/day2/synthetic-1-1.nwb")
    pin()
    with pytest.raises(UserError, match=r"'synthetic-1-1': day2/synthetic.* and synthetic-1"):
        run()


def test_a_file_that_changed_since_it_was_resolved_stops_ingest_and_is_named(project):
    shutil.copy("recordings/synthetic-1-1.nwb", "recordings/synthetic-2-1.nwb")
    with pytest.raises(UserError, match=r"synthetic-2-1\.nwb has changed .* `neurofmx resolve`"):
        run()
    assert Path("storage/ingest/synthetic-1-1.zarr").exists()


def test_a_source_that_changed_asks_for_another_manifest(project):
    manifest = Path("datasets/manifests/x.json").read_bytes()
    write_card(source={"kind": "local", "path": "recordings", "pattern": "*.nwb"})
    Path("datasets/manifests/x.json").write_bytes(manifest)
    with pytest.raises(UserError, match=r"the card says .* run `neurofmx resolve x`"):
        run()


def test_adapt_names_a_recording_that_is_there(project):
    write_card(source={"kind": "local", "path": "recordings"}, adapt=["day9"])
    with pytest.raises(UserError, match="adapt of card 'x' names day9, which is no recording"):
        run()


def test_a_full_disk_is_transient_and_the_next_run_finishes(project, monkeypatch):
    write = store.write

    def full(recording, path, key):
        if recording.id == "synthetic-2-1":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(recording, path, key)

    monkeypatch.setattr(store, "write", full)
    with pytest.raises(TransientError, match="free space or wait, then run the same command again"):
        run()
    monkeypatch.undo()
    monkeypatch.chdir(project)
    run()
    assert outcomes() == {"synthetic-1-1": "skipped", "synthetic-2-1": "done"}


def test_synthetic_recordings_are_written_with_truth_and_go_with_the_next_dataset(project):
    made = {"kind": "synthetic", "subjects": 1, "recordings": 1, "units": 3, "duration": 10.0}
    write_card(source=made, synthetic=True)
    manifest = run()
    truth = np.load("storage/ingest/truth/synthetic-1-1.npz")
    recording = store.read(Path("storage/ingest/synthetic-1-1.zarr"))

    assert list(manifest["outputs"]) == ["synthetic-1-1"]
    assert recording.provenance["synthetic"] is True
    assert truth["tuning"].shape == (3, 3)

    write_card(source={"kind": "local", "path": "recordings"})
    run()
    assert not list(Path("storage/ingest").glob("*/*.n*"))


@pytest.mark.parametrize("dataset", ["m1", "hpc"])
def test_real_recordings_of_a_card(project, shared_data, dataset):
    card = yaml.safe_load((Path(__file__).parents[2] / f"datasets/{dataset}.yaml").read_text())
    card["source"]["path"] = str(shared_data / Path(card["source"]["path"]).name)
    Path(f"datasets/{dataset}.yaml").write_text(yaml.safe_dump(card))
    save_manifest(resolve(load_card(dataset)))
    ingest.run(ingest.Params(dataset=dataset, workers=1))

    (name,) = base.read_manifest("ingest")["outputs"]
    recording = store.read(Path(f"storage/ingest/{name}.zarr"))
    assert set(recording.signals) == set(card["signals"])
