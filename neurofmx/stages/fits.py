"""Fits of the baselines: each to a task of a recording, on several processes, and kept.

What a baseline answers depends on the recordings, the card and its own parameters, and not on our
model. So its answers stay beside results.csv under a key of these: a run that was killed goes on
behind the last whole fit, and another model is held against the same answers without a fit.

    baselines/<recording>.<task>.<method>.zarr    answers to the test queries, what was chosen on
                                                  the valid split, and the seconds that it took
"""

import os
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from threadpoolctl import threadpool_limits

from neurofmx.data import store
from neurofmx.data.cards import Card
from neurofmx.data.shards import Shards
from neurofmx.evaluation import BASELINES, BaselineParams, Prediction, Problem
from neurofmx.evaluation.problems import problem
from neurofmx.evaluation.table import Scored
from neurofmx.stages import base
from neurofmx.types import AlignedRecording

STAGE = "evaluate"
KEPT = "baselines/{}.zarr"
CODE = (
    "config.py",
    "data",
    "data/sources",
    "errors.py",
    "evaluation",
    "evaluation/baselines",
    "evaluation/metrics",
    "modalities.py",
    "signal",
    "stages/fits.py",
    "training/optim.py",
    "types.py",
)


def fit(
    problems: Iterable[Problem],
    methods: Sequence[str],
    params: BaselineParams,
    workers: int,
    threads: int,
) -> None:
    """Fit every method to every problem that it can answer, unless its answers are there.

    Args:
        methods: Rows of `BASELINES`.
        workers: Processes that share the fits.
        threads: Of the processor, of each of them.
    """
    jobs = [
        _job(posed, method, params, threads)
        for posed in problems
        for method in answerable(posed, methods)
    ]
    if jobs:
        base.fan_out(STAGE, jobs, _fit, workers, outputs=KEPT)


def answerable(posed: Problem, methods: Sequence[str]) -> list[str]:
    """Those that are made for such a task, and of which there is nothing that the problem lacks."""
    return [m for m in methods if posed.kind in BASELINES[m].kinds and lacks(posed, m) is None]


def lacks(posed: Problem, method: str) -> str | None:
    """What the problem lacks that the method cannot do without; None where it has all."""
    if "train" not in posed.queries:
        return "there is nothing to fit it to: no train part, and no recording that it could share"
    return BASELINES[method].needs(posed)


def fitted(posed: Problem, method: str) -> Scored:
    """What `fit` kept."""
    kept = zarr.open_group(_path(posed, method), mode="r")
    about: dict[str, Any] = dict(kept.attrs)
    values = zarr.open_array(_path(posed, method) / "values", mode="r")[:]
    found = Prediction(np.asarray(values), about["parameters"], about["settings"])
    return Scored(method, found, about["seconds"])


def aligned(recording: str) -> AlignedRecording:
    """A recording as align left it."""
    return store.read_aligned(base.STORAGE / "align" / f"{recording}.zarr")


def _name(posed: Problem, method: str) -> str:
    return f"{posed.recording.id}.{posed.task}.{method}"


def _path(posed: Problem, method: str) -> Path:
    return base.folder(STAGE) / KEPT.format(_name(posed, method))


def _job(posed: Problem, method: str, params: BaselineParams, threads: int) -> base.Job:
    recording, card = posed.recording.id, posed.card
    cut = base.read_manifest("tokenize")["outputs"]
    own = "train" in card.split.parts(recording)
    inputs = {
        "cut": {recording: cut[recording]} if own else cut,  # of the card and the recordings
        "classes": posed.n_classes,
        "task": posed.task,
        "method": method,
        "params": params.model_dump(mode="json"),
        "code": base.code_version(*CODE),
    }
    arguments = (recording, posed.task, method, card, params, threads)
    # Fits outlast the start of a process, little as they read.
    return base.Job(_name(posed, method), inputs, arguments, base.SPAWN_BYTES)


def _fit(
    path: Path,
    key: str,
    recording: str,
    task: str,
    method: str,
    card: Card,
    params: BaselineParams,
    threads: int,
) -> None:
    torch.set_num_threads(threads)
    posed = problem(recording, task, card, Shards(base.STORAGE / "tokenize"), aligned)
    assert posed is not None, f"{recording} {task} is not posed any more"
    with threadpool_limits(threads):
        started = time.perf_counter()
        found = BASELINES[method].fit(posed, params)
        seconds = time.perf_counter() - started
    assert found.spread is None, f"{method} gives a spread, which is not kept"
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    kept = {"parameters": found.parameters, "settings": found.settings}
    group = zarr.create_group(temporary, attributes={"key": key, "seconds": seconds, **kept})
    values = np.asarray(found.values)
    group.create_array("values", data=values, dimension_names=("query", "output"))
    shutil.rmtree(path, ignore_errors=True)
    os.replace(temporary, path)
