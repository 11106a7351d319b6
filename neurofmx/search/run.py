"""Ray Tune chooses keys and stops trials; what is trained and kept is ours.

    random         keys are drawn, and every trial is trained to its end
    asha           the same, but after 1, 3, 9, … times `grace` looks at the valid split a trial
                   goes on only if it is in the better third of those that came as far (Li et al.
                   2018, arXiv:1810.05934)
    optuna         keys are drawn where they did well so far, by a tree-structured Parzen estimator
                   (Bergstra et al. 2011; Akiba et al. 2019, arXiv:1907.10902)
    optuna+asha    both
    pbt            a population: every `grace` looks all wait for the last, and those in the worst
                   quarter take over the state of one in the best quarter (weights, optimiser,
                   place in schedule and windows) and go on with its keys, changed a little
                   (Jaderberg et al. 2017, arXiv:1711.09846)

When a search goes on, trials that are settled tell Tune their losses once more, without training.
"""

import logging
import math
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from neurofmx.config import PARAMS_FILE, StageParams, load_params, read_yaml
from neurofmx.errors import Preempted, UserError
from neurofmx.search.space import STAGE, Range, SearchParams, changed, check, text
from neurofmx.search.trial import Trial
from neurofmx.search.trials import Trials
from neurofmx.stages import base

try:
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining
    from ray.tune.search.basic_variant import BasicVariantGenerator
    from ray.tune.search.optuna import OptunaSearch
except ImportError as error:
    raise UserError("a search needs Ray Tune: pip install 'neurofmx[search]'") from error

LOOKS = 10**6  # more than any trial has
REDUCTION = 3  # asha lets one in so many go on
RAY = "ray"  # folder of its own files, gone at the end
STATES = 3  # of each trial that others may take over
MEMORY = 2**27  # bytes of Ray's store, through which nothing large goes
SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",  # no tables of its own
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # and no files
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial may end before it has a loss
}


def search(params: SearchParams, folder: Path, address: str | None = None) -> Trials:
    """Train every trial that is not settled, in the project that is the working folder.

    Args:
        folder: Where trials and results go; trials that lie there are gone on with.
        address: Of a Ray cluster that shares this file system; None starts Ray here.

    Raises:
        UserError: A key cannot be searched, or what lies in the folder is of another search.
        Preempted: It was stopped; what is finished is kept.
    """
    from neurofmx.stages import pretrain  # late: it takes seconds

    content = read_yaml(PARAMS_FILE)
    check(params, content)
    fixed = changed(content, dict.fromkeys(params.keys))
    shared = {
        "searched keys": {key: spec.model_dump() for key, spec in params.keys.items()},
        "parameters": {key: fixed.get(key) for key in (*StageParams.model_fields, STAGE)},
        "windows": base.read_manifest("tokenize")["outputs"],
        "code": base.code_version(*pretrain.CODE),
    }
    trials = Trials(folder.resolve(), params, shared)
    count = max(params.trials, len(trials.all))
    if len(trials.settled) < count:
        every = load_params(STAGE, pretrain.Params).fit.valid_every
        furthest = max(
            (len(t.looks) for t in trials.all.values() if t.state == "running"), default=0
        )
        work = Work(trials.folder, Path.cwd(), params, content, every, trials.settled, furthest)
        with running(params, address), _scratch(trials.folder / RAY):
            _tuner(work, trials, count).fit()
    for name in trials.settled:  # nothing goes on from there
        shutil.rmtree(trials.all[name].made / "state", ignore_errors=True)
    trials.write()
    left = count - sum(trial.state != "running" for trial in trials.all.values())
    if left:
        raise Preempted(
            f"the search was stopped with {left} of {count} trials left; those that are finished "
            f"are in {trials.folder}. Run the same command again to go on"
        )
    return trials


