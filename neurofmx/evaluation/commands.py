"""The command that reproduces a figure: what was chosen besides what is committed.

`neurofmx run -S` writes into `params.yaml`, so its keys that differ from the committed file are all
that a clone has to be told. Where none is committed, the file that lies there is what it is.
"""

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from neurofmx.config import PARAMS_FILE, read_yaml
from neurofmx.evaluation.baselines import BASELINES, chosen

METHODS = "evaluate.methods"


@dataclass(frozen=True)
class Reproduction:
    """How each method's figures are made again in a clone of what is committed.

    Attributes:
        dataset: Name of the card.
        until: Stage that leaves the figures.
        changes: Dotted key of `params.yaml` → value that differs from the committed one.
        known: Baselines that are held against ours without being named.
    """

    dataset: str
    until: str
    changes: dict[str, Any]
    known: tuple[str, ...] = tuple(BASELINES)

    @classmethod
    def here(cls, dataset: str, stages: Sequence[str]) -> "Reproduction":
        """Of the project in the working folder.

        Args:
            stages: Sections of `params.yaml` that can matter, the stage itself last.
        """
        now = read_yaml(PARAMS_FILE) if PARAMS_FILE.exists() else {}
        before = _committed()
        if before is None:
            return cls(dataset, stages[-1], {})
        sections = [s for s in ("seed", *stages) if now.get(s) is not None]
        found = differing({s: before.get(s) for s in sections}, {s: now[s] for s in sections})
        found.pop(METHODS, None)  # a method needs to be named in its own rows alone
        methods = (before.get("evaluate") or {}).get("methods", ["simple"])
        return cls(dataset, stages[-1], found, tuple(chosen(methods)))

    def command(self, method: str) -> str:
        """What to type for the figures of a method."""
        named = {METHODS: [method]} if method in set(BASELINES) - set(self.known) else {}
        words = ["neurofmx", "run", "--dataset", self.dataset, "--until", self.until]
        for key, value in (self.changes | named).items():
            words += ["-S", f"{key}={_text(value)}"]
        return shlex.join(words)


def differing(old: dict[str, Any], new: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Dotted keys of `new` whose value is another in `old`.

    A mapping that has lost keys comes whole; of a section it is not told which lines were lost.
    """
    found: dict[str, Any] = {}
    for key, value in new.items():
        name, before = f"{above}{key}", old.get(key)
        section = isinstance(value, dict) and not above
        if section or _kept(before, value):
            found |= differing(before or {}, value, f"{name}.")
        elif key not in old or before != value:
            found[name] = value
    return found


def _kept(old: Any, new: Any) -> bool:
    """True of a mapping that still has each of its keys."""
    both = isinstance(old, dict) and isinstance(new, dict)
    return both and bool(old) and old.keys() <= new.keys()


def _committed() -> dict[str, Any] | None:
    """`params.yaml` of the last commit, None where there is none."""
    try:
        words = ["git", "show", f"HEAD:./{PARAMS_FILE}"]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return yaml.safe_load(done.stdout)


def _text(value: Any) -> str:
    """YAML on one line."""
    lines = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    return lines.removesuffix("...\n").strip()
