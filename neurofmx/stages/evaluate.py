"""evaluate: held-out scores with intervals, beside simple methods and the untrained model.

results.csv            a row per figure; tables in documents are made from it
predictions.parquet    answers to the test queries, for pictures
tuned.json             recording → task → method → what it chose on the valid split
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy import ndarray
from pydantic import Field
from threadpoolctl import threadpool_limits

from neurofmx.config import StageParams
from neurofmx.data import store
from neurofmx.data.cards import Card, load_card
from neurofmx.data.shards import Shards
from neurofmx.data.windows import SPLITS
from neurofmx.errors import DataError, UserError
from neurofmx.evaluation import BASELINES, BaselineParams, Prediction, Problem
from neurofmx.evaluation.probe import probe
from neurofmx.evaluation.queries import read_queries
from neurofmx.evaluation.table import COLUMNS, Scored, figures, picture
from neurofmx.models import NeuroFMX, untrained
from neurofmx.models.adapter_files import load_adapter
from neurofmx.stages import base
from neurofmx.training.inference import Answers, answers
from neurofmx.types import AlignedRecording

STAGE = "evaluate"
OURS, UNTRAINED = "neurofmx", "untrained"


class Params(StageParams):
    """Parameters of the stage.

    Attributes:
        draws: Bootstrap draws of each interval.
        block: Shortest stretch that is drawn whole (s).
        baselines: What the simple methods choose from.
        threads: Threads of the processor; small matrices are fastest on one.
    """

    draws: int = Field(1000, ge=1000)
    block: float = Field(5.0, gt=0)
    baselines: BaselineParams = BaselineParams()
    threads: int = 1


@dataclass(frozen=True)
class Decoder:
    """The model of a recording.

    Attributes:
        level: What was held out: "trial" (later time of a recording that pretraining saw) or
            "recording" (pretraining never saw it, adapt did).
        control: The same architecture with its initial weights.
    """

    model: NeuroFMX
    control: NeuroFMX
    level: str


def run(params: Params) -> None:
    """Score every recording that has a model.

    Raises:
        DataError: None has one.
    """
    with base.measured(STAGE) as report, threadpool_limits(params.threads):
        torch.set_num_threads(params.threads)
        card, folder = load_card(params.dataset), base.folder(STAGE)
        if not card.tasks:
            raise UserError(
                f"the card {card.name} asks for nothing: without tasks the pipeline ends with "
                "`neurofmx run --until adapt`; add what is to be decoded under `tasks`"
            )
        (folder / "manifest.json").unlink(missing_ok=True)
        shards = Shards(base.STORAGE / "tokenize")
        rows, pictures, statuses = [], [], []
        tuned: dict[str, dict[str, Any]] = {}
        command = f"neurofmx run --dataset {params.dataset} --until {STAGE}"
        for name, key in sorted(base.read_manifest("tokenize")["outputs"].items()):
            started, decoder = time.perf_counter(), _decoder(name, card, params.seed)
            if decoder is None:
                reason = "kept out of pretraining, and adapt left no model for it"
                statuses.append(base.Status(name, "skipped", key, 0.0, reason))
                continue
            tuned[name] = {}
            for problem, scored in _examine(name, decoder, card, shards, params):
                tuned[name][problem.task] = {s.method: s.prediction.settings for s in scored}
                shifted = replace(scored[0], method="shifted")
                common = {"dataset": params.dataset, "level": decoder.level, "command": command}
                for each in [*scored, shifted]:
                    found = figures(problem, each, params.draws, params.block, params.seed)
                    rows += [common | figure for figure in found]
                pictures.append(picture(problem, scored))
            spent = round(time.perf_counter() - started, 3)
            statuses.append(base.Status(name, "done", key, spent))
            base.console.print(f"  {name}  {decoder.level}  {spent:.1f} s")
        _write(rows, pictures, tuned, statuses, params.dataset)
        report.values |= _summary(pd.DataFrame(rows))


def _decoder(recording: str, card: Card, seed: int) -> Decoder | None:
    """The pretrained model, the adapted one where pretraining left the recording out, or None."""
    model, level = NeuroFMX.from_pretrained(base.STORAGE / "pretrain"), "trial"
    if recording not in base.read_manifest("pretrain")["recordings"]:
        if recording not in base.read_manifest("adapt")["outputs"]:
            return None
        model, level = load_adapter(model, base.STORAGE / "adapt" / recording), "recording"
    return Decoder(model, untrained(model.config, model.vocabulary, seed), level)


def _examine(
    recording: str, decoder: Decoder, card: Card, shards: Shards, params: Params
) -> Iterator[tuple[Problem, list[Scored]]]:
    """Each task of a recording with what every method answers."""
    positions = {s: shards.positions(s, [recording]).tolist() for s in SPLITS}
    aligned = store.read(base.STORAGE / "align" / f"{recording}.zarr")
    assert isinstance(aligned, AlignedRecording)
    ours, cost = _timed(answers, decoder.model, shards, positions["test"])
    control, control_cost = _timed(_features, decoder.control, shards, positions)
    size = sum(p.numel() for p in decoder.model.parameters())
    for task in card.tasks:
        queries = {split: read_queries(shards, task, positions[split]) for split in SPLITS}
        if not all(len(asked) for asked in queries.values()):
            continue  # the recording does not show this task in every split
        problem = Problem(aligned, card, task, shards, positions, queries)
        found = ours[task]
        _check_order(found, problem)
        read, spent = _timed(probe, control[task], problem, params.baselines)
        scored = [
            Scored(OURS, Prediction(found.prediction, size, spread=found.spread), cost),
            Scored(UNTRAINED, read, control_cost + spent),
        ]
        for method, baseline in BASELINES.items():
            if problem.kind in baseline.kinds and baseline.needs(problem) is None:
                fitted, spent = _timed(baseline.fit, problem, params.baselines)
                scored.append(Scored(method, fitted, spent))
        yield problem, scored


def _features(
    model: NeuroFMX, shards: Shards, positions: dict[str, list[int]]
) -> dict[str, dict[str, Float[ndarray, "_query width"]]]:
    """By task and split, what the heads read."""
    found = {split: answers(model, shards, positions[split]) for split in SPLITS}
    tasks = found["train"]
    return {task: {split: found[split][task].features for split in SPLITS} for task in tasks}


def _check_order(found: Answers, problem: Problem) -> None:
    """Every method answers the same queries in the same order."""
    asked = problem.queries["test"].time
    assert len(found.time) == len(asked), (len(found.time), len(asked))
    assert np.abs(found.time - asked).max() < 1e-3, "the model answered other instants"


def _timed(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work(*arguments)
    return result, time.perf_counter() - start


def _write(
    rows: list[dict[str, Any]],
    pictures: list[pd.DataFrame],
    tuned: dict[str, Any],
    statuses: list[base.Status],
    dataset: str,
) -> None:
    folder = base.folder(STAGE)
    base.write_table(folder / "status.parquet", pd.DataFrame([asdict(s) for s in statuses]))
    if not rows:
        reasons = "\n".join(f"  {s.recording}: {s.reason}" for s in statuses)
        raise DataError(f"{STAGE}: no recording can be scored\n{reasons}")
    results = pd.DataFrame(rows)[list(COLUMNS)]
    temporary = folder / ".results.csv.tmp"
    results.to_csv(temporary, index=False, float_format="%.6g")
    os.replace(temporary, folder / "results.csv")
    base.write_table(folder / "predictions.parquet", pd.concat(pictures, ignore_index=True))
    base.write_json(folder / "tuned.json", tuned)
    outputs = {
        # Seconds are a measurement: two equal runs differ in them alone.
        "results.csv": base.digest(results.drop(columns="seconds").to_csv(float_format="%.6g")),
        "predictions.parquet": base.file_digest(folder / "predictions.parquet"),
        "tuned.json": base.file_digest(folder / "tuned.json"),
    }
    left_out = {s.recording: s.reason for s in statuses if s.outcome == "skipped"}
    base.write_manifest(STAGE, dataset, outputs, left_out=left_out)


def _summary(results: pd.DataFrame) -> dict[str, Any]:
    """Median over recordings of each main figure, by task, metric and method."""
    main = results[~results["metric"].str.contains("[", regex=False)]
    medians = main.groupby(["task", "metric", "method"])["value"].median()
    summary: dict[str, Any] = {}
    for (task, metric, method), value in medians.items():
        summary.setdefault(task, {}).setdefault(metric, {})[method] = round(float(value), 4)
    return {"median_over_recordings": summary, "recordings": results["recording"].nunique()}
