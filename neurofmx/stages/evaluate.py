"""evaluate: held-out scores with intervals, beside simple methods and the untrained model.

results.csv            a row per figure; tables in documents are made from it
tests.csv              ours against each other method, paired over recordings
nulls.csv              ours against what autocorrelation alone gives
predictions.parquet    answers to the test queries, for pictures
tuned.json             recording → task → method → what it chose on the valid split
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy import ndarray
from pydantic import Field, field_validator
from threadpoolctl import threadpool_limits

from neurofmx.config import StageParams
from neurofmx.data import store
from neurofmx.data.cards import Card, load_card
from neurofmx.data.shards import Shards
from neurofmx.data.windows import SPLITS
from neurofmx.errors import DataError, UserError
from neurofmx.evaluation import (
    BASELINES,
    BaselineParams,
    Level,
    Origin,
    Prediction,
    Problem,
    level,
)
from neurofmx.evaluation.baselines import chosen
from neurofmx.evaluation.comparisons import Answered, null_tests, paired_tests
from neurofmx.evaluation.levels import UNKNOWN
from neurofmx.evaluation.probe import probe
from neurofmx.evaluation.queries import read_queries
from neurofmx.evaluation.table import (
    COLUMNS,
    OVERALL,
    SHIFTED,
    Score,
    Scored,
    figures,
    overall,
    picture,
    scores,
)
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
        methods: Baselines to hold it against, by name; `simple` stands for all that take seconds,
            `all` for the networks too.
        baselines: What the baselines choose from.
        threads: Threads of the processor; small matrices are fastest on one.
    """

    draws: int = Field(1000, ge=1000)
    block: float = Field(5.0, gt=0)
    methods: tuple[str, ...] = ("simple",)
    baselines: BaselineParams = BaselineParams()
    threads: int = 1

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        chosen(methods)
        return methods


@dataclass(frozen=True)
class Decoder:
    """The model of a recording.

    Attributes:
        level: What was held out from pretraining.
        control: The same architecture with its initial weights.
    """

    model: NeuroFMX
    control: NeuroFMX
    level: Level


@dataclass
class Found:
    """What is known of all recordings so far.

    Attributes:
        rows: Of results.csv, without what all rows share.
        tuned: Recording → task → method → what it chose.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    answers: list[Answered] = field(default_factory=list)
    pictures: list[pd.DataFrame] = field(default_factory=list)
    statuses: list[base.Status] = field(default_factory=list)
    tuned: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, problem: Problem, scored: list[Scored], level: Level, params: Params) -> None:
        """Score what every method answered to a task of a recording, ours first."""
        name, answer = problem.recording.id, scored[0].prediction.values
        self.tuned[name][problem.task] = {s.method: s.prediction.settings for s in scored}
        shifted = replace(scored[0], method=SHIFTED)
        made = [s for e in (*scored, shifted) for s in scores(problem, e, level, params.block)]
        self.scores += made
        self.rows += figures(made, params.draws, params.seed)
        truth = problem.queries["test"].truth
        self.answers.append(Answered(name, problem.task, problem.kind, level, truth, answer))
        self.pictures.append(picture(problem, scored))


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
        shards, found = Shards(base.STORAGE / "tokenize"), Found()
        for name, key in sorted(base.read_manifest("tokenize")["outputs"].items()):
            started, decoder = time.perf_counter(), _decoder(name, card, params.seed)
            if decoder is None:
                reason = "kept out of pretraining, and adapt left no model for it"
                found.statuses.append(base.Status(name, "skipped", key, 0.0, reason))
                continue
            found.tuned[name] = {}
            for problem, scored in _examine(name, decoder, card, shards, params):
                found.add(problem, scored, decoder.level, params)
            spent = round(time.perf_counter() - started, 3)
            found.statuses.append(base.Status(name, "done", key, spent))
            base.console.print(f"  {name}  {decoder.level}  {spent:.1f} s")
        report.values |= _summary(_write(found, params))


def _decoder(recording: str, card: Card, seed: int) -> Decoder | None:
    """The pretrained model, the adapted one where pretraining left the recording out, or None."""
    model, seen = (
        NeuroFMX.from_pretrained(base.STORAGE / "pretrain"),
        base.read_manifest("pretrain"),
    )
    if recording not in seen["recordings"]:
        if recording not in base.read_manifest("adapt")["outputs"]:
            return None
        model = load_adapter(model, base.STORAGE / "adapt" / recording)
    control = untrained(model.config, model.vocabulary, seed)
    return Decoder(model, control, held_out(recording, seen, card.name))


def held_out(recording: str, seen: dict[str, Any], dataset: str) -> Level:
    """What pretraining left out; of other data sets' recordings it is not known what they are of.

    Args:
        seen: Manifest of pretrain.
    """
    table = pd.read_parquet(base.STORAGE / "validate" / "recordings.parquet")
    own = {
        row.recording: Origin(row.recording, row.subject, row.species, dataset)
        for row in table.itertuples()
    }
    beside = [Origin(r, UNKNOWN, UNKNOWN, of) for r, of in seen.get("beside", {}).items()]
    return level(own[recording], [*(own[r] for r in seen["recordings"]), *beside])


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
        for method in chosen(params.methods):
            baseline = BASELINES[method]
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


def _write(found: Found, params: Params) -> pd.DataFrame:
    """Leave all tables and the manifest; returns results.csv."""
    folder = base.folder(STAGE)
    base.write_table(folder / "status.parquet", pd.DataFrame([asdict(s) for s in found.statuses]))
    if not found.rows:
        reasons = "\n".join(f"  {s.recording}: {s.reason}" for s in found.statuses)
        raise DataError(f"{STAGE}: no recording can be scored\n{reasons}")
    rows = [*found.rows, *overall(found.scores, params.draws, params.seed)]
    command = f"neurofmx run --dataset {params.dataset} --until {STAGE}"
    common = {"dataset": params.dataset, "command": command}
    tables = {
        "results.csv": pd.DataFrame([common | row for row in rows])[list(COLUMNS)],
        "tests.csv": paired_tests(found.scores, OURS, params.draws, params.seed),
        "nulls.csv": null_tests(found.answers),
    }
    for name, table in tables.items():
        _write_csv(folder / name, table)
    pictures = pd.concat(found.pictures, ignore_index=True)
    base.write_table(folder / "predictions.parquet", pictures)
    base.write_json(folder / "tuned.json", found.tuned)
    outputs = {
        # Seconds are a measurement: two equal runs differ in them alone.
        name: base.digest(
            table.drop(columns="seconds", errors="ignore").to_csv(float_format="%.6g")
        )
        for name, table in tables.items()
    }
    for name in ("predictions.parquet", "tuned.json"):
        outputs[name] = base.file_digest(folder / name)
    left_out = {s.recording: s.reason for s in found.statuses if s.outcome == "skipped"}
    base.write_manifest(STAGE, params.dataset, outputs, left_out=left_out)
    return tables["results.csv"]


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    table.to_csv(temporary, index=False, float_format="%.6g")
    os.replace(temporary, path)


def _summary(results: pd.DataFrame) -> dict[str, Any]:
    """Median over recordings of each main figure, by task, metric and method."""
    single = results[results["recording"] != OVERALL]
    main = single[~single["metric"].str.contains("[", regex=False)]
    medians = main.groupby(["task", "metric", "method"])["value"].median()
    summary: dict[str, Any] = {}
    for (task, metric, method), value in medians.dropna().items():
        summary.setdefault(task, {}).setdefault(metric, {})[method] = round(float(value), 4)
    return {"median_over_recordings": summary, "recordings": single["recording"].nunique()}
