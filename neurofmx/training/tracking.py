"""Runs are kept by trackers: parameters, where they came from, and figures by step.

MLflow keeps them in an SQLite file under `storage/` (`mlflow ui` shows it), TensorBoard in event
files, Weights & Biases on its server or, with `WANDB_MODE=offline`, in files to be sent later.
A run that goes on after a stop is the same run: checkpoints name it.
"""

import itertools
import json
import logging
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from neurofmx.data.digests import file_digest
from neurofmx.errors import UserError
from neurofmx.training.progress import write_text

TrackerName = Literal["mlflow", "tensorboard", "wandb"]


class MLflow:
    """A run in `storage/mlflow/mlflow.db`, or where `MLFLOW_TRACKING_URI` says."""

    def __init__(self, folder: Path, experiment: str, params: dict[str, Any], run: str):
        import mlflow  # 2 s to import: only when training

        self.mlflow = mlflow
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # not of every table it creates
        place = (folder / "mlflow").resolve()
        place.mkdir(parents=True, exist_ok=True)
        mlflow.set_tracking_uri(
            os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{place / 'mlflow.db'}")
        )
        if mlflow.get_experiment_by_name(experiment) is None:
            mlflow.create_experiment(experiment, artifact_location=str(place / "artifacts"))
        mlflow.set_experiment(experiment)
        known = run and any(r.info.run_id == run for r in self._runs(experiment))
        self.run = mlflow.start_run(run_id=run if known else None)
        if not known:
            mlflow.log_params(params)
        self.id = self.run.info.run_id

    def _runs(self, experiment: str) -> list[Any]:
        return self.mlflow.search_runs(experiment_names=[experiment], output_format="list")

    def log(self, figures: dict[str, float], step: int) -> None:
        """Figures of a step."""
        self.mlflow.log_metrics(figures, step=step)

    def close(self, whole: bool) -> None:
        """End the run, as finished or killed."""
        self.mlflow.end_run("FINISHED" if whole else "KILLED")


class TensorBoard:
    """Event files in `storage/tensorboard/<run>`."""

    def __init__(self, folder: Path, experiment: str, params: dict[str, Any], run: str):
        SummaryWriter = _imported("torch.utils.tensorboard", "tensorboard").SummaryWriter
        base = folder / "tensorboard"
        names = (f"{experiment}-{k:04d}" for k in itertools.count())
        self.id = run or next(name for name in names if not (base / name).exists())
        self.writer = SummaryWriter(str(base / self.id))
        if not run:
            self.writer.add_text("params", f"```json\n{json.dumps(params, indent=1)}\n```")

    def log(self, figures: dict[str, float], step: int) -> None:
        """Figures of a step."""
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self, whole: bool) -> None:
        """Close the file."""
        self.writer.close()


class Wandb:
    """A run at Weights & Biases; offline it lies in `storage/wandb` until `wandb sync`."""

    def __init__(self, folder: Path, experiment: str, params: dict[str, Any], run: str):
        wandb = _imported("wandb", "wandb")
        folder.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            project=f"neurofmx-{experiment}",
            dir=str(folder),
            config=params,
            id=run or None,
            resume="allow",
        )
        self.id = self.run.id

    def log(self, figures: dict[str, float], step: int) -> None:
        """Figures of a step."""
        self.run.log(figures, step=step)

    def close(self, whole: bool) -> None:
        """End the run."""
        self.run.finish(0 if whole else 1)


TRACKERS: dict[TrackerName, Any] = {"mlflow": MLflow, "tensorboard": TensorBoard, "wandb": Wandb}


class Tracked:
    """A run in every tracker that was chosen."""

    def __init__(self, trackers: Mapping[str, Any]):
        self.trackers = trackers

    @property
    def ids(self) -> dict[str, str]:
        """By which each tracker knows the run."""
        return {name: tracker.id for name, tracker in self.trackers.items()}

    def log(self, figures: dict[str, float], step: int) -> None:
        """Figures of a step, in all."""
        for tracker in self.trackers.values():
            tracker.log(figures, step)


@contextmanager
def track(
    names: Sequence[TrackerName],
    folder: Path,
    experiment: str,
    params: dict[str, Any],
    runs: dict[str, str] | None = None,
) -> Iterator[Tracked]:
    """Open a run, or take up one that was stopped.

    Args:
        names: Rows of `TRACKERS`.
        folder: Under which they keep it.
        experiment: Name of the experiment, that of the data set.
        params: Logged once, nested keys joined by dots.
        runs: `Tracked.ids` of the run to go on with.

    Raises:
        UserError: A tracker is not installed.
    """
    found: dict[str, Any] = {}
    whole = False
    try:
        for name in names:
            run = (runs or {}).get(name, "")
            found[name] = TRACKERS[name](folder, experiment, flat(params), run)
        yield Tracked(found)
        whole = True
    finally:
        for tracker in found.values():
            tracker.close(whole)


def provenance(engine: str, world: int, index_hash: str) -> dict[str, Any]:
    """Where a run comes from and what it runs on."""
    lock = Path("dvc.lock")
    return {
        "git": _git("rev-parse", "HEAD"),
        "git_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "dvc_lock": file_digest(lock) if lock.exists() else "",
        "index": index_hash,
        "engine": engine,
        "ranks": world,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())],
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def write_run(path: Path, ids: dict[str, str], facts: dict[str, Any]) -> None:
    """What trackers call the run that left the files beside it, and where it came from."""
    write_text(path, json.dumps({"runs": ids} | facts, indent=1))


def flat(params: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in params.items():
        inner = isinstance(value, dict) and bool(value)
        found |= flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return found


def _git(*arguments: str) -> str:
    """What git says of the project; empty outside a repository."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _imported(module: str, package: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(
            f"the tracker {package} is not installed: pip install 'neurofmx[track]', or leave it "
            "out of `track`"
        ) from error
