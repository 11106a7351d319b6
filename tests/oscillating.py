"""Spikes of a state that turns with noise, x ← A x + noise, as counts and with the state itself."""

from dataclasses import replace

import numpy as np
import pandas as pd
from windows import card, shards

from neurofmx.data.windows import SPLITS
from neurofmx.evaluation import Problem
from neurofmx.evaluation.queries import read_queries
from neurofmx.types import AlignedRecording, Samples

BIN = 0.05  # s


def states(n: int, rng: np.random.Generator, noise: float = 0.1) -> np.ndarray:
    """A damped turn of 0.8 Hz, driven by noise, of variance 1."""
    turn = 2 * np.pi * 0.8 * BIN
    a = 0.995 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    x = np.zeros((n, 2))
    x[0] = 1.0, 0.0
    for t in range(1, n):
        x[t] = a @ x[t - 1] + noise * rng.normal(size=2)
    return x / x.std(axis=0)


def oscillating(n: int = 3000, units: int = 30, rate: float = 0.25, seed: int = 0):
    """A recording, its state and the rates (per bin) that its counts were drawn from.

    Args:
        n: Bins.
        rate: Of a unit where the state is 0 (spikes per bin).
    """
    rng = np.random.default_rng(seed)
    x = states(n, rng)
    rates = rate * np.exp(0.8 * x @ rng.normal(size=(2, units)) / np.sqrt(2))
    counts = rng.poisson(rates)
    names = pd.DataFrame({"id": np.arange(units)})
    made = AlignedRecording(
        id="turning",
        subject="made",
        species="Mus musculus",
        dataset="made",
        signals={
            "spikes": Samples(counts, "count", 1 / BIN, modality="binned_counts", channels=names),
            "hand": Samples(x, "m/s", 1 / BIN),
        },
    )
    return made, x, rates


def spec(**changes):
    """A card for it."""
    content = {
        "signals": {
            "spikes": {"path": "spikes", "modality": "binned_counts"},
            "hand": {"path": "hand", "modality": "behavior"},
        },
        "tasks": {"velocity": {"kind": "regression", "signal": "hand"}},
        "windows": {"duration": 2.0, "step": 1.0, "bin_width": BIN},
        "split": {"train": 0.6, "valid": 0.15, "guard": 0.5},
    }
    return card(**(content | changes))


def pose(folder, recording, asked, task: str) -> Problem:
    """The problem that a card's task poses in a recording."""
    made = shards(folder, [recording], asked)
    positions = {split: made.positions(split, [recording.id]).tolist() for split in SPLITS}
    queries = {split: read_queries(made, task, positions[split]) for split in SPLITS}
    return Problem(recording, asked, task, made, positions, queries)


def shuffled(problem: Problem, *splits: str, seed: int = 0) -> Problem:
    """The same with the truth of some splits in another order."""
    rng, queries = np.random.default_rng(seed), dict(problem.queries)
    for split in splits:
        truth = queries[split].truth
        queries[split] = replace(queries[split], truth=truth[rng.permutation(len(truth))])
    return replace(problem, queries=queries)
