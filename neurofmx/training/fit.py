"""The loop: batches → model → objectives → engine, with the best weights by the valid split.

Everything random in step k (what is hidden, noise, dropout) is drawn from (seed, k) and the
windows, so that a run that was stopped and goes on takes the same steps as one that was not, and
no state of a random generator has to be kept. Dropout alone differs with the number of ranks.
"""

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from neurofmx.batches import Batch
from neurofmx.config import build
from neurofmx.data.loader import Collator, Loader
from neurofmx.data.order import window_seeds
from neurofmx.data.plan import Plan, in_order
from neurofmx.data.pool import Windows, by_dataset
from neurofmx.errors import Preempted, UserError
from neurofmx.models import NeuroFMX
from neurofmx.models.adapter_files import digest
from neurofmx.objectives import OBJECTIVES, Objective
from neurofmx.objectives.draws import Draws
from neurofmx.training.checkpoints import Checkpoints
from neurofmx.training.curriculum import Curriculum
from neurofmx.training.engines import Engine
from neurofmx.training.launch import Stop
from neurofmx.training.lesson import Lesson, means
from neurofmx.training.looks import left_unexplained
from neurofmx.training.needs import checked
from neurofmx.training.pace import Pace
from neurofmx.training.progress import Progress, save_weights, write_history, write_text
from neurofmx.training.recipe import FitParams
from neurofmx.training.spread import ENGINES

PROBLEMS = 5  # windows that could not be read whose reasons are kept; the others are counted
Log = Callable[[dict[str, float], int], None]


