"""The whole pipeline on a small synthetic data set: by DVC, by Prefect, and killed on the way.

One project is finished once; each test works in a copy of it.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
from projects import command, environment, make_project, pin
from ruamel.yaml import YAML

from neurofmx.stages import STAGES

# Bytes that two equal runs do not share, and why. What decides a later stage is not among them.
DIFFER = {
    "*/metrics.json": "seconds and memory: measurements",
    "*/status.parquet": "seconds of each recording",
    "validate/gx/**/*": "Great Expectations names each run by its time",
    "report/index.html": "the page shows the seconds of each stage",
    "evaluate/baselines/*/zarr.json": "seconds of each fit",
    "evaluate/results.json": "seconds of each method; the manifest has a hash of the rest",
    "evaluate/results.html": "and so does the page",
    "mlflow/**/*": "MLflow's database holds times and random ids of runs; no stage reads it",
    "**/run.json": "what trackers call the run",
    "**/state/*/progress.json": "and so does a checkpoint, beside what goes on from it",
    "**/state/*/manifest.json": "and its checksums",
    "**/state/*/.metadata": "torch names the writing of a checkpoint at random",
}
# Killed when these appear, where the first file to appear would be too early to be the middle.
LATER = {"pretrain": "state/*/manifest.json", "adapt": "*/state/*/manifest.json"}


def shrink(folder: Path) -> None:
    """Two recordings of a minute and a dozen units, six epochs; one process, one thread."""
    editor = YAML()
    card = editor.load(folder / "datasets" / "demo.yaml")
    card["source"] |= {"subjects": 1, "recordings": 2, "units": 12, "duration": 60.0}
    card["adapt"] = ["synthetic-1-2"]
    editor.dump(card, folder / "datasets" / "demo.yaml")
    pin("demo", folder)
    params = editor.load(folder / "params.yaml")
    for stage in STAGES:
        params[stage] |= {key: 1 for key in ("workers", "threads") if key in params[stage]}
    for stage in ("pretrain", "adapt"):
        params[stage]["fit"] |= {"epochs": 6, "epoch_steps": 1, "batch_size": 8, "valid_every": 4}
        params[stage]["fit"]["checkpoint"]["every"] = 4
    params["tokenize"]["tokens"] = 8
    params["pretrain"]["model"] |= {"d_model": 32, "n_blocks": 1, "n_latents": 4}
    params["pretrain"]["model"] |= {"latent_dim": 32, "n_layers": 1, "d_state": 8, "headdim": 16}
    editor.dump(params, folder / "params.yaml")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A project in which `dvc repro`, and nothing else, was run. Not to be written to."""
    folder = make_project(tmp_path_factory.mktemp("finished") / "project")
    shrink(folder)
    out = command(folder, "dvc", "repro").stdout
    assert ran(out) == list(STAGES)
    return folder


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    """A finished project to do things to."""
    return Path(shutil.copytree(finished, tmp_path / "project", symlinks=True))


def ran(out: str) -> list[str]:
    return re.findall(r"^Running stage '(\w+)'", out, re.MULTILINE)


def contents(folder: Path, stage: str = "*") -> dict[str, str]:
    """sha256 of each file that equal runs share."""
    storage = folder / "storage"
    differ = {path for pattern in DIFFER for path in storage.glob(pattern)}
    files = [path for path in sorted(storage.glob(f"{stage}/**/*")) if path.is_file()]
    return {str(p.relative_to(storage)): _digest(p) for p in files if p not in differ}


def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.name == "results.csv":  # all but the seconds that each method took
        content = pd.read_csv(path).drop(columns="seconds").to_csv().encode()
    return hashlib.sha256(content).hexdigest()


def test_one_command_makes_everything(finished):
    for stage in STAGES:
        for file in ("manifest.json", "metrics.json"):
            assert (finished / "storage" / stage / file).is_file()
    assert (finished / "storage" / "evaluate" / "results.csv").is_file()
    assert (finished / "storage" / "report" / "index.html").is_file()
    assert not (finished / "storage" / "error.json").exists()


def test_nothing_runs_when_nothing_changed(copy):
    out = command(copy, "dvc", "repro").stdout
    assert re.findall(r"^Stage '(\w+)' didn't change, skipping", out, re.MULTILINE) == list(STAGES)


def test_a_changed_parameter_runs_its_stage_and_later_ones_only(copy):
    command(copy, "neurofmx", "run", "-S", "tokenize.shard_mb=0.1", "--until", "ingest")
    out = command(copy, "dvc", "repro", "pretrain").stdout
    assert ran(out) == ["tokenize", "pretrain"]


def test_an_experiment_on_another_data_set_runs_in_a_fresh_clone(finished, tmp_path):
    folder = make_project(tmp_path / "project")
    shrink(folder)
    text = (folder / "datasets" / "demo.yaml").read_text()
    (folder / "datasets" / "other.yaml").write_text(text.replace("name: demo", "name: other"))
    pin("other", folder)
    identity = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")
    command(folder, "git", "add", "--all")
    command(folder, "git", *identity, "commit", "-qm", "A clone")

    out = command(folder, "dvc", "exp", "run", "-S", "dataset=other", "ingest").stdout

    assert ran(out) == ["ingest"]
    assert (folder / "storage" / "ingest" / "synthetic-1-1.zarr").is_dir()
    status = command(folder, "git", "status", "--short").stdout
    assert set(status.split()) <= {"M", "params.yaml", "??", "dvc.lock"}


def test_prefect_makes_the_same_bytes(finished, tmp_path):
    folder = make_project(tmp_path / "project")
    shrink(folder)
    server = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_LOGGING_LEVEL": "INFO"}
    done = command(folder, "python", "flows/pipeline.py", "--dataset", "demo", **server)
    finished_tasks = re.findall(r"Task run '(\w+)' - Finished in state Completed", done.stderr)
    assert finished_tasks == list(STAGES)
    assert contents(folder) == contents(finished)


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_goes_on_to_the_same_result(finished, copy, stage):
    shutil.rmtree(copy / "storage" / stage)
    kill_in_the_middle(copy, stage, "neurofmx", stage)

    command(copy, "neurofmx", stage)

    assert contents(copy, stage) == contents(finished, stage)
    assert not (copy / "storage" / "error.json").exists()


def test_a_killed_run_goes_on_to_the_same_result(finished, copy):
    shutil.rmtree(copy / "storage" / "ingest")
    words = ("neurofmx", "run", "--until", "ingest")
    kill_in_the_middle(copy, "ingest", *words)

    assert ran(command(copy, *words).stdout) == ["ingest"]

    assert contents(copy, "ingest") == contents(finished, "ingest")


def kill_in_the_middle(folder: Path, stage: str, *words: str) -> None:
    """Start a command; end it and all its processes by SIGKILL as soon as the stage has written."""
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=environment(folder),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in written(folder / "storage" / stage, LATER.get(stage, "**/*")):
        assert process.poll() is None, f"{stage} ended before it was killed"
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    psutil.wait_procs(family, timeout=60)  # DVC asks whether the holder of a lock is alive
    assert not (folder / "storage" / stage / "manifest.json").exists()


def written(folder: Path, pattern: str) -> Iterator[None]:
    """Yield until the folder holds a file that matches."""
    while not any(path.is_file() for path in folder.glob(pattern)):
        yield
        time.sleep(0.002)
