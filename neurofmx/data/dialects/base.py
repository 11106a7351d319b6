"""What a dialect is, and names that are safe everywhere."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from neurofmx.data.readers.base import Contents
from neurofmx.types import Signal


def stem(path: str) -> str:
    """Name of a file, with what is unsafe in a key made `_`: files and recordings are the same."""
    return safe(Path(path).stem)


def safe(name: str) -> str:
    """A name that can be a key, a folder and a member of a shard."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def session(path: str) -> str:
    """`sub-X_ses-Y` of a file that is named as the archive names them; else its stem."""
    found = re.match(r"sub-[^_]+_ses-[^_.]+", Path(path).name)
    return safe(found[0]) if found else stem(path)


def as_read(signal: Signal, contents: Contents, files: list[Contents]) -> Signal:
    """The signal unchanged."""
    return signal


@dataclass(frozen=True)
class Dialect:
    """One way to lay out files.

    Attributes:
        recording: Path of a file in its source → id of its recording; files that share it are one.
        mend: Signal, its open file and all files of the recording → the signal as it was meant.
        ignored: Of the paths of one recording, those that repeat what another holds better.
    """

    recording: Callable[[str], str] = stem
    mend: Callable[[Signal, Contents, list[Contents]], Signal] = as_read
    ignored: Callable[[list[str]], list[str]] = lambda paths: []
