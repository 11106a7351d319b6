import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from neurofmx.data import store
from neurofmx.data.cards import load_card
from neurofmx.data.manifests import resolve, save_manifest
from neurofmx.stages import align, base, ingest

SIGNALS = {
    "hand_vel": {"path": "processing/behavior/hand_vel", "modality": "behavior", "rate": 50.0},
    "pose": {"path": "processing/behavior/pose/hand", "modality": "pose", "rate": 30.0},
    "lfp": {"path": "processing/ecephys/LFP/lfp", "modality": "lfp"},
    "sync": {"path": "acquisition/sync", "modality": "pulses"},
    "camera_sync": {"path": "acquisition/camera_sync", "modality": "pulses"},
}
CLOCKS = {"camera": {"signals": ["pose"], "device": "camera_sync", "reference": "sync"}}
SOURCE = {"kind": "synthetic", "subjects": 1, "recordings": 2, "units": 2, "drift": -120.0}


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    """A project of two synthetic recordings of 5 minutes, ingested."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_card()
        ingest.run(ingest.Params(dataset="x", workers=1))
    return folder


@pytest.fixture
def project(ingested, monkeypatch):
    monkeypatch.chdir(ingested)
    write_card()
    base.write_manifest("validate", "x", base.read_manifest("ingest")["outputs"])


def write_card(**rates):
    signals = {name: card | rates.get(name, {}) for name, card in SIGNALS.items()}
    card = {"name": "x", "title": "x", "licence": "CC0", "tasks": {}, "source": SOURCE}
    Path("datasets").mkdir(exist_ok=True)
    content = card | {"signals": signals, "clocks": CLOCKS}
    Path("datasets/x.yaml").write_text(yaml.safe_dump(content))
    save_manifest(resolve(load_card("x")))


def run():
    align.run(align.Params(dataset="x", workers=1))
    return base.read_manifest("align")["outputs"]


def content():
    return {p: p.read_bytes() for p in Path("storage/align").glob("*.zarr/**/*") if p.is_file()}


def test_the_planted_drift_of_the_camera_is_found_to_a_part_per_million(project):
    for recording in run():
        aligned = store.read(Path(f"storage/align/{recording}.zarr"))
        truth = np.load(f"storage/ingest/truth/{recording}.npz")
        clock = aligned.clocks["camera"]
        device = np.array([0.0, 150.0, 300.0])

        assert clock.drift == pytest.approx(float(truth["drift"]), abs=1.0)
        planted = truth["offset"] + (1.0 + truth["drift"] * 1e-6) * device
        np.testing.assert_allclose(clock(device), planted, atol=1e-4)
        report = json.loads(Path("storage/align/metrics.json").read_text())
        assert report["clocks"][recording]["camera"]["drift"] == clock.drift


def test_signals_have_the_rates_of_the_card_and_finite_values(project):
    recording = next(iter(run()))
    signals = store.read(Path(f"storage/align/{recording}.zarr")).signals

    assert {name: signals[name].rate for name in ("hand_vel", "pose", "lfp")} == {
        "hand_vel": 50.0,
        "pose": 30.0,
        "lfp": 250.0,
    }
    source = store.read(Path(f"storage/ingest/{recording}.zarr")).signals["lfp"]
    np.testing.assert_array_equal(signals["lfp"].values[:], source.values[:])
    assert all(np.isfinite(signals[name].values[:]).all() for name in ("hand_vel", "pose"))


def test_a_second_run_skips_and_an_equal_one_writes_equal_bytes(project):
    outputs, first = run(), content()
    stamps = [path.stat().st_mtime_ns for path in first]

    assert run() == outputs
    assert [path.stat().st_mtime_ns for path in first] == stamps
    for path in Path("storage/align").glob("*.zarr/zarr.json"):
        path.unlink()
    assert run() == outputs
    assert content() == first


def test_another_rate_is_another_key(project):
    outputs = run()
    write_card(pose={"rate": 60.0})

    changed = run()

    assert set(changed) == set(outputs)
    assert not set(changed.values()) & set(outputs.values())


def test_only_what_validate_passed_is_aligned(project):
    passed = dict(list(base.read_manifest("ingest")["outputs"].items())[:1])
    base.write_manifest("validate", "x", passed)

    assert list(run()) == list(passed)
    assert [path.stem for path in Path("storage/align").glob("*.zarr")] == list(passed)
