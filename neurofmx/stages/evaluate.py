"""evaluate: held-out scores with intervals, beside simple methods and the untrained model.

results.csv            a row per figure; tables in documents are made from it
results.json           the same for programs
results.html, .tex     its main figures as a page and as tables of a paper
tests.csv              ours against each other method, paired over recordings
nulls.csv              ours against what autocorrelation alone gives
predictions.parquet    answers to the test queries, for pictures
baselines/             what each baseline answered: kept until what it depends on changes
tuned.json             recording → task → method → what it chose on the valid split, or why it was
                       left out
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy import ndarray
from pydantic import Field, field_validator
from threadpoolctl import threadpool_limits

from neurofmx.config import StageParams
from neurofmx.data.cards import Card, load_card
from neurofmx.data.shards import Shards
from neurofmx.data.windows import SPLITS
from neurofmx.errors import UserError
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
from neurofmx.evaluation.levels import UNKNOWN
from neurofmx.evaluation.pages import OURS
from neurofmx.evaluation.probe import probe
from neurofmx.evaluation.problems import problem
from neurofmx.evaluation.statistics import contiguous_blocks
from neurofmx.evaluation.table import OVERALL, Score, Scored
from neurofmx.evaluation.tasks import SELF_KINDS, TASKS, SelfKind
from neurofmx.evaluation.told import told_by, told_by_line
from neurofmx.models import NeuroFMX, untrained
from neurofmx.models.adapter_files import load_adapter
from neurofmx.stages import base, fits
from neurofmx.stages.fits import STAGE
from neurofmx.stages.found import Found
from neurofmx.training.inference import Answers, answers

ZERO_SHOT = "zero_shot"
LINE = "line"  # of what is told of inputs: ridge, or between what is seen
PROBE, UNTRAINED = "probe", "untrained"  # linear readouts of frozen features


class Params(StageParams):
    """Parameters of the stage.

    Attributes:
        draws: Bootstrap draws of each interval.
        block: Shortest stretch that is drawn whole (s).
        methods: Baselines to hold it against, by name; `simple` stands for all that take seconds,
            `all` for trees and networks too.
        baselines: What the baselines choose from.
        workers: Processes that share the fits of baselines.
        threads: Threads of the processor, of each process; small matrices are fastest on one.
    """

    draws: int = Field(1000, ge=1000)
    block: float = Field(5.0, gt=0)
    methods: tuple[str, ...] = ("simple",)
    baselines: BaselineParams = BaselineParams()
    workers: int = Field(2, ge=1)
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
        core: As pretraining left it: the model itself where nothing was adapted.
        control: The same architecture with its initial weights.
        level: What was held out from pretraining.
    """

    model: NeuroFMX
    core: NeuroFMX
    control: NeuroFMX
    level: Level


def run(params: Params) -> None:
    """Score every recording that has a model.

    Raises:
        DataError: None has one.
    """
    with base.measured(STAGE) as report, threadpool_limits(params.threads):
        torch.set_num_threads(params.threads)
        card = load_card(params.dataset)
        if not card.tasks:
            raise UserError(
                f"the card {card.name} asks for nothing: without tasks the pipeline ends with "
                "`neurofmx run --until adapt`; add what is to be decoded under `tasks`"
            )
        shards = Shards(base.STORAGE / "tokenize")
        found = Found(params.draws, params.block, params.seed)
        cut = dict(sorted(base.read_manifest("tokenize")["outputs"].items()))
        without = {name: reason for name in cut if (reason := _modelless(name, card)) is not None}
        scored = [name for name in cut if name not in without]
        fits.fit(
            (each for name in scored for each in _posed(name, card, shards)),
            chosen(params.methods),
            params.baselines,
            params.workers,
            params.threads,
        )
        for name, key in cut.items():
            if name in without:
                found.statuses.append(base.Status(name, "skipped", key, 0.0, without[name]))
                continue
            started, decoder = time.perf_counter(), _decoder(name, card, params.seed)
            found.add_scores(_told_of_inputs(name, decoder, card, shards, params))
            posed = _posed(name, card, shards)
            for each, answered, left_out in _examine(posed, decoder, shards, params):
                found.add(each, answered, left_out, decoder.level)
            spent = round(time.perf_counter() - started, 3)
            found.statuses.append(base.Status(name, "done", key, spent))
            base.console.print(f"  {name}  {decoder.level}  {spent:.1f} s")
        report.values |= _summary(found.write(card))


def _modelless(recording: str, card: Card) -> str | None:
    """Why a recording has no model that could be scored on it; None where it has one."""
    parts = card.split.parts(recording)
    if "test" not in parts:
        return "trained on as a whole: the card tests other recordings"
    known = {*base.read_manifest("adapt")["outputs"], *base.read_manifest("pretrain")["recordings"]}
    if recording not in known and "train" in parts:
        return "kept out of pretraining, and adapt left no model for it"
    return None


def _decoder(recording: str, card: Card, seed: int) -> Decoder:
    """The pretrained model, or the adapted one where there is one."""
    model = core = NeuroFMX.from_pretrained(base.STORAGE / "pretrain")
    if recording in base.read_manifest("adapt")["outputs"]:
        model = load_adapter(core, base.STORAGE / "adapt" / recording)
    control = untrained(model.config, model.vocabulary, seed)
    seen = base.read_manifest("pretrain")
    return Decoder(model, core, control, held_out(recording, seen, card.name))


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


def _posed(recording: str, card: Card, shards: Shards) -> list[Problem]:
    """Its tasks that are shown in every split."""
    asked = [problem(recording, task, card, shards, fits.aligned) for task in card.tasks]
    return [each for each in asked if each is not None]


def _examine(
    problems: list[Problem], decoder: Decoder, shards: Shards, params: Params
) -> Iterator[tuple[Problem, list[Scored], dict[str, str]]]:
    """Each task of a recording with what every method answers, and why others do not."""
    if not problems:
        return
    test = problems[0].positions["test"]
    models = {OURS: decoder.model}
    if decoder.core is not decoder.model:
        models[ZERO_SHOT] = decoder.core
    told = {name: _timed(answers, model, shards, test) for name, model in models.items()}
    frozen = {PROBE: decoder.core, UNTRAINED: decoder.control}
    seen = {n: _timed(_features, m, shards, problems[0].positions) for n, m in frozen.items()}
    for each in problems:
        scored = [_told(name, models[name], *told[name], each) for name in models]
        left_out: dict[str, str] = {}
        if "train" in each.queries:
            for name, (features, cost) in seen.items():
                read, spent = _timed(probe, features[each.task], each, params.baselines)
                scored.append(Scored(name, read, cost + spent))
        for method in chosen(params.methods):
            if each.kind not in BASELINES[method].kinds:
                continue
            if (why := fits.lacks(each, method)) is not None:
                left_out[method] = why
            else:
                scored.append(fits.fitted(each, method))
        yield each, scored, left_out


def _told_of_inputs(
    recording: str, decoder: Decoder, card: Card, shards: Shards, params: Params
) -> list[Score]:
    """Scores of what is told of the inputs themselves, where the suite asks for it."""
    positions = {s: shards.positions(s, [recording]).tolist() for s in SPLITS}
    index = shards.index.iloc[positions["test"]]
    start, stop = (index[side].to_numpy() for side in ("start", "stop"))
    blocks = contiguous_blocks(start, stop, params.block)
    subject = fits.aligned(recording).subject
    made = []
    for name in TASKS.list_tasks(dataset=card.name):
        task = TASKS.get(name)
        if task.task_type not in SELF_KINDS:
            continue
        kind, signal = cast(SelfKind, task.task_type), task.target
        asked = (shards, positions["test"], kind, signal)
        told = {OURS: _timed(told_by, decoder.model, *asked)}
        told[UNTRAINED] = _timed(told_by, decoder.control, *asked)
        if positions["train"] and positions["valid"]:
            line = (decoder.control, shards, positions, kind, signal, params.baselines.alphas)
            told[LINE] = _timed(told_by_line, *line)
        made += [
            Score(
                recording,
                subject,
                f"{kind} {signal}",
                found.metric,
                method,
                decoder.level,
                found.score(blocks),
                seconds,
                0 if method == LINE else decoder.model.num_parameters(),
            )
            for method, (found, seconds) in told.items()
            if found.asked.any()
        ]
    return made


def _told(
    method: str, model: NeuroFMX, told: dict[str, Answers], seconds: float, problem: Problem
) -> Scored:
    """What a model answers; every method answers the same queries in the same order."""
    found, asked = told[problem.task], problem.queries["test"].time
    assert len(found.time) == len(asked), (len(found.time), len(asked))
    moved = asked - asked[0] + found.time[0]  # one that is tested as a whole has another clock
    assert np.abs(found.time - moved).max() < 1e-3, "the model answered other instants"
    size = model.num_parameters()
    return Scored(method, Prediction(found.prediction, size, spread=found.spread), seconds)


def _features(
    model: NeuroFMX, shards: Shards, positions: dict[str, list[int]]
) -> dict[str, dict[str, Float[ndarray, "_query width"]]]:
    """By task and split, what the heads read."""
    found = {split: answers(model, shards, rows) for split, rows in positions.items()}
    return {task: {s: found[s][task].features for s in found} for task in found["test"]}


def _timed(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work(*arguments)
    return result, time.perf_counter() - start


def _summary(results: pd.DataFrame) -> dict[str, Any]:
    """Median over recordings of each main figure, by task, metric and method."""
    single = results[results["recording"] != OVERALL]
    main = single[~single["metric"].str.contains("[", regex=False)]
    medians = main.groupby(["task", "metric", "method"])["value"].median()
    summary: dict[str, Any] = {}
    for (task, metric, method), value in medians.dropna().items():
        summary.setdefault(task, {}).setdefault(metric, {})[method] = round(float(value), 4)
    return {"median_over_recordings": summary, "recordings": single["recording"].nunique()}
