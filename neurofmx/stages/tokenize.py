"""tokenize: aligned recordings become windows in shards, split by blocks of time.

Each recording is cut on its own (Dask) into a part; the parts are then joined in the order of
their names, so that the shards do not depend on how many workers there were.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from neurofmx.config import StageParams
from neurofmx.data import cards, store, windows
from neurofmx.data.cards import Card, ClassificationTask
from neurofmx.data.shards import Sample, ShardWriter, packed
from neurofmx.data.statistics import ChannelStatistics, Moments, join_tasks
from neurofmx.stages import base

STAGE = "tokenize"
CODE = (
    "data/cards.py",
    "data/shards.py",
    "data/statistics.py",
    "data/store.py",
    "data/windows.py",
    "signal/bins.py",
    "stages/tokenize.py",
)


class Params(StageParams):
    """Parameters of the stage.

    Attributes:
        workers: Processes that cut recordings.
        shard_mb: A shard is closed at this size (MB).
    """

    workers: int = Field(2, ge=1)
    shard_mb: float = Field(64.0, gt=0)


def run(params: Params) -> None:
    """Cut every aligned recording into windows; write shards, their index and statistics."""
    with base.measured(STAGE) as report:
        card = _with_classes(cards.load_card(params.dataset))
        aligned = base.read_manifest("align")["outputs"]
        common = {"card": card.model_dump(mode="json"), "code": base.code_version(*CODE)}
        jobs = [
            base.Job(name, common | {"align": key}, (name, card), base.size(_aligned(name)))
            for name, key in aligned.items()
        ]
        statuses = base.fan_out(STAGE, jobs, cut_recording, params.workers, outputs=".parts/{}")
        made = base.usable(statuses)
        index = _join(sorted(made), card, params.shard_mb)
        report.values |= {
            "recordings": len(made),
            "windows": index["split"].value_counts().to_dict(),
        }
        target = base.folder(STAGE)
        files = sorted(p for p in target.iterdir() if p.suffix in (".tar", ".parquet", ".json"))
        hashes = {
            p.name: base.file_digest(p)
            for p in files
            if p.name not in (*base.MEASUREMENTS, "manifest.json")
        }
        base.write_manifest(
            STAGE, params.dataset, made, files=hashes, quarantined=base.rejected(statuses)
        )


def cut_recording(path: Path, key: str, name: str, card: Card) -> None:
    """Write one recording's windows and statistics to the part `path`."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    recording = store.buffered(store.read_aligned(_aligned(name)))
    writer = ShardWriter(path)
    channels = ChannelStatistics(recording, card)
    targets = {task: Moments() for task in card.tasks}
    for number, window in enumerate(windows.cut(recording, card)):
        inputs = windows.inputs(recording, card, window)
        asked = {task: windows.target(recording, card, task, window) for task in card.tasks}
        writer.write(sample(f"{name}-{number:06d}", name, window, inputs, asked))
        if window.split == "train":
            channels.add(inputs)
            for task, target in asked.items():
                targets[task].add(target.values[target.mask])
    writer.close()
    channels.table().to_parquet(path / "channels.parquet", index=False)
    rows = {task: moments.sums() for task, moments in targets.items()}
    base.write_json(path / "targets.json", rows)


def _aligned(recording: str) -> Path:
    return base.STORAGE / "align" / f"{recording}.zarr"


def sample(key: str, recording: str, window: windows.Window, inputs: dict, asked: dict) -> Sample:
    """A window as it goes into a shard; `inputs` and `asked` are those of `data.windows`."""
    info: dict[str, Any] = {
        "recording": recording,
        "split": window.split,
        "start": window.start,
        "stop": window.stop,
        "dt": {name: dt for name, (dt, _, _) in inputs.items()},
    }
    arrays: dict[str, np.ndarray] = {}
    for name, (_, values, mask) in inputs.items():
        arrays |= {f"{name}.values": values, f"{name}.mask": mask}
    for task, target in asked.items():
        arrays |= {
            f"{task}.target": target.values,
            f"{task}.times": target.times,
            f"{task}.asked": target.mask,
        }
    return Sample(key, info, arrays)


def _with_classes(card: Card) -> Card:
    """The card with the labels of every classification task, over all recordings."""
    tasks = dict(card.tasks)
    for task, spec in tasks.items():
        if isinstance(spec, ClassificationTask) and spec.classes is None:
            found: set[str] = set()
            for name in base.read_manifest("align")["outputs"]:
                recording = store.read_aligned(_aligned(name))
                found |= set(windows.classes(recording, spec))
            tasks[task] = spec.model_copy(update={"classes": sorted(found)})
    return card.model_copy(update={"tasks": tasks})


def _join(recordings: list[str], card: Card, shard_mb: float) -> pd.DataFrame:
    """Parts → shards, written beside the old ones and swapped in when whole."""
    target = base.folder(STAGE)
    parts, new = target / ".parts", target / ".new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    writer = ShardWriter(new, int(shard_mb * 2**20))
    for name in recordings:
        for row, payload in packed(parts / name):
            writer.append(row, payload)
    index = writer.close()
    channels = pd.concat(
        [pd.read_parquet(parts / name / "channels.parquet") for name in recordings]
    )
    channels.to_parquet(new / "channels.parquet", index=False)
    # Targets are scaled by what pretraining may see.
    seen = [name for name in recordings if name not in card.adapt]
    sums = [json.loads((parts / name / "targets.json").read_text()) for name in seen]
    base.write_json(new / "tasks.json", join_tasks(card, sums))
    for old in [*target.glob("*.tar"), target / "manifest.json"]:
        old.unlink(missing_ok=True)
    for path in sorted(new.iterdir()):
        os.replace(path, target / path.name)
    new.rmdir()
    shutil.rmtree(parts)
    return index
