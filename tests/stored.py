"""What the stages before evaluate would have left of two small recordings, made in memory."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from windows import card, recording, shards, tiny_model

from neurofmx.data import store
from neurofmx.data.cards import save_card
from neurofmx.stages import base, online
from neurofmx.types import AlignedRecording, Clock, Events, Recording, Samples

PRETRAINED, LEFT_OUT = "made-1", "made-2"
CAMERA = {
    "sync": {"path": "sync", "modality": "pulses"},
    "camera_sync": {"path": "camera_sync", "modality": "pulses"},
    "video": {"path": "video", "modality": "behavior", "frames": True, "input": False},
}


def make_storage(
    folder: Path,
    synthetic: bool = False,
    more: Sequence[AlignedRecording] = (),
    **changes: Any,
) -> None:
    """Write a card and `storage/` up to online into `folder`, which is the working directory.

    `made-1` was pretrained on; `made-2` is for adapt, which left no model. Weights are random.

    Args:
        more: Recordings beside these two, cut into windows and no more.
        changes: Fields of the card.
    """
    signals = card().model_dump(mode="json")["signals"] | CAMERA
    clocks = {"camera": {"signals": ["video"], "device": "camera_sync", "reference": "sync"}}
    signals |= changes.pop("signals", {})
    fields = {"adapt": [LEFT_OUT], "signals": signals, "clocks": clocks} | changes
    spec = card(synthetic=synthetic, **fields)
    save_card(spec, folder / "datasets")
    made = [recording(PRETRAINED), recording(LEFT_OUT, seed=1)]
    for each in (*made, *more):
        fitted = {"camera": Clock(1.0, 79.9, 1e-5, 30)}
        aligned = AlignedRecording(**{**vars(each), "clocks": fitted})
        store.write(aligned, base.folder("align") / f"{each.id}.zarr", "key")
        filmed = Recording(
            each.id, each.subject, each.species, each.dataset, each.signals | _camera()
        )
        store.write(filmed, base.folder("ingest") / f"{each.id}.zarr", "key")
    windows = shards(base.folder("tokenize"), [*made, *more], spec)
    model = tiny_model(windows, [PRETRAINED], 1)
    model.save_pretrained(base.folder("pretrain"))
    ids = dict.fromkeys((PRETRAINED, LEFT_OUT), "key")
    for stage in ("ingest", "validate", "align", "tokenize"):
        base.write_manifest(stage, spec.name, ids, quarantined={"bad-1": "no usable signal"})
    weights = {"model.safetensors": "hash"}
    base.write_manifest("pretrain", spec.name, weights, recordings=[PRETRAINED])
    base.write_manifest("adapt", spec.name, {}, reason="made so in a test")
    _measurements()
    _truth(made)
    online.run(online.Params(dataset=spec.name))  # finds nothing that was adapted


def _camera() -> dict[str, Events | Samples]:
    """Pulses that a camera saw a second late, and its frames of 20 Hz."""
    pulses, one = np.cumsum(np.linspace(0.7, 1.3, 40)), pd.DataFrame({"id": [0]})
    frames = np.arange(0.0, 40.0, 0.05) + 1e-3 * np.sin(np.arange(800))
    return {
        "sync": Events(pulses, np.zeros(40, int), one, "pulses"),
        "camera_sync": Events(pulses - 1.0, np.zeros(40, int), one, "pulses"),
        "video": Samples(frames[:, None], "1", times=frames),
    }


def _measurements() -> None:
    cost = {"seconds": 1.0, "peak_memory_mb": 100.0, "recordings": 1}
    clock = {"drift": 79.9, "residual": 1e-5, "n_events": 30}
    more = {
        "align": {"clocks": {PRETRAINED: {"camera": clock}}},
        "pretrain": {"parameters": 1000, "steps": 10},
    }
    for stage in ("ingest", "validate", "align", "tokenize", "pretrain", "adapt"):
        base.write_json(base.folder(stage) / "metrics.json", cost | more.get(stage, {}))
    looks = {"step": [5, 10], "phase": ["first", "then"]}
    history = pd.DataFrame(looks | {"loss": [1.0, 0.5], "valid": [1.1, 0.7]})
    history.to_csv(base.folder("pretrain") / "history.csv", index=False)
    rows = [(name, "made", "Mus musculus", 0.0, 50.0, 6) for name in (PRETRAINED, LEFT_OUT)]
    columns = ["recording", "subject", "species", "start", "stop", "n_units"]
    base.write_table(
        base.folder("validate") / "recordings.parquet", pd.DataFrame(rows, columns=columns)
    )
    base.write_json(base.folder("validate") / "quarantine.json", {"bad-1": ["no usable signal"]})
    base.write_json(base.folder("validate") / "warnings.json", {PRETRAINED: ["rate: is odd"]})


def _truth(made: list[AlignedRecording]) -> None:
    """The hand itself as the planted state."""
    folder = base.folder("ingest") / "truth"
    folder.mkdir()
    for each in made:
        hand = each.signals["hand"]
        np.savez(
            folder / f"{each.id}.npz", times=hand.clock, latents=hand.values, offset=1.0, drift=80.0
        )


def read_metrics(stage: str) -> dict:
    """What a stage measured."""
    return json.loads((base.STORAGE / stage / "metrics.json").read_text())
