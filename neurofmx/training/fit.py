"""The loop: batches → model → objectives → engine, with the best weights by the valid split.

Everything random in step k (which windows, what is hidden, dropout) is drawn from (seed, k), so
that a run that was killed and goes on takes the same steps as one that was not.
"""

import dataclasses
import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from safetensors.torch import load_file, save
from torch import Generator
from tqdm import tqdm

from neurofmx.batches import Batch, ModelOutput
from neurofmx.config import Params
from neurofmx.data.loader import Collator, Loader, LoaderParams
from neurofmx.data.mixture import Phase
from neurofmx.data.plan import Plan, in_order
from neurofmx.data.pool import Windows
from neurofmx.errors import UserError
from neurofmx.models import NeuroFMX
from neurofmx.models.adapter_files import digest
from neurofmx.objectives import LOOKS_AT, OBJECTIVES
from neurofmx.objectives.decode import unexplained
from neurofmx.objectives.forecast import forecast
from neurofmx.objectives.masked import hide
from neurofmx.training.engines import ENGINES, Engine, EngineName, OptimizerParams
from neurofmx.training.progress import Progress, save_weights, write_history, write_text

PROBLEMS = 5  # windows that could not be read whose reasons are kept; the others are counted


class FitParams(Params):
    """How long and for what a model is trained.

    Attributes:
        engine: Row of `ENGINES`.
        precision: Of products; bfloat16 is by autocast: weights, their gradients, losses and the
            optimiser stay in float32.
        epochs: Times that every train window is seen; the steps follow from it. Phases of a
            curriculum share them out.
        batch_size: Windows of a step at most, over all ranks; None where loader.tokens_per_step
            says how large it is.
        loader: How windows come to the model.
        objectives: Weight of each row of `OBJECTIVES`; 0 leaves it out.
        hide_channels, hide_patches: Shares hidden from the model in training.
        valid_every: Steps between looks at the valid split; the best weights are kept.
        save_every: Steps between checkpoints.
    """

    engine: EngineName = "local"
    precision: Literal["float32", "bfloat16"] = "float32"
    epochs: int = Field(20, ge=1)
    batch_size: int | None = Field(32, ge=1)
    loader: LoaderParams = LoaderParams()
    optimizer: OptimizerParams = OptimizerParams()
    objectives: dict[str, float] = {
        "decode": 1.0,
        "masked": 0.1,
        "forecast": 0.1,
        "contrastive": 0.0,
        "distill": 0.0,
        "diffusion": 0.0,
    }
    hide_channels: float = 0.1
    hide_patches: float = 0.1
    valid_every: int = 50
    save_every: int = 50

    @property
    def budget(self) -> dict[str, int | None]:
        """How large a step is."""
        return {"batch_size": self.batch_size, "tokens_per_step": self.loader.tokens_per_step}

    @model_validator(mode="after")
    def _usable(self) -> "FitParams":
        if (self.batch_size is None) == (self.loader.tokens_per_step is None):
            raise ValueError(
                "give either batch_size (windows) or loader.tokens_per_step, and leave the other "
                f"empty; they were {self.batch_size} and {self.loader.tokens_per_step}"
            )
        phases = self.loader.phases
        if phases and sum(phase.epochs for phase in phases) != self.epochs:
            raise ValueError(f"the epochs of loader.phases do not add up to epochs, {self.epochs}")
        return self


