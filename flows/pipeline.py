"""The pipeline as a Prefect flow: each stage of `dvc.yaml` a task with retries, logs, an artifact.

    python flows/pipeline.py --dataset demo

`dvc.yaml` is the only DAG. Prefect decides when a stage is asked for, DVC whether it is stale, so
Prefect caches nothing. Without a server to talk to, Prefect runs its own for as long as it takes.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # read on import
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "300")  # a busy machine

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
STORAGE = ROOT / "storage"
ERROR_FILE = STORAGE / "error.json"  # the exit code of a failed stage, which DVC does not pass on
TRANSIENT = 75  # EX_TEMPFAIL: a full disk, a lost connection
PREEMPTED = 85  # told to stop, and saved
RETRY_SECONDS = [30, 300]


class StageFailed(RuntimeError):
    """A stage ended with an exit code other than 0."""

    def __init__(self, stage: str, exit_code: int):
        super().__init__(f"{stage} failed with exit code {exit_code}; its log says why")
        self.exit_code = exit_code


@flow(name="neurofmx", log_prints=True)
def pipeline(dataset: str | None = None) -> None:
    """Reproduce every stage in order, and show the results.

    Args:
        dataset: Name of a card in `datasets/`, written to `params.yaml`; None keeps the one there.
    """
    if dataset:
        choose(dataset)
    for stage in YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]:
        reproduce(stage)
    with (STORAGE / "evaluate" / "results.csv").open(newline="") as file:
        create_table_artifact(key="results", table=list(csv.DictReader(file)))


def choose(dataset: str) -> None:
    """Write the name of the data set to `params.yaml`, comments kept."""
    editor, path = YAML(), ROOT / "params.yaml"
    editor.width = 100
    document = editor.load(path)
    document["dataset"] = dataset
    editor.dump(document, path)


def is_transient(_task: Any, _run: Any, state: State) -> bool:
    """True where trying again may help: Prefect retries nothing else."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageFailed) and error.exit_code in (TRANSIENT, PREEMPTED)


@task(
    task_run_name="{stage}",
    retries=len(RETRY_SECONDS),
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=is_transient,
    cache_policy=NO_CACHE,
)
def reproduce(stage: str) -> None:
    """`dvc repro` of one stage, its lines to Prefect's log, its metrics to an artifact.

    Raises:
        StageFailed: With the exit code of the stage, or DVC's own where the stage did not start.
    """
    ERROR_FILE.unlink(missing_ok=True)
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "DVC_NO_ANALYTICS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip():
            get_run_logger().info(line.rstrip())
    if process.wait():
        raise StageFailed(stage, _exit_code(process.returncode))
    create_markdown_artifact(key=stage, markdown=_summary(stage), description=f"Stage {stage}")


def _exit_code(of_dvc: int) -> int:
    if not ERROR_FILE.exists():
        return of_dvc
    text = ERROR_FILE.read_text()  # empty where the disk was too full even for this
    return json.loads(text)["exit_code"] if text else TRANSIENT


def _summary(stage: str) -> str:
    """The stage's metrics, and the hash by which `dvc.lock` knows its outputs."""
    metrics = json.loads((STORAGE / stage / "metrics.json").read_text())
    lock = YAML(typ="safe").load(ROOT / "dvc.lock")["stages"][stage]
    rows = "\n".join(f"| {key} | {value} |" for key, value in metrics.items())
    outputs = "\n".join(f"- `{out['path']}` {out['md5']}" for out in lock["outs"])
    return f"| metric | value |\n|---|---|\n{rows}\n\nIn `dvc.lock`:\n{outputs}\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run the pipeline as a Prefect flow.")
    parser.add_argument("--dataset", help="name of a card in datasets/; default: params.yaml's")
    try:
        pipeline(parser.parse_args().dataset)
    except StageFailed as error:
        sys.exit(error.exit_code)
