"""tokenize: aligned recordings become windows in shards, split by blocks of time.

Each recording is cut on its own (Dask) into a part; the parts are then joined in the order of
their names, so that the shards do not depend on how many workers there were.
"""

import os
import shutil
from pathlib import Path

import dask
from pydantic import Field

from neurofmx.config import StageParams
from neurofmx.data import cards, parts, store, windows
from neurofmx.data.cards import Card
from neurofmx.data.shard_index import FILE
from neurofmx.data.shards import Shards
from neurofmx.data.tasks import LabelTask
from neurofmx.stages import base

STAGE = "tokenize"
CODE = (
    "data/cards.py",
    "data/inputs.py",
    "data/parts.py",
    "data/samples.py",
    "data/shard_index.py",
    "data/shard_join.py",
    "data/shard_writer.py",
    "data/signal_cards.py",
    "data/statistics.py",
    "data/store.py",
    "data/targets.py",
    "data/windows.py",
    "signal/bins.py",
    "signal/spectra.py",
    "stages/tokenize.py",
)


class Params(StageParams):
    """Parameters of the stage.

    Attributes:
        workers: Processes that cut recordings, and threads that write shards.
        tokens: That the longest window of a sampled signal is cut into.
        shard_mb: A shard is closed at this size (MB).
        world_size: Largest number of processes that will read the shards: each split has at
            least as many shards, where it has as many windows, so that readers that take whole
            shards leave none of them idle.
    """

    workers: int = Field(2, ge=1)
    tokens: int = Field(30, ge=1)
    shard_mb: float = Field(64.0, gt=0)
    world_size: int = Field(8, ge=1)


def run(params: Params) -> None:
    """Cut every aligned recording into windows; write shards, their index and statistics."""
    with base.measured(STAGE) as report:
        card = _with_classes(cards.load_card(params.dataset))
        aligned = base.read_manifest("align")["outputs"]
        common = {"card": card.model_dump(mode="json"), "code": base.code_version(*CODE)}
        jobs = [
            base.Job(name, common | {"align": key}, (name, card), base.size(_aligned(name)))
            for name, key in aligned.items()
            if card.split.parts(name)
        ]
        statuses = base.fan_out(STAGE, jobs, cut_recording, params.workers, outputs=".parts/{}")
        made = base.usable(statuses)
        with base.threads(params.workers):
            hashes = _join(sorted(made), card, params)
        shards = Shards(base.folder(STAGE))
        report.values |= {
            "recordings": len(made),
            "windows": {split: len(shards.positions(split)) for split in windows.SPLITS},
            "tokens": int(shards.tokens.sum(dtype=int)),
            "shards": sum(name.endswith(".tar") for name in hashes),
        }
        about = {"quarantined": base.rejected(statuses), "adapt": card.adapt}
        base.write_manifest(STAGE, params.dataset, made, files=hashes, **about)


def cut_recording(path: Path, key: str, name: str, card: Card) -> None:
    """Write one recording's windows and statistics to the part `path`."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    parts.write_part(path, store.buffered(store.read_aligned(_aligned(name))), card)


def _aligned(recording: str) -> Path:
    return base.STORAGE / "align" / f"{recording}.zarr"


def _with_classes(card: Card) -> Card:
    """The card with the labels of every classification task, over all recordings."""
    tasks = dict(card.tasks)
    for task, spec in tasks.items():
        if isinstance(spec, LabelTask) and spec.classes is None:
            found: set[str] = set()
            for name in base.read_manifest("align")["outputs"]:
                recording = store.read_aligned(_aligned(name))
                found |= set(windows.classes(recording, spec))
            tasks[task] = spec.model_copy(update={"classes": sorted(found)})
    return card.model_copy(update={"tasks": tasks})


def _join(recordings: list[str], card: Card, params: Params) -> dict[str, str]:
    """Parts → shards, written beside the old ones and swapped in when whole; sha256 by file."""
    target = base.folder(STAGE)
    cut, new = target / ".parts", target / ".new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    parts.join_parts(
        {name: cut / name for name in recordings},
        new,
        card,
        params.tokens,
        int(params.shard_mb * 2**20),
        params.world_size,
    )
    made = sorted(path.name for path in new.iterdir())
    hashes = dask.compute(*[dask.delayed(base.file_digest)(new / name) for name in made])
    # Without an index nobody reads the folder: it goes first and comes last.
    for old in [target / FILE, *target.glob("*.tar")]:
        old.unlink(missing_ok=True)
    for name in sorted(made, key=lambda name: name == FILE):
        os.replace(new / name, target / name)
    new.rmdir()
    shutil.rmtree(cut)
    return dict(zip(made, hashes, strict=True))
