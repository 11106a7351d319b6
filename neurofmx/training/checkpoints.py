"""Checkpoints: written aside, renamed when whole, proven when read.

    state/step-000100/     what the engine wrote, each rank its shards
        progress.json      where the run stood, and its key
        manifest.json      size and CRC-32C of every file, what the valid split said; comes last

A folder is renamed from `.step-000100.tmp` when its manifest is in it, so a run that is killed or a
disk that fills up leaves the one before. Kept are the last and the best `keep`. A checkpoint with a
damaged file is passed over, and that is said.
"""

import dataclasses
import json
import shutil
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import google_crc32c
import torch
from tqdm import tqdm

from neurofmx.training.engines import Engine
from neurofmx.training.progress import Progress, write_text, writing

MANIFEST, PROGRESS = "manifest.json", "progress.json"
CHUNK = 2**22  # bytes read at a time


class Checkpoints:
    """The checkpoints of a run.

    Args:
        folder: Where they lie.
        engine: Writes and reads them; every rank has its own.
        keep: How many of the best are kept beside the last.
        behind: Whether they are written while training goes on, where the engine can.
    """

    def __init__(self, folder: Path, engine: Engine, keep: int = 1, behind: bool = True):
        self.folder, self.engine, self.keep = folder, engine, keep
        self.behind = behind and engine.asynchronous
        self._writing: Future | None = None
        self._thread = ThreadPoolExecutor(1)

    def save(self, progress: Progress, wait: bool = False) -> None:
        """Write one of this step, behind the next steps unless told to wait; all ranks call it.

        Raises:
            TransientError: The disk is full or gone; the checkpoints before are whole.
        """
        self.settle()
        step = progress.step
        aside = self.folder / f".step-{step:08d}.tmp"
        if self.engine.rank == 0:
            shutil.rmtree(aside, ignore_errors=True)
            with writing(self.folder):
                aside.mkdir(parents=True)
        self.engine.barrier()
        said = json.dumps(dataclasses.asdict(progress))
        behind = self.behind and not wait
        with writing(self.folder):
            written = self.engine.save(aside, behind)
        self.engine.barrier()
        target, figure = self.folder / f"step-{step:08d}", progress.valid

        def finish() -> None:
            if written is not None:
                written.result()
            if self.engine.rank == 0:
                write_text(aside / PROGRESS, said)
                write_text(aside / MANIFEST, json.dumps(_manifest(aside, figure)))
                shutil.rmtree(target, ignore_errors=True)
                aside.rename(target)
                self._prune(target)

        self._writing = self._thread.submit(finish)
        if not behind:
            self.settle()

    def settle(self) -> None:
        """Wait until the one that is being written is whole.

        Raises:
            TransientError: It could not be.
        """
        if self._writing is not None:
            under_way, self._writing = self._writing, None
            with writing(self.folder):
                under_way.result()
            self.engine.barrier()

    def newest(self) -> tuple[Path, Progress] | None:
        """The newest whole checkpoint; damaged ones are named and passed over. All call it."""
        found = -1
        paths = sorted(self.folder.glob("step-*"), reverse=True)
        if self.engine.rank == 0:
            for number, path in enumerate(paths):
                wrong = damage(path)
                if not wrong:
                    found = number
                    break
                tqdm.write(f"{path} is damaged ({wrong}): going on from the one before", sys.stderr)
        chosen = torch.tensor(found + 1 if self.engine.rank == 0 else 0, device=self.engine.device)
        number = int(self.engine.sum(chosen)) - 1
        if number < 0:
            return None
        path = paths[number]
        return path, Progress(**json.loads((path / PROGRESS).read_text()))

    def clear(self) -> None:
        """Remove all; rank 0 does."""
        if self.engine.rank == 0:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.engine.barrier()

    def _prune(self, last: Path) -> None:
        """Keep the last and the best; one without a figure is no best."""
        figures = {}
        for path in self.folder.glob("step-*"):
            told = json.loads((path / MANIFEST).read_text())["valid"]
            if told is not None:
                figures[path] = told
        best = sorted(figures, key=lambda path: (figures[path], path.name))[: self.keep]
        for path in self.folder.glob("step-*"):
            if path != last and path not in best:
                shutil.rmtree(path)


def damage(path: Path) -> str:
    """What is wrong with a checkpoint; empty for one that is whole."""
    try:
        files = json.loads((path / MANIFEST).read_text())["files"]
        for name, (size, crc) in files.items():
            file = path / name
            if not file.exists():
                return f"{name} is missing"
            if file.stat().st_size != size:
                return f"{name} has {file.stat().st_size} bytes and not {size}"
            if _crc(file) != crc:
                return f"{name} has another checksum"
    except (OSError, ValueError, KeyError) as error:
        return f"{MANIFEST}: {error}"
    return ""


def _manifest(folder: Path, figure: float | None) -> dict[str, Any]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    files = {str(p.relative_to(folder)): [p.stat().st_size, _crc(p)] for p in paths}
    return {"files": files, "valid": figure}


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            crc = google_crc32c.extend(crc, chunk)
    return crc
