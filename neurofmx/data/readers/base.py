"""What every reader offers: the contents of an open file, by path, each read as a signal."""

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from neurofmx.data.signal_cards import SignalCard
from neurofmx.types import Signal


@dataclass(frozen=True)
class About:
    """Whose recording a file holds.

    Attributes:
        title: What was done, in a line.
        notes: What the authors say about it.
        provenance: What else goes along with the recording, as plain values.
    """

    subject: str = "unknown"
    species: str = "unknown"
    title: str = ""
    notes: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Contents(Protocol):
    """An open file."""

    about: About
    kinds: dict[str, str]  # path of everything that can carry a signal → what the file calls it

    def guess(self, path: str) -> str | None:
        """A row of `MODALITIES`, or None for what the pipeline does not read."""
        ...

    def read(self, path: str, card: SignalCard) -> Signal:
        """One signal; sample values stay in the file until they are sliced.

        Raises:
            DataError: It cannot be trusted; the message says what and where.
        """
        ...

    def close(self) -> None:
        """Close the file; nothing of it can be sliced any more."""
        ...
