"""One trial: `neurofmx pretrain` in a folder of its own, with some keys changed.

The folder is a project that borrows its folders, all but `storage/pretrain`, from the one that is
searched, so a trial is trained as any model is, and nothing of the project is overwritten.
"""

import csv
import ctypes
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from neurofmx.config import PARAMS_FILE
from neurofmx.errors import Preempted
from neurofmx.search.space import STAGE, changed
from neurofmx.stages import base

POLL = 0.2  # s between looks for a new row of the history
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1  # of prctl(2)


class TrialFailed(Exception):
    """A training ended in an error; what it was lies in the trial's folder."""


@dataclass
class Trial:
    """One training.

    Attributes:
        folder: Where it lies; its last part is the trial's name.
        keys: Searched key → value.
        state: stopped is before the end, by asha.
        seconds: That it was trained, over all starts.
        reason: Why it failed.
    """

    folder: Path
    keys: dict[str, Any]
    state: Literal["running", "finished", "stopped", "failed"] = "running"
    seconds: float = 0.0
    reason: str = ""

    @property
    def made(self) -> Path:
        """What the stage writes."""
        return self.folder / base.STORAGE / STAGE

    @property
    def looks(self) -> list[tuple[int, float]]:
        """Step and loss of each look at the valid split."""
        rows = read_rows(self.made / "history.csv")
        return [(int(row["step"]), float(row["valid"])) for row in rows]

    def train(
        self,
        root: Path,
        content: dict[str, Any],
        tell: Callable[[float, int], None] = lambda valid, look: None,
        stop_at: int | None = None,
    ) -> bool:
        """Train from wherever the folder stands.

        Args:
            root: Of the project that is searched.
            content: Of its `params.yaml`.
            tell: Called with the loss of each look and its number from 1; it may raise to end it.
            stop_at: Step at which to leave off. What the folder holds may then be of other keys.

        Returns:
            Whether the end was reached.

        Raises:
            TrialFailed: It ended in an error.
        """
        given = self.keys | {f"{STAGE}.track": []}
        if stop_at is not None:
            halt = {"stop_at": stop_at, "adopt": True}
            given |= {f"{STAGE}.fit.checkpoint.{key}": value for key, value in halt.items()}
        process, told, ended = self._start(root, changed(content, given)), 0, False
        try:
            while not ended:
                ended = process.poll() is not None
                for _, valid in self.looks[told:]:
                    told += 1
                    tell(valid, told)
                time.sleep(0 if ended else POLL)
        finally:
            process.terminate()  # it ends its step and saves before it does
            code = process.wait()
        if code and (code != Preempted.exit_code or stop_at is None):
            raise TrialFailed(f"{self.folder}: {self.error}")
        return not code

    @property
    def error(self) -> str:
        """What the stage said of its end, and where it said more; empty if it never began."""
        path = self.folder / base.STORAGE / "error.json"
        if not path.exists():
            return ""
        return f"{json.loads(path.read_text())['message']} ({self.folder / 'log.txt'})"

    def _start(self, root: Path, content: dict[str, Any]) -> subprocess.Popen:
        storage = self.folder / base.STORAGE
        storage.mkdir(parents=True, exist_ok=True)
        _borrow(root, self.folder, {base.STORAGE.name})
        _borrow(root / base.STORAGE, storage, {STAGE, "search"})
        (self.folder / PARAMS_FILE).write_text(yaml.safe_dump(content, sort_keys=False))
        with (self.folder / "log.txt").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "neurofmx", STAGE],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent if LIBC else None,
            )


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file; none where it is not there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _borrow(there: Path, here: Path, own: set[str]) -> None:
    """Link the folders that lie in one into another, but for hidden ones and its own."""
    for path in there.iterdir():
        link = here / path.name
        if path.is_dir() and path.name not in own and path.name[0] != "." and not link.exists():
            link.symlink_to(path.resolve())


def _end_with_parent() -> None:
    """In the new process: be told to stop when the one that started it is killed."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # type: ignore[union-attr]
