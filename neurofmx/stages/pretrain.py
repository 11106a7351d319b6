"""pretrain: one model for all recordings but those kept for adapt."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from neurofmx.config import StageParams
from neurofmx.data.cards import load_card
from neurofmx.data.pool import Pool
from neurofmx.data.shards import Shards
from neurofmx.errors import UserError
from neurofmx.models import ModelParams, NeuroFMX, untrained, vocabulary_of
from neurofmx.models.begun import begun
from neurofmx.stages import base
from neurofmx.training import launch
from neurofmx.training.configure import configure
from neurofmx.training.curriculum import Curriculum
from neurofmx.training.fit import Fit
from neurofmx.training.recipe import FitParams, recipe
from neurofmx.training.tracking import TrackerName, provenance, track, write_run

STAGE = "pretrain"
TRAINED = "trained.json"  # what the ranks leave for the stage
DOMAINS = {"adversarial", "confusion", "mmd"}
CODE = (
    "batches.py",
    "data/augment.py",
    "data/collate.py",
    "data/loader.py",
    "data/mixture.py",
    "data/mixup.py",
    "data/order.py",
    "data/plan.py",
    "models",
    "objectives",
    "sequence.py",
    "signal/bins.py",
    "signal/warp.py",
    "tokenizers",
    "training",
)


class Params(StageParams):
    """Parameters of the stage.

    Attributes:
        model: Size and shape.
        fit: How long and for what it is trained.
        threads: Threads of the processor for training; the result depends on it in the last bits.
        beside: Folders or URLs of other data sets' windows (a kept `storage/tokenize`) that are
            trained on too, but for what their cards keep for adapt or for test; `fit.phases`
            weighs them.
        start: Folder of a pretrained model to begin from, a kept `storage/pretrain` of equal sizes.
        teacher: Folder of a pretrained model to learn from by the objective `distill`: a kept
            `storage/pretrain` of a larger size, made from the same windows.
        domain: What the objectives adversarial, confusion and mmd make the latents blind to.
        track: Rows of `TRACKERS`.
    """

    model: ModelParams = ModelParams(dropout=0.2)
    beside: list[str] = []
    start: str | None = None
    teacher: str | None = None
    domain: Literal["recording", "dataset"] = "recording"
    fit: FitParams = recipe()
    threads: int = Field(1, ge=1)
    track: list[TrackerName] = ["mlflow"]


def run(params: Params) -> None:
    """Train from the windows of `storage/tokenize` and leave the best weights."""
    with base.measured(STAGE) as report:
        spread(STAGE, params.fit, lambda: train(params))
        folder = base.folder(STAGE)
        made = json.loads((folder / TRAINED).read_text())
        report.values |= made["metrics"]
        weights = {"model.safetensors": base.file_digest(folder / "model.safetensors")}
        seen = {key: made[key] for key in ("recordings", "beside")}
        base.write_manifest(STAGE, params.dataset, weights, **seen)


def train(params: Params) -> None:
    """The part of the stage that each rank runs; rank 0 leaves the model."""
    torch.set_num_threads(params.threads)
    card, folder = load_card(params.dataset), base.folder(STAGE)
    own = [r for r in base.read_manifest("tokenize")["outputs"] if card.pretrains(r)]
    cache_mb = params.fit.loader.cache_mb
    others = [Shards(other, cache_mb) for other in params.beside]
    chosen = Shards(base.STORAGE / "tokenize", cache_mb)
    shards = Pool([chosen, *others]) if others else chosen
    beside = {r: other.name for other in others for r in other.trained_on}
    recordings = [*own, *beside]
    datasets = dict.fromkeys(own, chosen.name) | beside
    domains = datasets if params.domain == "dataset" else {r: r for r in recordings}
    config = configure(shards, params.model)
    if blind := DOMAINS & set(Curriculum(params.fit.phases, 1, params.fit.objectives).named):
        if params.domain == "dataset" and params.fit.loader.sets_per_step < 2:
            raise UserError(
                f"{', '.join(sorted(blind))} tells the data sets of a step apart, and a step is of "
                "one: set pretrain.fit.loader.sets_per_step to 2 or more, or domain to recording"
            )
        config = config.model_copy(update={"domains": sorted(set(domains.values()))})
    known = vocabulary_of(shards, recordings)
    model, before = untrained(config, known, params.seed), set[str]()
    if params.start:
        core = NeuroFMX.from_pretrained(params.start)
        before = _seen(core, Path(params.start))
        _never_seen(before, params.start, set(chosen.recordings.labels) - set(own))
        model = begun(core, config, known, params.seed)
    teacher = NeuroFMX.from_pretrained(params.teacher) if params.teacher else None
    fit = Fit(
        model,
        shards,
        recordings,
        params.fit,
        params.seed,
        folder,
        base.code_version(*CODE),
        teacher=teacher,
        domains=domains if config.domains else None,
        begun=params.start is not None,
    )
    tracked_run(fit, f"{STAGE} {params.dataset}", params)
    progress = fit.progress
    if fit.engine.rank == 0:
        fit.model.save_pretrained(folder)
        metrics = {
            "recordings": len(recordings),
            "parameters": fit.model.num_parameters(),
            "valid_unexplained": progress.best,
            "steps": progress.step,
            "bad_steps": progress.bad,
            "skipped_windows": progress.skipped,
            "skipped_because": progress.problems,
        }
        made = {"metrics": metrics, "recordings": own, "beside": beside, "before": sorted(before)}
        base.write_json(folder / TRAINED, made)
    fit.engine.barrier()  # no machine goes on before that is written


def _seen(core: NeuroFMX, folder: Path) -> set[str]:
    """Recordings that a kept model was trained on, and those that it had begun from.

    What its channels are owned by is not enough: recordings may share them (`same` in the card).
    """
    made = json.loads((folder / TRAINED).read_text()) if (folder / TRAINED).exists() else {}
    told = {r for key in ("recordings", "beside", "before") for r in made.get(key, ())}
    return told | {owner for known in core.vocabulary.values() for owner, _ in known.keys}


def _never_seen(before: set[str], folder: str, kept: set[str]) -> None:
    """Hold a model to start from to what the card keeps for adapt or test.

    Raises:
        UserError: It was trained on some of that.
    """
    seen = before & kept
    if seen:
        raise UserError(
            f"pretrain.start is {folder}, which was trained on {', '.join(sorted(seen))}; the card "
            "keeps that for adapt or for test, so no score of it would count: start from a model "
            "that has not seen it"
        )


def spread(stage: str, fit: FitParams, work: Callable[[], None]) -> None:
    """Do a stage's training here, or start its ranks.

    Raises:
        UserError: This machine is not the first of several, which alone finishes the stage.
    """
    if not fit.launch.many:
        work()
        return
    launch.start(stage, fit.launch, base.folder(stage) / "ranks")
    if not launch.first_node():
        raise SystemExit(0)


def tracked_run(fit: Fit, title: str, params: Any) -> None:
    """Run a fit under the trackers that were chosen; rank 0 alone tells them."""
    names = params.track if fit.engine.rank == 0 else []
    facts = provenance(params.fit.engine, fit.engine.world, fit.shards.index_hash)
    told = params.model_dump() | {"from": facts}
    with track(names, base.STORAGE, params.dataset, told, fit.progress.runs) as tracked:
        if fit.engine.rank == 0:
            fit.log, fit.progress.runs = tracked.log, tracked.ids
            write_run(fit.folder / "run.json", tracked.ids, facts)
        fit.run(title)
