"""A small aligned recording and its windows, made in memory for tests of what comes after align."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from neurofmx.data.cards import Card
from neurofmx.data.parts import join_parts, write_part
from neurofmx.data.shard_writer import SHARD_BYTES
from neurofmx.data.shards import Shards
from neurofmx.types import AlignedRecording, Events, Intervals, Samples

RATE = 50.0  # Hz


def card(**changes) -> Card:
    """A card for `recording`, with parts of it replaced."""
    content = {
        "name": "made",
        "title": "made in a test",
        "licence": "CC0",
        "synthetic": True,
        "source": {"kind": "local", "path": "."},
        "signals": {
            "spikes": {"path": "units", "modality": "spikes"},
            "lfp": {"path": "lfp", "modality": "lfp"},
            "hand": {"path": "hand", "modality": "behavior"},
            "trials": {"path": "trials", "modality": "trials"},
        },
        "tasks": {
            "velocity": {"kind": "regression", "signal": "hand"},
            "cue": {"kind": "classification", "signal": "trials", "column": "cue"},
        },
        "windows": {"duration": 1.0, "step": 0.5, "bin_width": 0.05, "within": "trials"},
        "split": {"train": 0.6, "valid": 0.2, "guard": 0.1},
    }
    return Card.model_validate(content | changes)


def recording(name: str = "made-1", seed: int = 0, units: int = 6, trials: int = 40):
    """Spikes and LFP that follow a slow hand, in trials of 1 s whose cue sets its direction."""
    rng = np.random.default_rng(seed)
    duration, cue = trials * 1.25, np.arange(trials) % 2
    start = np.arange(trials) * 1.25
    times = np.arange(round(duration * RATE)) / RATE
    side = 2.0 * cue[(times / 1.25 + 1e-9).astype(int)] - 1
    hand = np.stack([side * np.sin(2 * np.pi * times / 1.25), np.cos(times)], axis=1)
    tuning = rng.normal(size=(2, units))
    rate = 20.0 * np.exp(hand @ tuning)
    counts = rng.poisson(rate / RATE)
    index = np.repeat(np.tile(np.arange(units), len(times)), counts.ravel())
    at = np.repeat(np.repeat(times, units), counts.ravel()) + rng.uniform(0, 1 / RATE, len(index))
    order = np.argsort(at)
    lfp = hand @ rng.normal(size=(2, 3)) + 0.1 * rng.normal(size=(len(times), 3))
    table = pd.DataFrame({"cue": np.where(cue == 1, "right", "left")})
    return AlignedRecording(
        id=name,
        subject="made",
        species="Mus musculus",
        dataset="made",
        signals={
            "spikes": Events(at[order], index[order], pd.DataFrame({"id": np.arange(units)})),
            "lfp": Samples(lfp, "V", RATE, modality="lfp"),
            "hand": Samples(hand, "m/s", RATE),
            "trials": Intervals(start, start + 1.0, table),
        },
    )


def shards(folder, recordings=None, spec: Card | None = None, **layout) -> Shards:
    """Windows of recordings, as the tokenize stage lays them out; `layout` as in `join_parts`."""
    recordings = recordings or [recording()]
    spec = spec or card()
    if "cue" in spec.tasks:
        task = spec.tasks["cue"].model_copy(update={"classes": ["left", "right"]})
        spec = spec.model_copy(update={"tasks": spec.tasks | {"cue": task}})
    folder.mkdir(exist_ok=True)
    with TemporaryDirectory() as temporary:
        parts = {made.id: Path(temporary) / made.id for made in recordings}
        for made in recordings:
            parts[made.id].mkdir()
            write_part(parts[made.id], made, spec)
        usual = {"tokens": 10, "shard_bytes": SHARD_BYTES, "world_size": 1}
        join_parts(parts, folder, spec, **(usual | layout))
    return Shards(folder)


def tiny_model(made: Shards, recordings: list[str], seed: int = 0, **changes):
    """A very small untrained model that knows these recordings."""
    from neurofmx.models import (  # late: tests of data need no torch
        ModelParams,
        untrained,
        vocabulary_of,
    )
    from neurofmx.training.configure import configure

    sizes = {"d_model": 32, "n_blocks": 1, "d_state": 8, "headdim": 16, "n_latents": 8}
    sizes |= {"latent_dim": 32, "n_layers": 1, "n_heads": 2, "dropout": 0.0}
    config = configure(made, ModelParams(**(sizes | changes)))
    return untrained(config, vocabulary_of(made, recordings), seed)
