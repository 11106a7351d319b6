"""Several data sets as one."""

import bisect
import hashlib
import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Int32, Integer
from numpy import ndarray

from neurofmx.data.shards import Packed, Position, Sample, Shards
from neurofmx.errors import DataError, UserError

ROUNDING = 1e-6  # by which two writings of one duration may differ


class Pool:
    """Windows of several data sets: those of the first, then those of the next.

    Their channels stay apart, since each belongs to a recording; tasks of one name become one.

    Args:
        parts: The data sets, each under a name of its own.

    Raises:
        UserError: Two data sets or two recordings have the same name, or a signal or task of one
            name is not the same thing in all.
    """

    def __init__(self, parts: Sequence[Shards]):
        self.parts = list(parts)
        self.name = " + ".join(part.name for part in parts)
        _different([part.name for part in parts], "data sets")
        self.starts = np.cumsum([0, *map(len, parts)]).tolist()
        self.channels = pd.concat([part.channels for part in parts], ignore_index=True)
        _different([r for p in parts for r in p.channels["recording"].unique()], "recordings")
        self.signals = _agreed([part.signals for part in parts], [part.name for part in parts])
        self.tasks = _pooled_tasks({part.name: part.tasks for part in parts})

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, position: Position) -> Sample:
        number, own = self._place(position)
        return self.parts[number][own]

    def load(self) -> None:
        """As that of each part."""
        for part in self.parts:
            part.load()

    @cached_property
    def index_hash(self) -> str:
        """Changes when that of any part does."""
        lines = [f"{part.name} {part.index_hash}" for part in self.parts]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @cached_property
    def index(self) -> pd.DataFrame:
        """The tables of all parts, one behind the other."""
        return pd.concat([part.index for part in self.parts], ignore_index=True)

    @cached_property
    def tokens(self) -> Int32[ndarray, " window"]:
        """Tokens of each window."""
        return np.concatenate([part.tokens for part in self.parts])

    def positions(
        self, split: str, recordings: Collection[str] | None = None
    ) -> Int[ndarray, " window"]:
        """Where the windows of a split (and of some recordings) stand."""
        found = [part.positions(split, recordings) for part in self.parts]
        return np.concatenate([p + s for p, s in zip(found, self.starts, strict=False)])

    def read(self, positions: Iterable[Position]) -> list[Packed | DataError]:
        """The bytes of windows and their layouts; what is wrong with one that cannot be read."""
        found: dict[int, Packed | DataError] = {}
        for number, rows in self._by_part(positions).items():
            came = self.parts[number].read(place for _, place in rows)
            found |= {row: one for (row, _), one in zip(rows, came, strict=True)}
        return [found[row] for row in range(len(found))]

    def _by_part(self, positions: Iterable[Position]) -> dict[int, list[tuple[int, int]]]:
        """Of the windows in each part, the row where they were asked for and the position there."""
        rows: dict[int, list[tuple[int, int]]] = {}
        for row, position in enumerate(positions):
            number, place = self._place(position)
            rows.setdefault(number, []).append((row, place))
        return rows

    def keys(self, positions: Iterable[Position]) -> list[str]:
        """Keys of windows."""
        places = [self._place(position) for position in positions]
        return [self.parts[number].keys([position])[0] for number, position in places]

    def _place(self, position: Position) -> tuple[int, int]:
        """The part that holds a window, and its position there."""
        place = int(position)
        number = bisect.bisect_right(self.starts, place) - 1
        return number, place - self.starts[number]


class Chosen(Pool):
    """A data set of which only some windows are trained on.

    Args:
        shards: All windows.
        chosen: Positions by split; a split that is not named keeps all of its own.
    """

    def __init__(self, shards: Shards, chosen: dict[str, Sequence[int]]):
        super().__init__([shards])
        self.chosen = {split: np.array(sorted(rows), np.int64) for split, rows in chosen.items()}

    def positions(
        self, split: str, recordings: Collection[str] | None = None
    ) -> Int[ndarray, " window"]:
        """Those that were chosen, of the recordings that are named."""
        if split not in self.chosen:
            return super().positions(split, recordings)
        wanted = self.parts[0].recordings.rows(recordings) if recordings is not None else None
        rows = self.chosen[split]
        return rows if wanted is None else rows[wanted[rows]]

    @cached_property
    def index_hash(self) -> str:
        """Changes with the choice."""
        content = [super().index_hash, *(f"{k} {v.tolist()}" for k, v in self.chosen.items())]
        return hashlib.sha256("\n".join(content).encode()).hexdigest()


