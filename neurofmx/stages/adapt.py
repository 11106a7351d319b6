"""adapt: to each recording that pretraining never saw, by an adapter on the frozen core."""

import shutil
from pathlib import Path

import torch
from pydantic import Field

from neurofmx.config import StageParams
from neurofmx.data.cards import load_card
from neurofmx.data.shards import Shards
from neurofmx.models import NeuroFMX
from neurofmx.models.adapter_files import WEIGHTS, save_adapter
from neurofmx.models.adapters import AdapterName, AdapterOptions, adapt
from neurofmx.stages import base
from neurofmx.stages.pretrain import CODE, vocabulary
from neurofmx.training.engines import OptimizerParams
from neurofmx.training.fit import Fit, FitParams, Progress
from neurofmx.training.tracking import track

STAGE = "adapt"


class Params(StageParams):
    """Parameters of the stage.

    Attributes:
        adapter: Row of `ADAPTERS`.
        options: Sizes of what it adds.
        fit: How long each recording is adapted to.
        threads: Threads of the processor.
    """

    adapter: AdapterName = "unit_id"
    options: AdapterOptions = AdapterOptions()
    fit: FitParams = FitParams(epochs=50, optimizer=OptimizerParams(lr=1e-2, weight_decay=0.0))
    threads: int = Field(1, ge=1)


def run(params: Params) -> None:
    """Adapt the pretrained model to each recording of the card's `adapt`, one after the other."""
    with base.measured(STAGE) as report:
        torch.set_num_threads(params.threads)
        card, folder = load_card(params.dataset), base.folder(STAGE)
        shards = Shards(base.STORAGE / "tokenize", params.fit.loader.cache_mb)
        ready = set(base.read_manifest("tokenize")["outputs"])
        recordings = [r for r in card.adapt if r in ready]
        _prune(folder, recordings)
        made = {recording: _adapt(recording, shards, params) for recording in recordings}
        weights = {recording: weight for recording, (weight, _) in made.items()}
        reason = "" if recordings else "the card keeps no usable recording for adapt"
        base.console.print(f"  {len(recordings)} recordings {reason}")
        report.values |= {
            "recordings": len(recordings),
            "skipped_windows": sum(progress.skipped for _, progress in made.values()),
            "skipped_because": [p for _, progress in made.values() for p in progress.problems],
        }
        base.write_manifest(STAGE, params.dataset, weights, reason=reason)


def _adapt(recording: str, shards: Shards, params: Params) -> tuple[str, Progress]:
    """Adapt to one recording; returns the hash of its adapter and how the run went."""
    folder = base.folder(STAGE) / recording
    folder.mkdir(exist_ok=True)
    core, known = (
        NeuroFMX.from_pretrained(base.STORAGE / "pretrain"),
        vocabulary(shards, [recording]),
    )
    model = adapt(core, known, params.adapter, params.seed, params.options)
    with track(base.STORAGE / "mlflow", params.dataset, params.model_dump()) as log:
        code = base.code_version(*CODE)
        fit = Fit(model, shards, [recording], params.fit, params.seed, folder, code, log)
        progress = fit.run(f"{STAGE} {recording}")
    save_adapter(folder, model, core, params.adapter, params.options)
    return base.file_digest(folder / WEIGHTS), progress


def _prune(folder: Path, recordings: list[str]) -> None:
    for path in folder.iterdir():
        if path.is_dir() and path.name not in recordings:
            shutil.rmtree(path)
