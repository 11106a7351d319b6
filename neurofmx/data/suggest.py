"""A dataset card suggested from recordings: `neurofmx card` writes it, a person edits it.

Signals that every readable file has are taken over with a guessed modality. Places and velocities
become regression tasks, columns of intervals with few labels become classification tasks; windows
and splits follow from how the recording is cut.
"""

import re
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from neurofmx.data.cards import Card, Split, Windows
from neurofmx.data.dialects import stem
from neurofmx.data.readers import READERS, open_contents
from neurofmx.data.readers.base import Contents
from neurofmx.data.signal_cards import SignalCard
from neurofmx.data.sources.local import LocalSource
from neurofmx.data.tasks import ClassificationTask, RegressionTask, Task
from neurofmx.errors import DataError
from neurofmx.signal.clocks import nominal_rate
from neurofmx.types import Intervals, Samples, Signal

DECODABLE = re.compile(r"(?:^|[^A-Za-z])(?:vel|speed|pos)|Vel|Speed|Pos")
PIECES = ("segments", "observed", "recordings", "trials")  # the first of these cuts windows
CLASSES = range(2, 11)  # labels that a classification task may have
PER_CLASS = 5  # intervals that each label needs on average, in each file
WINDOW = (0.4, 4.0)  # s, shortest and longest window that a long recording is cut into
SAMPLES = 10  # of the slowest input that a window should hold
# Behaviour: where there is anything else, the model must not see it, as it would give targets away.
SHOWN = ("pose", "eye", "video")


@dataclass(frozen=True)
class _File:
    """What a card needs to know of one file; sample values are left in it.

    Attributes:
        signals: By path inside the file.
        broken: Paths of signals that cannot be read; ingest quarantines the file if they are named.
    """

    recording: str
    title: str
    notes: str
    signals: dict[str, Signal]
    broken: set[str]


def suggest(path: Path, name: str) -> Card:
    """A card for one file or for a folder of them.

    Files that cannot be read belong to it all the same: ingest quarantines them with the reason.

    Raises:
        UserError: There is no such path, or no file with a reader in it.
        DataError: No file holds anything that the pipeline reads.
    """
    source = LocalSource(path=path, pattern=_patterns(path))
    files = _scan(source.found)
    signals = _signals(files)
    tasks = _tasks(signals, files)
    windows = _windows(signals, tasks, files)
    split = _split(signals, tasks, files, 0.0 if windows.within else 1.0)
    if split.by == "time":
        windows, split = _fitted(windows, split, _length(signals, tasks, windows.within, files))
    return Card(
        name=name,
        title=files[0].title or name,
        licence=_noted(files[0].notes, "licen[cs]e", "unknown: find out before sharing"),
        citation=_noted(files[0].notes, "citation", ""),
        source=source,
        signals=signals,
        tasks=tasks,
        windows=windows,
        split=split,
        adapt=[files[-1].recording] if len(files) >= 3 else [],
    )


def _scan(paths: list[Path]) -> list[_File]:
    files, problems = [], []
    for path in paths:
        try:
            with closing(open_contents(path)) as contents:
                files.append(_file(path, contents))
        except DataError as error:
            problems.append(str(error))
    if not any(file.signals for file in files):
        raise DataError("\n".join([*problems, f"{paths[0].parent}: no file has a usable signal"]))
    return [file for file in files if file.signals]


def _file(path: Path, contents: Contents) -> _File:
    signals, broken = {}, set()
    for where in contents.kinds:
        modality = contents.guess(where)
        if modality is None:
            continue
        try:
            signals[where] = contents.read(where, SignalCard(path=where, modality=modality))
        except DataError:
            broken.add(where)
    return _File(stem(path.name), contents.about.title, contents.about.notes, signals, broken)


def _patterns(path: Path) -> str | list[str]:
    """Globs of the kinds of files with a reader that a folder holds."""
    kinds = sorted({p.suffix for p in path.rglob("*") if p.is_file() and p.suffix in READERS})
    globs = [f"**/*{kind}" for kind in kinds] or ["**/*.nwb"]
    return globs[0] if len(globs) == 1 else globs


def _signals(files: list[_File]) -> dict[str, SignalCard]:
    """A signal card for each path that all files have, under a short name."""
    examples = {path: signal for file in files for path, signal in file.signals.items()}
    cards: dict[str, SignalCard] = {}
    for path, signal in sorted(examples.items()):
        if not all(path in file.signals or path in file.broken for file in files):
            continue
        short = _short(path)
        if short in cards:
            short = _short("_".join(path.split("/")[-2:]))
        cards[short] = SignalCard(
            path=path,
            modality=signal.modality,
            rate=_rate(signal),
        )
    others = any(card.tokenized_by for card in cards.values() if card.modality not in SHOWN)
    hidden = {n: c for n, c in cards.items() if others and c.modality in SHOWN}
    return cards | {n: c.model_copy(update={"input": False}) for n, c in hidden.items()}


def _short(path: str) -> str:
    last = path.rsplit("/", 1)[-1]
    if last in ("units", "binned_spikes"):
        return "spikes"
    return re.sub(r"[^A-Za-z0-9_]", "_", last)


def _rate(signal: Signal) -> float | None:
    """Rate to resample irregular samples to (Hz): their own, between gaps."""
    if isinstance(signal, Samples) and signal.times is not None and len(signal) > 1:
        return nominal_rate(signal.times)
    return None