class Fit:
    """One training run in `folder`; made again after a stop, it goes on from the checkpoint.

    Args:
        model: Trained; parameters without `requires_grad` stay.
        shards: Windows.
        recordings: Ids to train on.
        folder: Where checkpoints, the history and the best weights go.
        code: Version of the code; a checkpoint of another version is not resumed.
        log: Called with (metrics, step), for a tracker.
        teacher: A larger model that knows the same channels and tasks, for the objective `distill`.
        domains: Domain of each recording, for the objectives of domains.
        begun: The model has learnt these tasks before: the weights that it begins with are kept
            where none that follow are better.

    Attributes:
        model: After `run`, the model with its best weights.
    """

    def __init__(
        self,
        model: NeuroFMX,
        shards: Windows,
        recordings: list[str],
        params: FitParams,
        seed: int,
        folder: Path,
        code: str = "",
        log: Log = lambda metrics, step: None,
        teacher: NeuroFMX | None = None,
        domains: dict[str, str] | None = None,
        begun: bool = False,
    ):
        self.model, self.shards, self.params, self.seed = model, shards, params, seed
        self.folder, self.code, self.log, self.begun = folder, code, log, begun
        train = shards.positions("train", recordings)
        parts = {name: shards.tokens[own] for name, own in by_dataset(shards, train).items()}
        seen = {name: float(len(t) * params.epochs_of(t)) for name, t in parts.items()}
        epochs = max(1, round(sum(seen.values()) / max(1, len(train))))
        weights = seen if len(seen) > 1 else None
        self.curriculum = Curriculum(params.phases, epochs, params.objectives, weights)
        names = self.curriculum.names
        self.teacher = checked(teacher, model, names)
        self.domains = {r: model.config.domains.index(d) for r, d in (domains or {}).items()}
        given, phases = params.loader, self.curriculum.windows
        self.plan = Plan(
            shards, train, seed, phases, **params.budget, sets_per_step=given.sets_per_step
        )
        self.curriculum.measure(self._steps_of_phases())
        self.valid = in_order(shards, shards.positions("valid", recordings), **params.budget)
        read = (model.rows, model.config.signals, given.on_corrupt, model.tasks)
        self.collate = Collator(shards, *read)
        self.key, self.steps = self._key(), len(self.plan)
        precision = torch.bfloat16 if params.precision == "bfloat16" else torch.float32
        objectives = {name: self._objective(name) for name in names}
        # Of a model that is trained in shards, what its best weights are put into.
        self._plain = copy.deepcopy(model) if ENGINES[params.engine].shards else model
        lesson = Lesson(model, objectives, params.weighting, self.teacher, precision)
        settings = (params.memory, params.optimizer, self.steps, params.accumulate)
        self.engine: Engine = ENGINES[params.engine](lesson, *settings)
        if self.teacher is not None:
            self.teacher.to(self.engine.device)
        self.loader = Loader(
            self.plan,
            self.collate,
            rank=self.engine.rank,
            world=self.engine.world,
            workers=given.workers,
            augmentation=given.augment,
            parts=params.accumulate,
        )
        kept = params.checkpoint
        self.checkpoints = Checkpoints(folder / "state", self.engine, kept.keep, kept.behind)
        self._idle = set(names)  # objectives that have found nothing to ask so far
        self.progress = self._resume()

    def run(self, title: str) -> Progress:
        """Train to the last step and leave the best weights in the model.

        Raises:
            Preempted: The process was told to stop; the run is saved.
            UserError: Too many steps had a loss that is no number.
            TransientError: A checkpoint could not be written.
        """
        progress, checkpoint = self.progress, self.params.checkpoint
        pace = Pace(title, progress.step, self.steps, self.engine, self.params.precision)
        batches: Iterator[Batch] = iter(self.loader)
        with Stop() as stop:
            if self.begun and progress.step == 0:
                self._look({})
            while parts := list(islice(batches, self.params.accumulate)):
                done = self._step(progress.step, parts, stop.asked)
                progress.step += 1
                done = done._replace(stop=done.stop or progress.step == checkpoint.stop_at)
                last = progress.step == self.steps
                if progress.step % self.params.valid_every == 0 or last:
                    self._look(done.losses)
                if progress.step % checkpoint.every == 0 or last or done.stop:
                    progress.loader = self.loader.state()
                    self.checkpoints.save(progress, wait=last or done.stop)
                pace.tell(progress, done.losses, self._tokens(parts))
                if done.stop and not last:
                    raise Preempted(
                        f"{title} was told to stop and is saved at step {progress.step} of "
                        f"{self.steps}: run the same command again to go on"
                    )
        self.checkpoints.settle()
        pace.close()
        self._finish()
        return progress

    def _step(self, step: int, parts: list[Batch], stop: bool) -> "Done":
        """One step from its parts; a loss that is no number leaves it out."""
        engine, lesson = self.engine, self.engine.lesson
        lot = self.curriculum.at(step)
        # Of this step, this rank and everything before the model alike.
        torch.manual_seed(_seed(self.seed, step, engine.rank))
        lesson.train()
        prepared = []
        for part in parts:
            self._note(part.skipped)
            seeds = torch.from_numpy(window_seeds(self.seed, step, part.windows))
            draws = Draws(seeds.to(engine.device))
            prepared.append(lesson.prepare(part.to(engine.device), draws, lot, self.domains))
        asked = engine.sum(torch.stack([lesson.asked(batch, lot) for batch in prepared]).sum(0))
        total, stopped = torch.zeros_like(asked), stop
        for number, batch in enumerate(prepared):
            last = number == len(prepared) - 1
            with engine.parts(last):
                loss, sums = engine.run(batch, asked / engine.world, lot, 1 / len(prepared))
                told = torch.tensor([0.0, float(stop)], device=engine.device)
                told[0] = ~loss.detach().isfinite()
                told = engine.sum(torch.cat([told, sums.flatten()]))
                stopped = bool(told[1] > 0)
                total += told[2:].view_as(total)
                if told[0] > 0:
                    self._bad(step, parts, loss)
                    return Done({"loss": float("nan")}, stopped)
                engine.backward(loss, last)
        if not np.isfinite(engine.step(step)):
            self._bad(step, parts, loss)
        found = means(total, asked)
        lesson.learn(found, asked)
        self._idle -= {n for n, x in zip(lesson.objectives, asked.sum(1), strict=True) if x > 0}
        losses = {
            n: x for n, x in zip(lesson.objectives, found.tolist(), strict=True) if n in lot.live
        }
        whole = sum(lot.objectives[name] * x for name, x in losses.items())
        return Done({"loss": whole} | losses, stopped)

    @torch.no_grad()
    def _look(self, losses: dict[str, float]) -> None:
        """What is unexplained of the valid split; keep the weights that leave the least."""
        engine, progress = self.engine, self.progress
        with engine.averaged():
            valid = left_unexplained(engine, self.collate, self.valid, self._note)
            progress.valid = valid
            lot = self.curriculum.at(max(0, progress.step - 1))
            row = {"step": progress.step, "phase": lot.phase} | losses | {"valid": valid}
            progress.history.append(row)
            if engine.rank == 0:
                self.log(losses | {"valid": valid}, progress.step)
                write_history(progress.history, self.folder / "history.csv")
            idle = self._idle & set(lot.live) if engine.rank == 0 and progress.step else set()
            for name in sorted(idle):
                Pace.say(f"the objective {name} has found nothing to ask in these windows so far")
            if valid < progress.best:
                progress.best = valid
                weights = engine.weights()
                if engine.rank == 0:
                    save_weights(weights, self.folder / "best.safetensors")
        engine.barrier()

    def _finish(self) -> None:
        """Put the best weights into the model."""
        best = load_file(self.folder / "best.safetensors")
        self.model = self._plain.to(self.engine.device)
        self.model.load_state_dict(best)
        self.engine.barrier()

    def _bad(self, step: int, parts: list[Batch], loss: Tensor) -> None:
        """Count a step that is left out, and keep its windows to be looked at.

        Raises:
            UserError: There were too many.
        """
        self.engine.forget()
        self.progress.bad += 1
        folder, rank = self.folder / "bad", self.engine.rank
        folder.mkdir(parents=True, exist_ok=True)
        windows = [window for part in parts for window in part.windows]
        said = {"step": step, "rank": rank, "loss": str(loss.item())}
        said |= {"windows": self.shards.keys(windows), "positions": [int(w) for w in windows]}
        write_text(folder / f"step-{step:08d}-{rank}.json", json.dumps(said, indent=1))
        torch.save(parts, folder / f"step-{step:08d}-{rank}.pt")
        if self.progress.bad > self.params.bad_steps:
            raise UserError(
                f"{self.progress.bad} steps had a loss or gradient that is no number, and "
                f"fit.bad_steps allows {self.params.bad_steps}; the windows of each are in "
                f"{folder}. Look at them, or lower optimizer.lr or optimizer.clip"
            )

    def _note(self, skipped: list[str]) -> None:
        """Count windows that could not be read, and say so."""
        self.progress.skipped += len(skipped)
        for problem in skipped:
            Pace.say(f"left out: {problem}")
            if len(self.progress.problems) < PROBLEMS and problem not in self.progress.problems:
                self.progress.problems.append(problem)

    def _tokens(self, parts: list[Batch]) -> int:
        """Tokens of this rank's windows of a step."""
        return int(sum(self.shards.tokens[np.array(part.windows)].sum() for part in parts))

    def _steps_of_phases(self) -> list[int]:
        steps = [0] * len(self.plan.phases)
        for epoch in range(self.plan.epochs):
            steps[self.plan.phase(epoch)] += self.plan.steps(epoch)
        return steps

    def _objective(self, name: str) -> Objective:
        kind = OBJECTIVES[name]
        options = build(kind.Config, self.params.options.get(name, {}), f"options.{name}")
        return kind(list(self.model.config.tasks), list(self.model.config.signals), options)

    def _resume(self) -> Progress:
        """The newest whole checkpoint of the same key, or a new start."""
        found = self.checkpoints.newest()
        if found is not None:
            path, progress = found
            if progress.key == self.key or self.params.checkpoint.adopt:
                progress.key = self.key
                self.engine.load(path)
                self.loader.restore(progress.loader)
                return progress
            Pace.say(
                f"the checkpoint in {path.parent} is of other windows, parameters, weights or "
                "code: training starts anew"
            )
        self.checkpoints.clear()
        return Progress(self.key)

    def _key(self) -> str:
        """Hash of all that the run depends on, the weights that it starts from included."""
        # What may differ between two parts of a run, since no step depends on it.
        free: Any = {"loader": {"workers", "on_corrupt", "cache_mb"}, "launch": True}
        free |= {"checkpoint": True, "bad_steps": True, "memory": {"recompute", "offload_folder"}}
        content = [self.params.model_dump_json(exclude=free), self.model.config.model_dump_json()]
        content += [str(self.seed), self.plan.hash, self.code]
        content += [digest(self.teacher)] if self.teacher is not None else []
        content += [n for n, p in self.model.named_parameters() if p.requires_grad]
        state = {k: v.detach().cpu().contiguous() for k, v in self.model.state_dict().items()}
        return hashlib.sha256("|".join(content).encode() + save(state)).hexdigest()


class Done(NamedTuple):
    """What came of a step: losses, and whether some rank was told to stop."""

    losses: dict[str, float]
    stop: bool


def _seed(*parts: int) -> int:
    """A seed from several numbers, well mixed."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)
