"""Where a training run stands, and its files, each written all or nothing."""

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from neurofmx.errors import TransientError


@dataclass
class Progress:
    """Where a run stands: what a checkpoint holds beside the engine's state.

    Attributes:
        key: Hash of the windows, the model and the parameters; another key starts anew.
        step: Steps made.
        best: Least that was unexplained of the valid split so far.
        valid: What was unexplained when it was last looked at.
        history: A row per look at the valid split.
        loader: State of the loader.
        skipped: Times that a window could not be read and was left out.
        problems: What was wrong with the first of them.
        bad: Steps that were left out, as their loss or gradient was no number.
        runs: Id under which each tracker knows the run.
    """

    key: str
    step: int = 0
    best: float = float("inf")
    valid: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    loader: dict[str, Any] = field(default_factory=dict)
    skipped: int = 0
    problems: list[str] = field(default_factory=list)
    bad: int = 0
    runs: dict[str, str] = field(default_factory=dict)


def write_history(rows: list[dict[str, Any]], path: Path) -> None:
    """A row per look at the valid split, as CSV; an objective that was not asked has no value."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def write_text(path: Path, text: str) -> None:
    """A text file."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Every tensor of a model."""
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path.parent):
        save_file(weights, temporary)
        os.replace(temporary, path)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Around what is written while a run goes on: a disk that is full or gone is told as such.

    Raises:
        TransientError: It is; what was written before is whole.
    """
    try:
        yield
    except BaseException as error:  # which torch's CheckpointException is
        cause = _of_disk(error)
        if cause is None:
            raise
        raise TransientError(
            f"a file in {folder} could not be written: {cause}. The checkpoints before are whole: "
            "free space or wait, then run the same command again to go on"
        ) from error


def _of_disk(error: BaseException) -> BaseException | None:
    """What is wrong with the disk among what an error wraps; torch hands errors on by rank."""
    failures = getattr(error, "failures", None) or {}
    inner = [wrapped[0] for wrapped in failures.values()]
    for found in (error, error.__cause__, error.__context__, *inner):
        # torch's and safetensors' writers lose the system's own error.
        lost = any(text in str(found) for text in ("inline_container", "I/O error"))
        if found is not None and (isinstance(found, OSError) or lost):
            return found
    return None
