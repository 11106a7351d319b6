"""pretrain: one model for all recordings but those kept for adapt."""

import torch
from pydantic import Field

from neurofmx.config import StageParams
from neurofmx.data.cards import load_card
from neurofmx.data.pool import Pool, Windows
from neurofmx.data.shards import Shards
from neurofmx.models import (
    Known,
    ModelParams,
    NeuroFMX,
    SignalSpec,
    TaskSpec,
    Vocabulary,
    untrained,
)
from neurofmx.stages import base
from neurofmx.training.fit import Fit, FitParams
from neurofmx.training.tracking import track

STAGE = "pretrain"
EVENT = 1e-3  # s; what a spike is said to last
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
            trained on too; `fit.loader.phases` weighs them.
        teacher: Folder of a pretrained model to learn from by the objective `distill`: a kept
            `storage/pretrain` of a larger size, made from the same windows.
    """

    model: ModelParams = ModelParams()
    beside: list[str] = []
    teacher: str | None = None
    fit: FitParams = FitParams()
    threads: int = Field(1, ge=1)


def run(params: Params) -> None:
    """Train from the windows of `storage/tokenize` and leave the best weights."""
    with base.measured(STAGE) as report:
        torch.set_num_threads(params.threads)
        card, folder = load_card(params.dataset), base.folder(STAGE)
        own = [r for r in base.read_manifest("tokenize")["outputs"] if r not in card.adapt]
        cache_mb = params.fit.loader.cache_mb
        others = [Shards(other, cache_mb) for other in params.beside]
        chosen = Shards(base.STORAGE / "tokenize", cache_mb)
        shards = Pool([chosen, *others]) if others else chosen
        recordings = [*own, *(r for other in others for r in other.recordings.labels)]
        known = vocabulary(shards, recordings)
        model = untrained(configure(shards, params.model), known, params.seed)
        with track(base.STORAGE / "mlflow", params.dataset, params.model_dump()) as log:
            code = base.code_version(*CODE)
            teacher = NeuroFMX.from_pretrained(params.teacher) if params.teacher else None
            fit = Fit(
                model, shards, recordings, params.fit, params.seed, folder, code, log, teacher
            )
            progress = fit.run(f"{STAGE} {params.dataset}")
        model.save_pretrained(folder)
        report.values |= {
            "recordings": len(recordings),
            "parameters": sum(p.numel() for p in model.parameters()),
            "valid_unexplained": progress.best,
            "steps": progress.step,
            "skipped_windows": progress.skipped,
            "skipped_because": progress.problems,
        }
        weights = {"model.safetensors": base.file_digest(folder / "model.safetensors")}
        base.write_manifest(STAGE, params.dataset, weights, recordings=own)


def configure(shards: Windows, model: ModelParams) -> NeuroFMX.Config:
    """A model's configuration from the windows that it is to read.

    Args:
        model: What a person chose.
    """
    signals = {
        name: SignalSpec(
            tokenizer=about["tokenizer"],
            patch=about["patch"],
            dt=about["dt"] or EVENT,
            grid=about["grid"],
            counts=about["stabilise"],
        )
        for name, about in sorted(shards.signals.items())
    }
    tasks = {
        name: TaskSpec(
            kind=task["kind"],
            outputs=len(task["classes"] if "classes" in task else task["mean"]),
            mean=task.get("mean", []),
            scale=task.get("scale", []),
            classes=task.get("classes", []),
        )
        for name, task in shards.tasks.items()
    }
    duration = float((shards.index["stop"] - shards.index["start"]).max())
    return NeuroFMX.Config(model=model, duration=duration, signals=signals, tasks=tasks)


def vocabulary(shards: Windows, recordings: list[str]) -> Vocabulary:
    """Channels of some recordings and the regions that they lie in, by signal."""
    table = shards.channels[shards.channels["recording"].isin(recordings)]
    known = {}
    for name, rows in table.groupby("signal"):
        keys = list(zip(rows["recording"], rows["channel"].astype(int), strict=True))
        known[str(name)] = Known(keys, sorted(set(rows["region"]) - {""}))
    return known
