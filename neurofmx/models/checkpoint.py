"""A model on disk: `model.safetensors` with every tensor, `config.json` with what it is built from.

What is read back is bit-equal to what was written. A tensor that the model does not have, one that
is missing, or one of another shape is refused: a model that is partly new would still answer.
"""

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from neurofmx.errors import UserError

TENSORS, CONFIG = "model.safetensors", "config.json"
SHOWN = 5  # names in an error


def save(model: nn.Module, config: str, folder: Path) -> None:
    """Write the two files, each all or nothing, the tensors first.

    Args:
        config: As JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / ".model.tmp"
    state = {name: x.detach().cpu().contiguous() for name, x in model.state_dict().items()}
    save_file(state, temporary)
    os.replace(temporary, folder / TENSORS)
    temporary.write_text(config + "\n")
    os.replace(temporary, folder / CONFIG)


def read_config(folder: Path) -> dict[str, Any]:
    """What the model is built from.

    Raises:
        UserError: There is no model in the folder.
    """
    for name in (TENSORS, CONFIG):
        if not (folder / name).exists():
            raise UserError(f"{folder} holds no {name}; run `neurofmx pretrain` first")
    return json.loads((folder / CONFIG).read_text())


def load_tensors(model: nn.Module, folder: Path) -> None:
    """Give a model its tensors.

    Raises:
        UserError: They are not those of this model; names what differs.
    """
    path = folder / TENSORS
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise UserError(
            f"{path} cannot be read: {error}; copy it anew, or pretrain again"
        ) from None
    try:
        left = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise UserError(
            f"{path} has tensors of another shape than {CONFIG} says: {error}"
        ) from None
    for wrong, what in ((left.unexpected_keys, "unknown"), (left.missing_keys, "missing")):
        if wrong:
            more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            raise UserError(
                f"{path}: {', '.join(wrong[:SHOWN])}{more} {what} in a model built from {CONFIG}: "
                "another version wrote it; use that one, or pretrain again"
            )


def parameter_table(model: nn.Module) -> list[tuple[str, str, int, float]]:
    """Part, kind, number of parameters and share of each part of a model, the largest first."""
    parts = [
        (name, type(part).__name__, sum(p.numel() for p in part.parameters()))
        for name, part in model.named_children()
    ]
    own = sum(p.numel() for p in model.parameters(recurse=False))
    parts += [("itself", type(model).__name__, own)] if own else []
    total = max(1, sum(n for _, _, n in parts))
    rows = [(name, kind, n, n / total) for name, kind, n in parts if n]
    return sorted(rows, key=lambda row: -row[2])
