"""What every stage does alike: fan out over recordings, survive being killed, say what happened.

A stage writes into `storage/<stage>/`. Each recording's output carries a key, the hash of
everything it depends on, and is renamed into place when whole; so a stage that was killed goes on
where it stopped, and an unchanged recording is skipped. `manifest.json` comes last. It lists the
outputs by key and nothing that differs between two equal runs; the next stage depends on it.

    status.parquet    a row per recording: outcome, key, seconds, reason
    metrics.json      seconds, peak memory and counts of the stage: a measurement, never an input
    manifest.json     recording → key
"""

import hashlib
import json
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import dask
import pandas as pd
from dask.callbacks import Callback
from rich.console import Console

import neurofmx
from neurofmx.data import store
from neurofmx.data.cards import Card
from neurofmx.data.digests import file_digest as file_digest
from neurofmx.errors import DataError, NeuroFMXError, TransientError, UserError, is_transient

STORAGE = Path("storage")
SPAWN_BYTES = 256 * 2**20  # to read; below, processes take longer to start than to work
MEASUREMENTS = ("metrics.json", "status.parquet")  # differ between two equal runs
console = Console(highlight=False, soft_wrap=True)


Outcome = Literal["done", "skipped", "quarantined", "refused", "failed"]


@dataclass(frozen=True)
class Job:
    """One recording of a stage.

    Attributes:
        recording: Its id.
        inputs: Everything that its output depends on, as plain values; hashed to the key.
        arguments: What the work function is given.
        size: Bytes that it reads, by which `fan_out` decides whether processes pay.
    """

    recording: str
    inputs: dict[str, Any]
    arguments: tuple = ()
    size: int = 0

    @property
    def key(self) -> str:
        """Hash of the inputs."""
        return digest(self.inputs)


@dataclass(frozen=True)
class Status:
    """What became of a recording in a stage."""

    recording: str
    outcome: Outcome
    key: str
    seconds: float = 0.0
    reason: str = ""


@dataclass
class Report:
    """Counts that a stage adds to its `metrics.json`."""

    values: dict[str, Any] = field(default_factory=dict)


def folder(stage: str) -> Path:
    """`storage/<stage>`, made if it is absent."""
    path = STORAGE / stage
    path.mkdir(parents=True, exist_ok=True)
    return path


def raw_folder(card: Card) -> Path:
    """Where the files of a data set are kept: downloads beside what stages write, for any run.

    Synthetic files lie in ingest's own folder, with the truth that interpret reads.
    """
    return folder("ingest") if made(card) else STORAGE / "raw" / card.name


def made(card: Card) -> bool:
    """True where ingest itself makes the files."""
    return card.source.kind == "synthetic"


def digest(content: Any) -> str:
    """sha256 of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


@cache  # read once, not once a recording
def code_version(*modules: str) -> str:
    """Hash of files and folders under `neurofmx/`, so that a change of code is a change of key."""
    root = Path(neurofmx.__file__).parent
    files = {
        f for m in modules for f in ([root / m] if m.endswith(".py") else (root / m).glob("*.py"))
    }
    return digest([(f.name, f.read_text()) for f in sorted(files)])


def write_json(path: Path, content: Any) -> None:
    """Write JSON all or nothing, keys sorted."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    os.replace(temporary, path)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write Parquet all or nothing."""
    temporary = path.with_name(f".{path.name}.tmp")
    table.to_parquet(temporary, index=False)
    os.replace(temporary, path)


def read_manifest(stage: str) -> dict[str, Any]:
    """What an earlier stage made.

    Raises:
        UserError: The stage has not run.
    """
    path = STORAGE / stage / "manifest.json"
    if not path.exists():
        raise UserError(f"{path} does not exist: run `neurofmx {stage}` (or `dvc repro`) first")
    return json.loads(path.read_text())


def write_manifest(stage: str, dataset: str, outputs: dict[str, str], **more: Any) -> None:
    """Write `manifest.json`; call it when everything else is in place."""
    write_json(
        folder(stage) / "manifest.json",
        {"stage": stage, "dataset": dataset, "schema": store.SCHEMA, "outputs": outputs, **more},
    )


@contextmanager
def measured(stage: str) -> Iterator[Report]:
    """Say that a stage runs, and write its seconds and peak memory to `metrics.json` at the end.

    The old manifest goes first: a stage that fails leaves none for the next one to trust.
    """
    console.print(f"[bold]{stage}[/]")
    (folder(stage) / "manifest.json").unlink(missing_ok=True)
    start, report = time.perf_counter(), Report()
    yield report
    cost = {
        "seconds": round(time.perf_counter() - start, 3),
        "peak_memory_mb": round(_peak_kib() / 1024, 1),
    }
    write_json(folder(stage) / "metrics.json", cost | report.values)
    console.print(f"[bold]{stage}[/] took {cost['seconds']:.1f} s, {cost['peak_memory_mb']:.0f} MB")