Windows = Shards | Pool


def by_dataset(
    shards: Windows, positions: Integer[ndarray, " window"]
) -> dict[str, Integer[ndarray, " _"]]:
    """Positions (in ascending order) of the windows of each data set."""
    if isinstance(shards, Shards):
        return {shards.name: positions}
    cuts = np.searchsorted(positions, shards.starts[1:-1])
    names = [part.name for part in shards.parts]
    return dict(zip(names, np.split(positions, cuts), strict=True))


def holding(shards: Windows, signals: Collection[str]) -> Bool[ndarray, " window"]:
    """True for each window that holds one of the signals."""
    if isinstance(shards, Pool):
        return np.concatenate([holding(part, signals) for part in shards.parts])
    sets = shards.contents
    return sets.rows([names for names in sets.labels if set(names.split(",")) & set(signals)])


def stretches(shards: Windows) -> Int[ndarray, " edge"]:
    """Where each run of windows of one recording and split begins, and the number of windows."""
    if isinstance(shards, Pool):
        parts = [stretches(part)[:-1] for part in shards.parts]
        starts = zip(parts, shards.starts, strict=False)
        return np.concatenate([*(part + start for part, start in starts), [len(shards)]])
    changes = np.zeros(len(shards), bool)
    changes[:1] = True
    for codes, _ in (shards.recordings, shards.splits):
        changes[1:] |= codes[1:] != codes[:-1]
    return np.append(np.flatnonzero(changes), len(shards))


def _different(names: list[str], kind: str) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise UserError(
            f"pooled {kind} need names of their own, but {', '.join(twice)} stands for several; "
            "rename one in its card and run its pipeline again"
        )


def _agreed(signals: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """The signals of all parts, where those of one name are the same thing."""
    found: dict[str, tuple[str, Any]] = {}
    for name, part in zip(names, signals, strict=True):
        for signal, spec in part.items():
            first, known = found.setdefault(signal, (name, spec))
            for key in {**known, **spec}:
                _same(f"signal {signal!r}", key, first, known.get(key), name, spec.get(key))
    return {signal: spec for signal, (_, spec) in found.items()}


def _same(thing: str, key: str, first: str, known: Any, name: str, value: Any) -> None:
    times = key == "dt" and None not in (known, value)
    if not (math.isclose(known, value, rel_tol=ROUNDING) if times else known == value):
        raise UserError(
            f"{thing} cannot be pooled: its {key} is {known!r} in {first} and {value!r} in {name}; "
            "make the cards agree and tokenize again, or give it another name in one of them"
        )


def _pooled_tasks(tasks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The tasks of all parts, those of one name joined."""
    found: dict[str, dict[str, Any]] = {}
    for name, part in tasks.items():
        for task, spec in part.items():
            found.setdefault(task, {})[name] = spec
    return {task: _pooled_task(task, specs) for task, specs in found.items()}


def _pooled_task(task: str, specs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One task with the mean and scale over the target rows of all parts, by their `count`."""
    first, *others = specs
    for name in others:
        a, b = specs[first], specs[name]
        _same(f"task {task!r}", "kind", first, a["kind"], name, b["kind"])
        _same(f"task {task!r}", "classes", first, a.get("classes"), name, b.get("classes"))
        dims = [len(spec.get("mean", [])) for spec in (a, b)]
        _same(f"task {task!r}", "number of dimensions", first, dims[0], name, dims[1])
    if not others or "mean" not in specs[first]:
        return specs[first]
    count, mean, scale = (
        np.array([spec[key] for spec in specs.values()]) for key in ("count", "mean", "scale")
    )
    share = count[:, None] / max(1, count.sum())
    middle = (share * mean).sum(axis=0)
    variance = (share * (scale**2 + (mean - middle) ** 2)).sum(axis=0)
    scale = np.where(variance > 0, np.sqrt(variance), 1.0)
    pooled = {"count": int(count.sum()), "mean": middle.tolist(), "scale": scale.tolist()}
    return specs[first] | pooled