@dataclass(frozen=True)
class Work:
    """What every trial has to know; it travels to Ray's processes.

    Attributes:
        folder: Of the search.
        root: Of the project.
        params: The search.
        content: Of the project's `params.yaml`.
        valid_every: Steps between looks at the valid split.
        settled: Names of trials that are not trained again.
        furthest: Most looks of the others when the search went on: those of a population meet
            beyond them.
    """

    folder: Path
    root: Path
    params: SearchParams
    content: dict[str, Any]
    valid_every: int
    settled: set[str]
    furthest: int

    def train(self, config: dict[str, Any]) -> None:
        """Train the trial that Tune runs in this process."""
        name = tune.get_context().get_trial_name()
        trial, least = Trial(self.folder / name, self.params.values(config)), math.inf

        def tell(valid: float, look: int) -> None:
            nonlocal least
            least = min(least, valid)
            if math.isfinite(least):
                tune.report({"valid": least, "look": look})

        pbt = self.params.algorithm == "pbt"
        if name not in self.settled:
            self._train_in_pieces(trial) if pbt else trial.train(self.root, self.content, tell)
        elif not pbt:  # a population that goes on is that of the others
            for look, (_, valid) in enumerate(trial.looks, start=1):
                tell(valid, look)

    def _train_in_pieces(self, trial: Trial) -> None:
        given = tune.get_checkpoint()  # of this trial, or of a better one
        if given is not None:
            shutil.rmtree(trial.made, ignore_errors=True)
            given.to_directory(trial.made)
        grace, ended = self.params.grace, False
        while not ended:
            look = (max(len(trial.looks), self.furthest) // grace + 1) * grace
            ended = trial.train(self.root, self.content, stop_at=look * self.valid_every)
            if not ended:
                valid, state = trial.looks[-1][1], tune.Checkpoint.from_directory(trial.made)
                tune.report(
                    {"valid": valid if math.isfinite(valid) else math.inf}, checkpoint=state
                )


class _Keep(tune.Callback):
    """Writes the table as trials come and go, and says a line of each that ended."""

    def __init__(self, trials: Trials, count: int):
        self.trials, self.count, self.settled = trials, count, trials.settled
        self.since: dict[str, float] = {}

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial begins, or goes on, maybe with keys like those of another one."""
        if str(trial) not in self.settled:
            row = self._row(trial)
            row.keys, row.state, row.reason = self._keys(trial), "running", ""
            self.since[str(trial)] = time.monotonic()
            self.trials.write()

    def on_trial_result(
        self, iteration: int, trials: list, trial: Any, result: dict, **info: Any
    ) -> None:
        """A trial looked at the valid split."""
        now = time.monotonic()
        if begin := self.since.get(str(trial)):
            self._row(trial).seconds += now - begin
            self.since[str(trial)] = now

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial was trained to its end, or stopped."""
        self.on_trial_result(iteration, trials, trial, {})
        whole = (self._row(trial).made / "manifest.json").exists()  # which the stage writes last
        self._end(trial, "finished" if whole else "stopped")

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial failed."""
        self.on_trial_result(iteration, trials, trial, {})
        *_, said = Path(trial.error_file).read_text().strip().splitlines()
        self._end(trial, "failed", self._row(trial).error or said)

    def _keys(self, trial: Any) -> dict[str, Any]:
        return self.trials.params.values(trial.config)

    def _row(self, trial: Any) -> Trial:
        new = Trial(self.trials.folder / str(trial), self._keys(trial))
        return self.trials.all.setdefault(str(trial), new)

    def _end(
        self, trial: Any, state: Literal["finished", "stopped", "failed"], why: str = ""
    ) -> None:
        if str(trial) in self.settled:
            return
        row = self._row(trial)
        row.state, row.reason = state, why
        self.trials.write()
        done = sum(t.state != "running" for t in self.trials.all.values())
        keys = "  ".join(f"{k.removeprefix('pretrain.')}={text(v)}" for k, v in row.keys.items())
        loss = f"valid {self.trials.loss(row):.4f}  " if row.looks else ""
        said = f"{done}/{self.count} {trial}  {state}  {loss}{row.seconds:.0f} s  {keys}  {why}"
        base.console.print(f"  {said}".rstrip(), markup=False)


def _tuner(work: Work, trials: Trials, count: int) -> tune.Tuner:
    params, known = work.params, sorted(trials.all)
    new = [f"trial-{number:03d}" for number in range(count)]
    names = iter([*known, *(name for name in new if name not in known)])
    space = {key: _domain(spec) for key, spec in params.keys.items()}
    points = [params.config(trials.all[name].keys) for name in known]
    if params.algorithm.startswith("optuna"):
        chosen: Any = OptunaSearch(points_to_evaluate=points, seed=params.seed + len(points))
    else:
        for number in range(len(points), count):
            rng = np.random.default_rng([params.seed, number])
            points.append({key: domain.sample(random_state=rng) for key, domain in space.items()})
        # A population is made at once: those that wait for a place are paused.
        most = 0 if params.algorithm == "pbt" else params.parallel
        chosen = BasicVariantGenerator(points_to_evaluate=points, max_concurrent=most)
    return tune.Tuner(
        tune.with_resources(
            lambda config: work.train(config), {"cpu": params.cpus, "gpu": params.gpus}
        ),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="valid",
            mode="min",
            num_samples=count,
            max_concurrent_trials=params.parallel,
            search_alg=chosen,
            scheduler=_scheduler(params, space),
            trial_name_creator=lambda trial: next(names),
            trial_dirname_creator=str,
        ),
        run_config=tune.RunConfig(
            name=RAY,
            storage_path=str(trials.folder),
            callbacks=[_Keep(trials, count)],
            checkpoint_config=tune.CheckpointConfig(num_to_keep=STATES),
            verbose=0,
        ),
    )


def _domain(spec: Range) -> Any:
    if spec.choice is not None:
        return tune.choice([text(value) for value in spec.choice])
    low, high = spec.ends
    if spec.integer:
        return tune.randint(int(low), int(high) + 1)
    return tune.loguniform(low, high) if spec.log else tune.uniform(low, high)


def _scheduler(params: SearchParams, space: dict[str, Any]) -> Any:
    """What stops trials or has them exchange their states, if anything does."""
    if params.algorithm.endswith("asha"):
        return ASHAScheduler(
            "look", max_t=LOOKS, grace_period=params.grace, reduction_factor=REDUCTION
        )
    if params.algorithm != "pbt":
        return None
    choices = {key: [text(v) for v in r.choice] for key, r in params.keys.items() if r.choice}
    return PopulationBasedTraining(
        "training_iteration",  # which is a piece
        perturbation_interval=1,
        resample_probability=0.0,  # a good state with any other learning rate is soon a bad one
        synch=True,
        hyperparam_mutations=space | choices,
        custom_explore_fn=lambda config: params.config(params.values(config)),  # within the ends
    )


@contextmanager
def _scratch(folder: Path) -> Iterator[None]:
    """A folder is not there before and after, even if it was left by a search that was killed."""
    shutil.rmtree(folder, ignore_errors=True)
    yield
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running(params: SearchParams, address: str | None) -> Iterator[None]:
    """Ray runs inside: as it did before, at an address, or on this machine."""
    os.environ |= SETTINGS
    warnings.filterwarnings("ignore", message="Consider boosting PBT performance")
    for name in ("ray", "ray.tune", "optuna"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    started = not ray.is_initialized()
    if started:
        here: dict[str, Any] = {"num_cpus": math.ceil(params.parallel * params.cpus)}
        here |= {"include_dashboard": False, "object_store_memory": MEMORY}
        where = {"address": address} if address else {"address": "local", **here}
        ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **where)
    try:
        yield
    finally:
        if started:
            ray.shutdown()
