"""Runs are kept by MLflow in an SQLite file under `storage/`; `mlflow ui` shows them."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def track(
    folder: Path, experiment: str, params: dict[str, Any]
) -> Iterator[Callable[[dict[str, float], int], None]]:
    """Open a run and give the function that logs (metrics, step) to it.

    Args:
        folder: Where `mlflow.db` and the artifacts lie.
        experiment: Name of the experiment, that of the data set.
        params: Logged once, nested keys joined by dots.
    """
    import mlflow  # 2 s to import: only when training

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # not of every table it creates

    folder.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(f"sqlite:///{folder.resolve() / 'mlflow.db'}")
    if mlflow.get_experiment_by_name(experiment) is None:
        mlflow.create_experiment(experiment, artifact_location=str(folder.resolve() / "artifacts"))
    mlflow.set_experiment(experiment)
    with mlflow.start_run():
        mlflow.log_params(_flat(params))

        def log(metrics: dict[str, float], step: int) -> None:
            mlflow.log_metrics(metrics, step=step)

        yield log


def _flat(params: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in params.items():
        inner = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat
