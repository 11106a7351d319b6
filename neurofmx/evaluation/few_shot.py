"""How few trials of a new recording are enough: scores over the number K of labelled shots.

A shot is a trial (an interval of the card's `windows.within`), or a stretch as long as a window
where a recording is cut without any. Shots are drawn from the train part; of one draw the first K
are taken, so that smaller sets are parts of larger ones. Of classes K of each are taken.

Nobody sees more: settings and weights are chosen on the last third of the K shots, and where K is
below 3 on all of them. All methods answer the whole test part.

    ridge, logistic   on the K shots alone
    scratch           our architecture, from its initial weights
    head, unit_id, lora, bottleneck, full
                      adapters of the pretrained core (rows of `ADAPTERS`)
    zero_shot         the core as it is, at K = 0

Source: nested subsets of labelled trials and a control from scratch, Azabou et al. 2023 (POYO),
arXiv:2310.16046; few-shot splits, Karpowicz et al. 2024 (FALCON), doi:10.1101/2024.09.15.613126.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from neurofmx.config import Params
from neurofmx.data import store
from neurofmx.data.cards import Card
from neurofmx.data.pool import Chosen
from neurofmx.data.shards import Shards
from neurofmx.errors import DataError, UserError
from neurofmx.evaluation.baselines import BASELINES, BaselineParams, Prediction, Problem
from neurofmx.evaluation.metrics import MAIN, METRICS
from neurofmx.evaluation.queries import read_queries
from neurofmx.models import NeuroFMX, untrained, vocabulary_of
from neurofmx.models.adapters import ADAPTERS, AdapterName, AdapterOptions, adapt
from neurofmx.training.fit import Fit
from neurofmx.training.inference import answers
from neurofmx.training.recipe import FitParams, adapting, recipe
from neurofmx.types import AlignedRecording, Intervals

SCRATCH = "scratch"
ZERO_SHOT = "zero_shot"
VALID = 1 / 3  # share of the shots by which settings and weights are chosen
COLUMNS = (
    *("dataset", "recording", "task", "metric", "method", "shots", "draw", "seed"),
    *("value", "seconds", "parameters"),
)
Tell = Callable[[dict[str, Any]], None]


class FewShotParams(Params):
    """What is compared, and how often.

    Attributes:
        shots: Numbers K of labelled shots.
        draws: How often shots are drawn.
        seeds: Of every draw, for methods whose training is random.
        methods: Baselines, adapters and scratch.
        fit: Training of each adapter but `full`.
        whole: Training of all weights: of `full` and from scratch alike.
        baselines: What baselines choose from.
        options: Sizes of what adapters add.
    """

    shots: tuple[int, ...] = (1, 5, 10, 25, 50)
    draws: int = Field(10, ge=1)
    seeds: int = Field(5, ge=1)
    methods: tuple[str, ...] = ("ridge", "logistic", SCRATCH, "head", "unit_id", "lora", "full")
    fit: FitParams = adapting(epochs=30)
    whole: FitParams = recipe(epochs=30)
    baselines: BaselineParams = BaselineParams()
    options: AdapterOptions = AdapterOptions()

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        known = [SCRATCH, *ADAPTERS, *BASELINES]
        unknown = [name for name in methods if name not in known]
        if unknown:
            raise ValueError(f"unknown {', '.join(unknown)}; choose from {', '.join(known)}")
        return methods

    @field_validator("shots")
    @classmethod
    def _positive(cls, shots: tuple[int, ...]) -> tuple[int, ...]:
        if not shots or min(shots) < 1:
            raise ValueError(f"numbers of shots are 1 or more, and were {shots}")
        return tuple(sorted(set(shots)))


@dataclass(frozen=True)
class Target:
    """A recording that the core has never seen, and what is asked of it.

    Attributes:
        shots: Train windows of each shot, in time order.
        labels: Class of each shot, 0 where the task asks for numbers.
    """

    recording: AlignedRecording
    card: Card
    shards: Shards
    shots: list[list[int]]
    labels: dict[str, list[int]]
    test: list[int]

    @property
    def tasks(self) -> list[str]:
        """Those that the recording shows in train and test."""
        return list(self.labels)


class FewShotEvaluator:
    """Curves of scores over shots.

    Args:
        model: Pretrained, without the recordings that it is evaluated on.
        card: Of the data set.
        storage: Folder of the stages, of which align and tokenize have run.
        params: What is compared.
        seed: Of draws and trainings.
    """

    def __init__(
        self,
        model: NeuroFMX,
        card: Card,
        storage: Path | str = "storage",
        params: FewShotParams | None = None,
        seed: int = 0,
    ):
        self.model, self.card, self.storage = model, card, Path(storage)
        self.params, self.seed = params or FewShotParams(), seed
        self.shards = Shards(self.storage / "tokenize")

    def evaluate(
        self, recordings: list[str], done: pd.DataFrame | None = None, tell: Tell = lambda row: None
    ) -> pd.DataFrame:
        """A row for each recording, task, method, number of shots, draw and seed.

        Args:
            recordings: That the model has never seen.
            done: Rows of an earlier run, which are not computed again.
            tell: Called with each row when it is there.

        Raises:
            UserError: The model has seen a recording: then nothing is few about it.
            DataError: A recording has no train or no test part.
        """
        known = {owner for part in self.model.vocabulary.values() for owner, _ in part.keys}
        for name in set(recordings) & known:
            raise UserError(
                f"the model was trained on {name!r}, so its curve would say nothing: keep the "
                "recording out of pretraining (the card's `adapt`)"
            )
        rows = [] if done is None else done.to_dict("records")
        have = {_key(row) for row in rows}
        for name in recordings:
            target = self._target(name)
            for row in self._rows(target, have):
                rows.append(row)
                tell(row)
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def jobs(self, target: Target) -> Iterator[tuple[str, int, int, int]]:
        """Method, shots, draw and seed of all that is to be fitted; those with enough shots."""
        for shots in self.params.shots:
            if not any(_enough(target, task, shots) for task in target.tasks):
                continue
            for draw in range(self.params.draws):
                for method in self.params.methods:
                    seeds = 1 if method in BASELINES else self.params.seeds
                    yield from ((method, shots, draw, seed) for seed in range(seeds))

    def _rows(self, target: Target, have: set[tuple]) -> Iterator[dict[str, Any]]:
        for job in [(ZERO_SHOT, 0, 0, 0), *self.jobs(target)]:
            lacking = [
                task
                for task in self._asked(target, *job[:2])
                if (target.recording.id, task, *job) not in have
            ]
            if lacking:
                started = time.perf_counter()
                yield from self._scored(target, self._answers(target, lacking, *job), job, started)

    def _asked(self, target: Target, method: str, shots: int) -> list[str]:
        """Tasks that a method answers, of those that have as many shots."""
        tasks = [task for task in target.tasks if _enough(target, task, shots)]
        if method not in BASELINES:
            return tasks
        kinds = BASELINES[method].kinds
        return [task for task in tasks if self.shards.tasks[task]["kind"] in kinds]

    def _scored(
        self,
        target: Target,
        found: dict[str, Prediction],
        job: tuple[str, int, int, int],
        started: float,
    ) -> Iterator[dict[str, Any]]:
        seconds = round(time.perf_counter() - started, 3)
        about = dict(zip(("method", "shots", "draw", "seed"), job, strict=True))
        for task, prediction in found.items():
            truth = read_queries(self.shards, task, target.test).truth
            metric = MAIN[self.shards.tasks[task]["kind"]]
            value = float(METRICS[metric].score(truth, prediction.values).mean())
            yield {
                "dataset": self.card.name,
                "recording": target.recording.id,
                "task": task,
                "metric": metric,
                **about,
                "value": value,
                "seconds": seconds,
                "parameters": prediction.parameters,
            }

    def _answers(
        self, target: Target, lacking: list[str], method: str, shots: int, draw: int, seed: int
    ) -> dict[str, Prediction]:
        """To the tasks that are lacking; where the method is ours, one fit serves all tasks."""
        if method in BASELINES:
            fit = BASELINES[method].fit
            problems = {task: self._problem(target, task, shots, draw) for task in lacking}
            return {task: fit(p, self.params.baselines) for task, p in problems.items()}
        model, size = self.model, 0
        if method != ZERO_SHOT:
            tasks = self._asked(target, method, shots)
            train, valid = self._drawn(target, tasks, shots, draw)
            model = self._trained(target, method, train, valid, seed)
            size = model.num_parameters(trained=True)
        told = answers(model, self.shards, target.test)
        return {task: Prediction(told[task].prediction, size) for task in lacking}

    def _trained(
        self, target: Target, method: str, train: list[int], valid: list[int], seed: int
    ) -> NeuroFMX:
        name = target.recording.id
        known, seed = vocabulary_of(self.shards, [name]), 1000 * self.seed + seed
        if method == SCRATCH:
            model = untrained(self.model.config, known, seed)
        else:
            adapter = cast(AdapterName, method)
            model = adapt(self.model, known, adapter, seed, self.params.options)
        fit = self.params.whole if method in (SCRATCH, "full") else self.params.fit
        windows = Chosen(self.shards, {"train": train, "valid": valid})
        with tempfile.TemporaryDirectory() as folder:
            trained = Fit(model, windows, [name], fit, seed, Path(folder))
            trained.run("")
        return trained.model

    def _problem(self, target: Target, task: str, shots: int, draw: int) -> Problem:
        train, valid = self._drawn(target, [task], shots, draw)
        positions = {"train": train, "valid": valid, "test": target.test}
        queries = {s: read_queries(self.shards, task, p) for s, p in positions.items()}
        return Problem(target.recording, self.card, task, self.shards, positions, queries)

    def _drawn(
        self, target: Target, tasks: list[str], shots: int, draw: int
    ) -> tuple[list[int], list[int]]:
        """Windows of the first K shots of a draw, and those of them that choose."""
        rng = np.random.default_rng([self.seed, draw])
        order = rng.permutation(len(target.shots)).tolist()
        chosen = sorted({k for task in tasks for k in _first(target.labels[task], order, shots)})
        chosen = [k for k in order if k in set(chosen)]  # in the order of the draw
        last = len(chosen) - int(VALID * len(chosen))
        train, valid = chosen[:last], chosen[last:] or chosen
        return _windows(target, train), _windows(target, valid)

    def _target(self, name: str) -> Target:
        aligned = store.read(self.storage / "align" / f"{name}.zarr")
        assert isinstance(aligned, AlignedRecording)
        train, test = (self.shards.positions(s, [name]).tolist() for s in ("train", "test"))
        shots = _shots(aligned, self.card, self.shards, train)
        labels = {}
        for task in self.shards.tasks:
            asked = [read_queries(self.shards, task, shot).truth for shot in shots]
            if len(read_queries(self.shards, task, test)) and any(map(len, asked)):
                labels[task] = [_label(truth, self.shards.tasks[task]) for truth in asked]
        if not labels:
            raise DataError(
                f"recording {name}: no task is asked in both its train part ({len(train)} windows) "
                f"and its test part ({len(test)} windows); few shots need both"
            )
        return Target(aligned, self.card, self.shards, shots, labels, test)


def _key(row: dict[str, Any]) -> tuple:
    return tuple(row[n] for n in ("recording", "task", "method", "shots", "draw", "seed"))


def _shots(
    recording: AlignedRecording, card: Card, shards: Shards, train: list[int]
) -> list[list[int]]:
    """Train windows by shot; windows that reach beyond theirs are left out."""
    index = shards.index.iloc[train]
    start, stop = index["start"].to_numpy(), index["stop"].to_numpy()
    if card.windows.within:
        table = recording.signals[card.windows.within]
        assert isinstance(table, Intervals)
        number = np.searchsorted(np.sort(table.start + card.windows.begin), start + 1e-6)
        inside = np.ones(len(start), bool)
    else:
        length = card.windows.duration
        number = np.floor((start - start.min()) / length + 1e-6).astype(int)
        inside = stop <= start.min() + (number + 1) * length + 1e-6
    rows = np.array(train)[inside]
    return [rows[number[inside] == k].tolist() for k in np.unique(number[inside])]


def _label(truth: np.ndarray, task: dict[str, Any]) -> int:
    """Class of a shot, 0 for numbers, −1 where it is not asked."""
    if len(truth) == 0:
        return -1
    return int(truth[0, 0]) if "classes" in task else 0


def _first(labels: list[int], order: list[int], shots: int) -> list[int]:
    """The first shots of an order, as many of each class."""
    return [
        k
        for label in set(labels) - {-1}
        for k in [shot for shot in order if labels[shot] == label][:shots]
    ]


def _enough(target: Target, task: str, shots: int) -> bool:
    """Whether there are as many shots of every class."""
    labels = np.array(target.labels[task])
    return all((labels == label).sum() >= shots for label in set(labels.tolist()) - {-1})


def _windows(target: Target, shots: list[int]) -> list[int]:
    return sorted(window for shot in shots for window in target.shots[shot])