def _tasks(signals: dict[str, SignalCard], files: list[_File]) -> dict[str, Task]:
    tasks: dict[str, Task] = {}
    for name, card in signals.items():
        if card.modality == "behavior" and DECODABLE.search(name):
            tasks[name] = RegressionTask(signal=name)
        if card.modality == "trials":
            for column in _labels([table.columns for table in _intervals(card.paths[0], files)]):
                key = column if column not in tasks else f"{name}_{column}"
                tasks[key] = ClassificationTask(signal=name, column=column)
    return tasks


def _intervals(path: str, files: list[_File]) -> list[Intervals]:
    found = [file.signals.get(path) for file in files]
    return [signal for signal in found if isinstance(signal, Intervals)]


def _labels(tables: list[pd.DataFrame]) -> list[str]:
    """Columns with few labels, each often enough; of two that say the same, the first.

    Which eye a tracker's event is of is no behaviour.
    """
    table = pd.concat(tables, ignore_index=True)
    shortest = min(len(one) for one in tables)
    kept: dict[str, tuple] = {}
    for column in table.columns.drop("id"):
        values = table[column]
        n = values.nunique()
        if column == "eye" or values.isna().any() or n not in CLASSES or shortest < PER_CLASS * n:
            continue
        codes = tuple(pd.factorize(values)[0])
        if codes not in kept.values():
            kept[str(column)] = codes
    return list(kept)


def _windows(signals: dict[str, SignalCard], tasks: dict[str, Task], files: list[_File]) -> Windows:
    """Windows as long as most pieces of the recording, or a few seconds of a long piece."""
    tables = [name for name, card in signals.items() if card.modality == "trials"]
    labelled = [task.signal for task in tasks.values() if task.kind == "classification"]
    only_labels = bool(labelled) and len(labelled) == len(tasks)
    order = labelled if only_labels else [name for name in PIECES if name in tables]
    if not order:
        return _long_enough(signals, files)
    within = order[0]
    pieces = _intervals(signals[within].paths[0], files)
    lengths = np.concatenate([p.stop - p.start for p in pieces])
    typical = round(float(np.quantile(lengths, 0.5 if only_labels else 0.9)), 3)
    if only_labels and typical > 0:
        return Windows(duration=typical, step=typical, within=within)
    if typical > 2 * WINDOW[1]:
        return Windows(duration=WINDOW[1], step=WINDOW[1] / 2, context=1.0, within=within)
    duration = round(float(np.clip(typical, *WINDOW)), 1)
    return Windows(duration=duration, step=duration / 2, within=within)


def _long_enough(signals: dict[str, SignalCard], files: list[_File]) -> Windows:
    """Windows of two seconds, or of ten samples of the slowest input."""
    rates = [
        card.rate or signal.rate
        for card in signals.values()
        for file in files
        if card.paths[0] in _inputs(signals)
        and isinstance(signal := file.signals.get(card.paths[0]), Samples)
    ]
    duration = max([2.0, *(SAMPLES / rate for rate in rates if rate)])
    return Windows(duration=duration, step=duration / 2, context=duration / 4)


def _inputs(signals: dict[str, SignalCard]) -> set[str]:
    """Paths of what the model reads."""
    return {card.paths[0] for card in signals.values() if card.input and card.tokenized_by}


def _length(
    signals: dict[str, SignalCard], tasks: dict[str, Task], within: str | None, files: list[_File]
) -> float:
    """Seconds that can be cut of the shortest file."""
    targets = {signals[t.signal].paths[0] for t in tasks.values() if t.kind == "regression"}
    lengths = []
    for file in files:
        pieces = file.signals.get(signals[within].paths[0]) if within else None
        if isinstance(pieces, Intervals):
            lengths.append(float((pieces.stop - pieces.start).sum()))
        else:
            read = (_inputs(signals) | targets) & set(file.signals)
            spans = [file.signals[path].span for path in read]
            lengths += [min(b for _, b in spans) - max(a for a, _ in spans)] if spans else []
    return min(lengths, default=0.0)


def _fitted(windows: Windows, split: Split, length: float) -> tuple[Windows, Split]:
    """Windows and a guard that fit in the valid part of a recording, which is its shortest.

    Args:
        length: Of the recording (s); 0 where there is nothing to cut, and nothing to be fitted.
    """
    valid = split.valid * length
    guard = min(split.guard, valid / 4)
    share = (valid - guard) / windows.duration
    if length <= 0 or share >= 1:
        return windows, split
    shorter = {
        key: float(f"{share * value:.2g}")
        for key, value in windows.model_dump(include={"duration", "step", "context"}).items()
    }
    split = split.model_copy(update={"guard": float(f"{guard:.2g}")})
    return windows.model_copy(update=shorter), split


def _split(
    signals: dict[str, SignalCard], tasks: dict[str, Task], files: list[_File], guard: float
) -> Split:
    """By trial where all tasks are labels, with shares that leave each label some for valid."""
    labelled = [task for task in tasks.values() if isinstance(task, ClassificationTask)]
    if not labelled or len(labelled) < len(tasks):
        return Split(guard=guard)
    tables = [
        table.columns[task.column]
        for task in labelled
        for table in _intervals(signals[task.signal].paths[0], files)
    ]
    fewest = min(int(column.value_counts().min()) for column in tables)
    split = Split(by="trial", guard=guard)
    valid = round(fewest * (split.train + split.valid)) - round(fewest * split.train)
    return split if valid else Split(by="trial", train=0.5, valid=0.2, guard=guard)


def _noted(notes: str, key: str, otherwise: str) -> str:
    """What a line `key: value` of the notes says."""
    found = re.search(rf"^{key}:\s*(.+)$", notes, re.MULTILINE | re.IGNORECASE)
    return found[1].strip() if found else otherwise
