"""adapt: to each recording that pretraining never saw, by fine-tuning or a small adapter."""

import json
import shutil
from pathlib import Path

import torch
from pydantic import Field

from neurofmx.config import StageParams
from neurofmx.data.cards import load_card
from neurofmx.data.shards import Shards
from neurofmx.models import NeuroFMX, vocabulary_of
from neurofmx.models.adapter_files import WEIGHTS, save_adapter
from neurofmx.models.adapters import AdapterName, AdapterOptions, adapt
from neurofmx.stages import base
from neurofmx.stages.pretrain import CODE, TRAINED, spread, tracked_run
from neurofmx.training.fit import Fit
from neurofmx.training.recipe import FitParams, adapting
from neurofmx.training.tracking import TrackerName

STAGE = "adapt"


class Params(StageParams):
    """Parameters of the stage.

    Attributes:
        adapter: Row of `ADAPTERS`.
        options: Sizes of what it adds.
        fit: How long each recording is adapted to.
        threads: Threads of the processor.
        track: Rows of `TRACKERS`.
    """

    adapter: AdapterName = "unit_id"
    options: AdapterOptions = AdapterOptions()
    fit: FitParams = adapting(epochs=50)
    threads: int = Field(1, ge=1)
    track: list[TrackerName] = ["mlflow"]


def run(params: Params) -> None:
    """Adapt the pretrained model to each recording of the card's `adapt`, one after the other."""
    with base.measured(STAGE) as report:
        card, folder = load_card(params.dataset), base.folder(STAGE)
        ready = set(base.read_manifest("tokenize")["outputs"])
        recordings = [r for r in card.adapt if r in ready]
        _prune(folder, recordings)
        spread(STAGE, params.fit, lambda: train(params))
        made = {r: json.loads((folder / r / TRAINED).read_text()) for r in recordings}
        weights = {r: base.file_digest(folder / r / WEIGHTS) for r in recordings}
        reason = "" if recordings else "the card keeps no usable recording for adapt"
        base.console.print(f"  {len(recordings)} recordings {reason}")
        report.values |= {
            "recordings": len(recordings),
            "skipped_windows": sum(one["skipped_windows"] for one in made.values()),
            "skipped_because": [p for one in made.values() for p in one["skipped_because"]],
        }
        base.write_manifest(STAGE, params.dataset, weights, reason=reason)


def train(params: Params) -> None:
    """The part of the stage that each rank runs; rank 0 leaves the adapters."""
    torch.set_num_threads(params.threads)
    card = load_card(params.dataset)
    shards = Shards(base.STORAGE / "tokenize", params.fit.loader.cache_mb)
    ready = set(base.read_manifest("tokenize")["outputs"])
    for recording in card.adapt:
        if recording in ready:
            _adapt(recording, shards, params)


def _adapt(recording: str, shards: Shards, params: Params) -> None:
    """Adapt to one recording."""
    folder = base.folder(STAGE) / recording
    folder.mkdir(exist_ok=True)
    core = NeuroFMX.from_pretrained(base.STORAGE / "pretrain")
    known = vocabulary_of(shards, [recording])
    model = adapt(core, known, params.adapter, params.seed, params.options)
    code = base.code_version(*CODE)
    of = (shards, [recording], params.fit, params.seed, folder, code)
    fit = Fit(model, *of, begun=True)  # a core that knows its channels may tell it as it is
    tracked_run(fit, f"{STAGE} {recording}", params)
    progress = fit.progress
    if fit.engine.rank == 0:
        save_adapter(folder, fit.model, core, params.adapter, params.options)
        said = {"skipped_windows": progress.skipped, "skipped_because": progress.problems}
        base.write_json(folder / TRAINED, said)
    fit.engine.barrier()


def _prune(folder: Path, recordings: list[str]) -> None:
    for path in folder.iterdir():
        if path.is_dir() and path.name not in recordings:
            shutil.rmtree(path)
