"""pretrain: one model for all recordings but those kept for adapt."""

import torch
from pydantic import Field

from neurofmx.config import StageParams
from neurofmx.data.cards import Card, load_card
from neurofmx.data.shards import Shards
from neurofmx.modalities import MODALITIES
from neurofmx.models import ModelParams, NeuroFMX, SignalSpec, TaskSpec
from neurofmx.stages import base
from neurofmx.training.fit import Fit, FitParams, untrained
from neurofmx.training.tracking import track

STAGE = "pretrain"
CODE = (
    "batches.py",
    "data/loader.py",
    "models",
    "objectives",
    "tokenizers",
    "training",
    "types.py",
)


class Params(StageParams):
    """Parameters of the stage.

    Attributes:
        model: Size and shape.
        fit: How long and for what it is trained.
        threads: Threads of the processor for training; the result depends on it in the last bits.
    """

    model: ModelParams = ModelParams()
    fit: FitParams = FitParams()
    threads: int = Field(1, ge=1)


def run(params: Params) -> None:
    """Train from the windows of `storage/tokenize` and leave the best weights."""
    with base.measured(STAGE) as report:
        torch.set_num_threads(params.threads)
        card, folder = load_card(params.dataset), base.folder(STAGE)
        shards = Shards(base.STORAGE / "tokenize")
        recordings = [r for r in base.read_manifest("tokenize")["outputs"] if r not in card.adapt]
        model = untrained(configure(shards, card, recordings, params.model), params.seed)
        with track(base.STORAGE / "mlflow", params.dataset, params.model_dump()) as log:
            code = base.code_version(*CODE)
            fit = Fit(model, shards, recordings, params.fit, params.seed, folder, code, log)
            progress = fit.run(f"{STAGE} {params.dataset}")
        model.save_pretrained(folder)
        report.values |= {
            "recordings": len(recordings),
            "parameters": sum(p.numel() for p in model.parameters()),
            "valid_unexplained": progress.best,
            "steps": progress.step,
        }
        weights = {"model.safetensors": base.file_digest(folder / "model.safetensors")}
        base.write_manifest(STAGE, params.dataset, weights, recordings=recordings)


def configure(
    shards: Shards, card: Card, recordings: list[str], model: ModelParams
) -> NeuroFMX.Config:
    """A model's configuration from the windows that it is to read.

    Args:
        recordings: Ids whose channels make up the vocabulary.
        model: What a person chose.
    """
    dt: dict[str, float] = {}
    for recording in recordings:
        position = shards.positions("train", [recording])[0]
        dt |= shards[position].info["dt"]
    duration = float((shards.index["stop"] - shards.index["start"]).max())
    signals = {
        name: SignalSpec(
            tokenizer=MODALITIES[card.signals[name].modality].tokenizer,
            patch=max(1, round(duration / step / model.tokens)),
            dt=step,
            channels=channels(shards, name, recordings),
        )
        for name, step in sorted(dt.items())
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
    return NeuroFMX.Config(model=model, duration=duration, signals=signals, tasks=tasks)


def channels(shards: Shards, signal: str, recordings: list[str]) -> list[tuple[str, int]]:
    """The vocabulary of a signal: (recording, channel), in the order of the table."""
    table = shards.channels
    rows = table[(table["signal"] == signal) & table["recording"].isin(recordings)]
    return list(zip(rows["recording"], rows["channel"].astype(int), strict=True))
