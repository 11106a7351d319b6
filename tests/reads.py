"""Reading recordings in tests: the signals of some files, without a card on disk."""

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from neurofmx.data.cards import Card
from neurofmx.data.reading import read_recording
from neurofmx.data.signal_cards import SignalCard
from neurofmx.data.sources.local import LocalSource
from neurofmx.types import Recording, Samples, Signal

TRIALS = {"path": "intervals/trials", "modality": "trials"}
UNITS = {"path": "units", "modality": "spikes"}


def card_of(dialect: str = "plain", **signals: dict[str, Any]) -> Card:
    """A card that asks for these signals and no task."""
    cards = {name: SignalCard(**signal) for name, signal in signals.items()}
    source = LocalSource(path=Path("."))
    return Card(
        name="x", title="", licence="", source=source, dialect=dialect, signals=cards, tasks={}
    )


def opened(
    *paths: Path, dialect: str = "plain", **signals: dict[str, Any]
) -> AbstractContextManager[Recording]:
    """The recording that these files make up."""
    return read_recording("x", list(paths), card_of(dialect, **signals))


def loaded(signal: Signal) -> Signal:
    """The signal with its values in memory, for when its file is closed."""
    return replace(signal, values=signal.values[:]) if isinstance(signal, Samples) else signal


def read(paths: list[Path], dialect: str, **signals: dict[str, Any]) -> dict[str, Any]:
    """The signals of one recording's files."""
    with opened(*paths, dialect=dialect, **signals) as recording:
        return {name: loaded(signal) for name, signal in recording.signals.items()}


def read_one(path: Path, where: str, modality: str, **more: Any) -> Any:
    """One signal of one file."""
    with opened(path, x={"path": where, "modality": modality, **more}) as recording:
        return loaded(recording.signals["x"])
