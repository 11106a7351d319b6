"""Problems of recordings that are made in a test, as baselines are given them."""

from pathlib import Path

import numpy as np
import pandas as pd
from windows import card, shards

from neurofmx.data.windows import SPLITS
from neurofmx.evaluation import METRICS, Problem
from neurofmx.evaluation.queries import read_queries
from neurofmx.types import AlignedRecording, Intervals, Samples

RATE = 10.0  # Hz of cells and hand
CELLS = {
    "cells": {"path": "cells", "modality": "calcium"},
    "hand": {"path": "hand", "modality": "behavior"},
}
TRIALS = {"trials": {"path": "trials", "modality": "trials"}}


def posed(folder: Path, recording: AlignedRecording, spec, task: str) -> Problem:
    """A task of a recording."""
    made = shards(folder / f"{recording.id}-{task}", [recording], spec)
    positions = {split: made.positions(split, [recording.id]).tolist() for split in SPLITS}
    queries = {split: read_queries(made, task, positions[split]) for split in SPLITS}
    return Problem(recording, spec, task, made, positions, queries)


def numbers(folder: Path, cells, hand, trial: float | None = None) -> Problem:
    """Cells that a hand is decoded from, in trials of some seconds or none."""
    signals = {
        "cells": Samples(cells, "1", RATE, modality="calcium"),
        "hand": Samples(hand, "m", RATE),
    }
    named, windows = CELLS, {"duration": 2.0, "step": 1.0, "context": 0.5}
    if trial:
        start = np.arange(0.0, len(hand) / RATE, trial)
        signals["trials"] = Intervals(start, start + trial, pd.DataFrame({"n": start}))
        named, windows = CELLS | TRIALS, {"duration": trial, "step": trial, "within": "trials"}
    spec = card(
        signals=named,
        tasks={"hand": {"kind": "regression", "signal": "hand"}},
        windows=windows,
        split={"train": 0.6, "valid": 0.15, "guard": 0.0},
    )
    return posed(
        folder, AlignedRecording("n", "made", "Mus musculus", "made", signals), spec, "hand"
    )


def classes(folder: Path, trials, labels: list[str], rate: float, split: dict | None = None):
    """EEG whose trials (trial × time × channel) each have a label."""
    n, length, channels = trials.shape
    start = np.arange(n) * length / rate
    signals = {
        "eeg": Samples(trials.reshape(-1, channels), "V", rate, modality="eeg"),
        "trials": Intervals(start, start + length / rate, pd.DataFrame({"label": labels})),
    }
    known = sorted(set(labels))
    task = {"kind": "classification", "signal": "trials", "column": "label", "classes": known}
    spec = card(
        signals={"eeg": {"path": "eeg", "modality": "eeg"}} | TRIALS,
        tasks={"label": task},
        windows={"duration": length / rate, "step": length / rate, "within": "trials"},
        split=split or {"by": "trial", "train": 0.4, "valid": 0.2, "guard": 0.0},
    )
    return posed(
        folder, AlignedRecording("c", "made", "Homo sapiens", "made", signals), spec, "label"
    )


def score(problem: Problem, prediction, metric: str):
    """Of the answers to test, the mean over dimensions."""
    return float(np.mean(METRICS[metric].score(problem.queries["test"].truth, prediction.values)))
