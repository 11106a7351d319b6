"""Where a training run stands, and its files, each written all or nothing."""

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn


@dataclass
class Progress:
    """Where a run stands: what `state.json` holds beside the engine's state.

    Attributes:
        key: Hash of the windows, the model and the parameters; another key starts anew.
        step: Steps made.
        best: Least that was unexplained of the valid split so far.
        history: A row per look at the valid split.
        loader: State of the loader.
        skipped: Times that a window could not be read and was left out.
        problems: What was wrong with the first of them.
    """

    key: str
    step: int = 0
    best: float = float("inf")
    history: list[dict[str, Any]] = field(default_factory=list)
    loader: dict[str, Any] = field(default_factory=dict)
    skipped: int = 0
    problems: list[str] = field(default_factory=list)


def write_history(rows: list[dict[str, Any]], path: Path) -> None:
    """A row per look at the valid split, as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_text(path: Path, text: str) -> None:
    """A text file."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def save_weights(model: nn.Module, path: Path) -> None:
    """Every tensor of a model."""
    temporary = path.with_name(f".{path.name}.tmp")
    save_file({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, temporary)
    os.replace(temporary, path)