class Fit:
    """One training run in `folder`; made again after a kill, it goes on from the checkpoint.

    Args:
        model: Trained in place; parameters without `requires_grad` stay.
        shards: Windows.
        recordings: Ids to train on.
        folder: Where checkpoints, the history and the best weights go.
        code: Version of the code; a checkpoint of another version is not resumed.
        log: Called with (metrics, step), for a tracker.
        teacher: A larger model that knows the same channels and tasks, for the objective `distill`.
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
        log: Callable[[dict[str, float], int], None] = lambda metrics, step: None,
        teacher: NeuroFMX | None = None,
    ):
        self.model, self.shards, self.params, self.seed = model, shards, params, seed
        self.folder, self.code, self.log = folder, code, log
        self.weights = {name: w for name, w in params.objectives.items() if w > 0}
        unknown = set(self.weights) - set(OBJECTIVES)
        if unknown:
            raise UserError(f"unknown objectives {unknown}; choose from {', '.join(OBJECTIVES)}")
        if "diffusion" in self.weights and model.prior is None:
            raise UserError(
                "the objective diffusion trains a prior, and the model has none: set model.prior "
                "({} takes its defaults), or give the objective the weight 0"
            )
        self.teacher = self._checked(teacher)
        given = params.loader
        phases = given.phases or [Phase(epochs=params.epochs)]
        train = shards.positions("train", recordings)
        self.plan = Plan(shards, train, seed, phases, **params.budget)
        self.valid = in_order(shards, shards.positions("valid", recordings), **params.budget)
        read = (model.rows, model.config.signals, given.on_corrupt, model.tasks)
        self.collate = Collator(shards, *read)
        key, self.steps = self._key(), len(self.plan)
        self.engine: Engine = ENGINES[params.engine](model, params.optimizer, self.steps)
        if self.teacher is not None:
            self.teacher.to(self.engine.device)
        ranks = {"rank": self.engine.rank, "world": self.engine.world}
        self.loader = Loader(
            self.plan, self.collate, **ranks, workers=given.workers, augmentation=given.augment
        )
        self.progress = self._resume(key)

    def run(self, title: str) -> Progress:
        """Train to the last step and leave the best weights in the model."""
        progress, steps = self.progress, self.steps
        interval = 1.0 if sys.stderr.isatty() else 15.0  # s; a log wants fewer lines
        bar = tqdm(
            total=steps, initial=progress.step, desc=title, unit="step", mininterval=interval
        )
        for batch in self.loader:
            losses = self._step(progress.step, batch)
            progress.step += 1
            bar.update()
            last = progress.step == steps
            if progress.step % self.params.valid_every == 0 or last:
                self._look(losses)
                row = progress.history[-1]
                bar.set_postfix(loss=f"{row['loss']:.3f}", valid=f"{row['valid']:.3f}")
            if progress.step % self.params.save_every == 0 or last:
                self._save()
        bar.close()
        self.model.load_state_dict(load_file(self.folder / "best.safetensors"))
        write_history(progress.history, self.folder / "history.csv")
        return progress

    def _step(self, step: int, batch: Batch) -> dict[str, float]:
        engine = self.engine
        torch.manual_seed(_seed(self.seed, step, engine.rank, 0))
        self._note(batch.skipped)
        batch = batch.to(engine.device)
        generator = Generator().manual_seed(_seed(self.seed, step, engine.rank, 1))
        shares = (self.params.hide_channels, self.params.hide_patches)
        hidden = hide(self.model.cells(batch), *shares, generator)
        self.model.train()
        heads = {head for name in self.weights for head in LOOKS_AT[name]}
        prior = self.model.prior if "diffusion" in self.weights else None
        noise = None if prior is None else prior.draw(len(batch.windows), generator)
        with self._precision():
            output = _wide(self.model(batch, hidden, heads, noise))
            if self.teacher is not None:
                with torch.no_grad():
                    taught = _wide(self.teacher(batch, heads=heads))
                batch = dataclasses.replace(batch, teacher=taught)
        losses = {name: OBJECTIVES[name](output, batch, hidden) for name in self.weights}
        loss = torch.stack([w * losses[name] for name, w in self.weights.items()]).sum()
        engine.step(loss)
        return {"loss": loss.item()} | {name: value.item() for name, value in losses.items()}

    @torch.no_grad()
    def _look(self, losses: dict[str, float]) -> None:
        """What is unexplained of the valid split; keep the weights that leave the least."""
        self.model.eval()
        parts = []
        for windows in self.valid:
            batch = self.collate(windows).to(self.engine.device)
            self._note(batch.skipped)
            # Where nothing is asked, the later samples of every signal are what is to be explained.
            asks = bool(self.model.config.tasks)
            with self._precision():
                output = _wide(self.model(batch, heads=["decode" if asks else "forecast"]))
            parts.append(unexplained(output, batch) if asks else forecast(output, batch)[None])
        progress, valid = self.progress, torch.stack(parts).nanmean().item()
        progress.history.append({"step": progress.step, **losses, "valid": valid})
        self.log(losses | {"valid": valid}, progress.step)
        if valid < progress.best:
            progress.best = valid
            save_weights(self.model, self.folder / "best.safetensors")

    def _precision(self) -> torch.autocast:
        """Around one forward, not a run: autocast keeps the weights as they were when it began."""
        low = self.params.precision == "bfloat16"
        return torch.autocast(self.engine.device.type, torch.bfloat16, enabled=low)

    def _note(self, skipped: list[str]) -> None:
        """Count windows that could not be read, and say so."""
        self.progress.skipped += len(skipped)
        for problem in skipped:
            tqdm.write(f"left out: {problem}", file=sys.stderr)
            if len(self.progress.problems) < PROBLEMS and problem not in self.progress.problems:
                self.progress.problems.append(problem)

    def _save(self) -> None:
        """Write a checkpoint of its own, then point to it: a kill in between leaves the old one."""
        here = self.folder / "state" / f"step-{self.progress.step:06d}"
        here.mkdir(parents=True, exist_ok=True)
        self.engine.save(here)
        self.progress.loader = self.loader.state()
        write_text(self.folder / "state" / "state.json", json.dumps(vars(self.progress)))
        for other in here.parent.glob("step-*"):
            if other != here:
                shutil.rmtree(other)

    def _resume(self, key: str) -> Progress:
        """The checkpoint of the same key, or a new start."""
        state = self.folder / "state"
        if (state / "state.json").exists():
            progress = Progress(**json.loads((state / "state.json").read_text()))
            if progress.key == key:
                self.engine.load(state / f"step-{progress.step:06d}")
                self.loader.restore(progress.loader)
                return progress
            tqdm.write(
                f"the checkpoint in {state} is of other windows, parameters, weights or code: "
                "training starts anew",
                file=sys.stderr,
            )
        shutil.rmtree(state, ignore_errors=True)
        return Progress(key)

    def _key(self) -> str:
        """Hash of all that the run depends on, the weights that it starts from included."""
        # What may differ between two parts of a run, since no batch depends on it.
        free = {"loader": {"workers", "on_corrupt", "cache_mb"}}
        content = [self.params.model_dump_json(exclude=free), self.model.config.model_dump_json()]
        content += [str(self.seed), self.plan.hash, self.code]
        content += [digest(self.teacher)] if self.teacher is not None else []
        content += [n for n, p in self.model.named_parameters() if p.requires_grad]
        state = {k: v.detach().cpu().contiguous() for k, v in self.model.state_dict().items()}
        return hashlib.sha256("|".join(content).encode() + save(state)).hexdigest()

    def _checked(self, teacher: NeuroFMX | None) -> NeuroFMX | None:
        """The teacher, if there is one, the objectives ask for it and it fits the model."""
        if (teacher is not None) != ("distill" in self.weights):
            raise UserError(
                "the objective 'distill' and a teacher (pretrain.teacher) go together; give both "
                f"or neither: objectives were {', '.join(self.weights)}"
            )
        if teacher is None:
            return None
        if teacher.vocabulary != self.model.vocabulary or teacher.tasks != self.model.tasks:
            raise UserError(
                "the teacher knows other channels or tasks than the model that it is to teach: "
                "pretrain it on the same windows (storage/tokenize) and recordings"
            )
        return teacher.eval().requires_grad_(False)


def _wide(output: ModelOutput) -> ModelOutput:
    """Answers in float32, in which losses are computed."""
    return dataclasses.replace(output, heads={n: head.float() for n, head in output.heads.items()})


def _seed(*parts: int) -> int:
    """A seed from several numbers, well mixed."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)
