"""How few trials of a new recording are enough: scores over the number K of labelled shots.

Nobody sees more than the shots (`neurofmx.evaluation.shots`): settings and weights are chosen on
the last third of the K shots, and where K is below 3 on all of them. All methods answer the whole
test part or, where `test_on` names recordings with the same channels, theirs in its place: how long
serves what was learnt from few shots of one session.

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
from pathlib import Path
from typing import Any, cast

import pandas as pd
from pydantic import Field, field_validator

from neurofmx.config import Params
from neurofmx.data.cards import Card
from neurofmx.data.pool import Chosen
from neurofmx.data.shards import Shards
from neurofmx.errors import UserError
from neurofmx.evaluation.baselines import BASELINES, BaselineParams, Prediction, Problem
from neurofmx.evaluation.metrics import MAIN, METRICS
from neurofmx.evaluation.problems import laid
from neurofmx.evaluation.queries import read_queries
from neurofmx.evaluation.shots import Target, target_of
from neurofmx.models import NeuroFMX, untrained, vocabulary_of
from neurofmx.models.adapters import ADAPTERS, AdapterName, AdapterOptions, adapt
from neurofmx.training.fit import Fit
from neurofmx.training.inference import answers
from neurofmx.training.recipe import FitParams, adapting, recipe

SCRATCH = "scratch"
ZERO_SHOT = "zero_shot"
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
        test_on: Patterns of ids of recordings that are answered in place of the test part of the
            one that the shots are of; they have the same channels (`same` in the card).
    """

    shots: tuple[int, ...] = (1, 5, 10, 25, 50)
    draws: int = Field(10, ge=1)
    seeds: int = Field(5, ge=1)
    methods: tuple[str, ...] = ("ridge", "logistic", SCRATCH, "head", "unit_id", "lora", "full")
    fit: FitParams = adapting(epochs=50, epoch_steps=4)
    whole: FitParams = recipe()
    baselines: BaselineParams = BaselineParams()
    options: AdapterOptions = AdapterOptions()
    test_on: tuple[str, ...] = ()

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
            target = self.target(name)
            for row in self._rows(target, have):
                rows.append(row)
                tell(row)
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def jobs(self, target: Target) -> Iterator[tuple[str, int, int, int]]:
        """Method, shots, draw and seed of all that is to be fitted; those with enough shots."""
        for shots in self.params.shots:
            if not any(target.enough(task, shots) for task in target.tasks):
                continue
            for draw in range(self.params.draws):
                for method in self.params.methods:
                    seeds = 1 if method in BASELINES else self.params.seeds
                    yield from ((method, shots, draw, seed) for seed in range(seeds))

    def target(self, name: str) -> Target:
        """A recording, and what is asked of it."""
        return target_of(name, self.card, self.shards, self.storage, self.params.test_on)

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
        tasks = [task for task in target.tasks if target.enough(task, shots)]
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
            train, valid = target.drawn(tasks, shots, self.seed, draw)
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
            of = (windows, [name], fit, seed, Path(folder))
            trained = Fit(model, *of, begun=method != SCRATCH)
            trained.run("")
        return trained.model

    def _problem(self, target: Target, task: str, shots: int, draw: int) -> Problem:
        train, valid = target.drawn([task], shots, self.seed, draw)
        positions = {"train": train, "valid": valid, "test": target.test}
        queries = {s: read_queries(self.shards, task, p) for s, p in positions.items()}
        asked = (self.card, task, self.shards, positions, queries)
        if target.others:
            return laid([target.recording, *target.others], *asked)
        return Problem(target.recording, *asked)


def _key(row: dict[str, Any]) -> tuple:
    return tuple(row[n] for n in ("recording", "task", "method", "shots", "draw", "seed"))
