"""The flow on stages that fail as they are told; tests/test_pipeline.py takes the real ones."""

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from prefect.artifacts import Artifact
from prefect.testing.utilities import prefect_test_harness

FLOW = Path(__file__).resolve().parents[2] / "flows" / "pipeline.py"
# `second` fails with the exit codes of codes.json, one a call, then ends well.
STAGE = """
import json, pathlib, sys
stage, storage = sys.argv[1], pathlib.Path("storage")
(storage / stage).mkdir(parents=True, exist_ok=True)
with open("calls", "a") as calls:
    calls.write(stage + "\\n")
codes = json.loads(pathlib.Path("codes.json").read_text())
if codes and stage == "second":
    pathlib.Path("codes.json").write_text(json.dumps(codes[1:]))
    (storage / "error.json").write_text(json.dumps({"exit_code": codes[0], "message": "told to"}))
    sys.exit(codes[0])
for name in ("manifest.json", "metrics.json"):
    (storage / stage / name).write_text(json.dumps({"seconds": 1.5}))
(storage / "evaluate").mkdir(exist_ok=True)
(storage / "evaluate" / "results.csv").write_text("task,value\\nspeed,0.9\\n")
"""
PIPELINE = """
stages:
  first:
    cmd: python stage.py first
    deps: [stage.py]
    outs: [{storage/first: {persist: true}}]
  second:
    cmd: python stage.py second
    deps: [storage/first/manifest.json]
    outs: [{storage/second: {persist: true}}]
"""


@pytest.fixture(scope="module")
def server():
    with prefect_test_harness(server_startup_timeout=300):
        yield


@pytest.fixture
def run(server, tmp_path):
    """Run the flow on a `second` that fails as told: the stages called, and the exit code."""
    (tmp_path / "flows").mkdir()
    path = Path(shutil.copy(FLOW, tmp_path / "flows"))
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "params.yaml").write_text("# kept\ndataset: demo\n")
    (tmp_path / ".dvc").mkdir()
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    spec = importlib.util.spec_from_file_location("pipeline_flow", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.reproduce = module.reproduce.with_options(retry_delay_seconds=0)

    def run(*codes, dataset=None):
        (tmp_path / "codes.json").write_text(json.dumps(codes))
        exit_code = 0
        try:
            module.pipeline(dataset)
        except module.StageFailed as error:
            exit_code = error.exit_code
        return (tmp_path / "calls").read_text().split(), exit_code

    run.folder = tmp_path
    return run


def test_a_transient_failure_is_tried_again(run):
    assert run(75, 75) == (["first", "second", "second", "second"], 0)


@pytest.mark.parametrize("code", [1, 2, 3])
def test_no_other_failure_is_tried_again(run, code):
    assert run(code) == (["first", "second"], code)


def test_dvc_decides_what_is_stale(run):
    assert run() == (["first", "second"], 0)
    assert run() == (["first", "second"], 0)


def test_the_data_set_is_written_and_comments_stay(run):
    run(dataset="m1")
    assert (run.folder / "params.yaml").read_text() == "# kept\ndataset: m1\n"


def test_artifacts_hold_metrics_hashes_and_results(run):
    run()
    assert "| seconds | 1.5 |" in Artifact.get("first").data
    assert "`storage/second` " in Artifact.get("second").data
    assert json.loads(Artifact.get("results").data) == [{"task": "speed", "value": "0.9"}]