def _peak_kib() -> int:
    """Largest resident set of this process or of one that it started (KiB)."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    status = Path("/proc/self/status")
    if not status.exists():
        return max(children, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    # Linux hands ru_maxrss on from the process that started this one, but not the high-water mark.
    mark = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return max(children, int(mark.split()[1]))


def fan_out(
    stage: str,
    jobs: Iterable[Job],
    work: Callable[..., None],
    workers: int,
    quarantined: Iterable[Status] = (),
    outputs: str = "{}.zarr",
) -> list[Status]:
    """Run `work(path, key, *job.arguments)` for each recording with Dask.

    `work` writes `path` (`storage/<stage>/<recording>.zarr`) whole and with its key, as
    `store.write` does. Outputs with the right key are left alone; a `DataError` quarantines its
    recording and the others go on; outputs of recordings that are gone are removed.

    Args:
        stage: Its folder under `storage/`.
        jobs: One per recording.
        work: A module-level function, so that it can be sent to another process.
        workers: Processes, one recording each, or, for a single recording, threads; 1 is neither.
        quarantined: Recordings that were already found wanting, to be listed with the others.
        outputs: Where an output lies in the stage's folder, `{}` for the recording.

    Raises:
        TransientError: A disk was full or the like; what was finished is kept.
        UserError: A file is not the one that was asked for; the other recordings are finished.
        DataError: No recording is left.
    """
    jobs, quarantined = list(jobs), list(quarantined)
    target = folder(stage)
    paths = {job.recording: target / outputs.format(job.recording) for job in jobs}
    _prune(target / outputs.format("*"), set(paths.values()))
    stale = [job for job in jobs if store.read_key(paths[job.recording]) != job.key]
    fresh = [Status(job.recording, "skipped", job.key) for job in jobs if job not in stale]
    if fresh:
        console.print(f"  {len(fresh)} of {len(jobs)} are unchanged")
    apart = processes_pay([job.size for job in stale], workers)
    inside = 1 if apart else workers  # a recording that is alone has all workers for its shards
    one = dask.delayed(_one, pure=False)
    tasks = [one(paths[job.recording], job, work, inside) for job in stale]
    with _Announce(stage, len(stale)):
        scheduler = "processes" if apart else "synchronous"
        done = dask.compute(*tasks, scheduler=scheduler, num_workers=workers)
    statuses = sorted([*done, *fresh, *quarantined], key=lambda status: status.recording)
    for status in quarantined:
        console.print(f"  {status.recording}  [yellow]quarantined[/]: {status.reason}")
    columns = list(Status.__dataclass_fields__)
    write_table(
        target / "status.parquet", pd.DataFrame([asdict(s) for s in statuses], columns=columns)
    )
    _judge(stage, statuses)
    return statuses


def _judge(stage: str, statuses: list[Status]) -> None:
    """Raise what the worst outcome calls for, when all that can be finished is."""
    failed = [status for status in statuses if status.outcome == "failed"]
    if failed:
        raise TransientError(
            f"{stage}: {failed[0].recording}: {failed[0].reason}. What was finished is kept; "
            "free space or wait, then run the same command again."
        )
    refused = [f"  {s.recording}: {s.reason}" for s in statuses if s.outcome == "refused"]
    if refused:
        raise UserError(f"{stage}: the other recordings are finished, but\n" + "\n".join(refused))
    if not usable(statuses):
        reasons = "\n".join(f"  {s.recording}: {s.reason}" for s in statuses)
        raise DataError(f"{stage}: no recording is usable\n{reasons}")


def processes_pay(sizes: list[int], workers: int) -> bool:
    """True where work of these sizes (bytes) outlasts the start of processes, which import anew."""
    return workers > 1 and len(sizes) > 1 and sum(sizes) > SPAWN_BYTES


def size(path: Path) -> int:
    """Bytes of a file, or of all files under a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files)


def usable(statuses: Iterable[Status]) -> dict[str, str]:
    """Recording → key of those that a stage finished."""
    return {s.recording: s.key for s in statuses if s.outcome in ("done", "skipped")}


def rejected(statuses: Iterable[Status]) -> dict[str, str]:
    """Recording → reason of those in quarantine."""
    return {s.recording: s.reason for s in statuses if s.outcome == "quarantined"}


@contextmanager
def threads(workers: int) -> Iterator[None]:
    """Dask has this many threads inside, for shards of one recording and blocks of one signal."""
    scheduler = "threads" if workers > 1 else "synchronous"
    with dask.config.set(scheduler=scheduler, num_workers=workers):
        yield


def _one(path: Path, job: Job, work: Callable[..., None], workers: int) -> Status:
    key, start = job.key, time.perf_counter()
    outcome: Outcome = "done"
    reason = ""
    try:
        with threads(workers):
            work(path, key, *job.arguments)
    except DataError as error:
        shutil.rmtree(path, ignore_errors=True)
        outcome, reason = "quarantined", str(error)
    except UserError as error:
        outcome, reason = "refused", str(error)
    except (OSError, MemoryError, NeuroFMXError) as error:
        if not is_transient(error):
            raise
        outcome, reason = "failed", str(error)
    return Status(job.recording, outcome, key, round(time.perf_counter() - start, 3), reason)


def _prune(pattern: Path, keep: set[Path]) -> None:
    """Remove outputs of recordings that are gone, and what a killed run left half-written."""
    stale = [path for path in pattern.parent.glob(pattern.name) if path not in keep]
    for path in [*stale, *pattern.parent.glob(".*.tmp")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


class _Announce(Callback):
    """A line per recording as it finishes, which reads well in a terminal and in a log."""

    def __init__(self, stage: str, total: int):
        super().__init__(posttask=self._line)
        self.stage, self.total, self.count = stage, total, 0

    def _line(self, key: Any, result: Any, *_: Any) -> None:
        if not isinstance(result, Status):
            return
        self.count += 1
        cost = f"{result.seconds:.1f} s" if result.outcome == "done" else ""
        reason = f": {result.reason}" if result.reason else ""
        console.print(
            f"  {self.count}/{self.total} {result.recording}  {result.outcome}{reason} {cost}"
        )
