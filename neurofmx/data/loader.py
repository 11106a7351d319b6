"""Batches in planned order, from wherever a run stands: nothing is lost, nothing comes twice.

Where a run stands is the epoch and the steps of it that were handed out. What worker processes have
read ahead is not counted. The plan of an epoch is made once, here, and workers are told only the
windows of a step, so that a step costs the same however many windows there are.
"""

import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt32
from numpy import ndarray
from pydantic import Field
from torch.utils.data import DataLoader, get_worker_info

from neurofmx.batches import Batch
from neurofmx.config import Params
from neurofmx.data.augment import AugmentParams, augment
from neurofmx.data.collate import Collator as Collator
from neurofmx.data.collate import OnCorrupt
from neurofmx.data.mixup import partners
from neurofmx.data.order import window_seeds
from neurofmx.data.passing import Parcel
from neurofmx.data.plan import Plan
from neurofmx.data.pool import stretches
from neurofmx.errors import NeuroFMXError, UserError

# What a run cannot go on without, and how to get it back.
CHANGED = {
    "index_hash": ("the windows have", "tokenize as before to get the old ones back"),
    "seed": ("the seed has", "set it back"),
    "plan": (
        "the recordings, batch_size, loader.tokens_per_step or phases have",
        "put them back",
    ),
}


class LoaderParams(Params):
    """How windows come to the model.

    Attributes:
        tokens_per_step: Tokens of a step at most, over all ranks; it takes the place of
            `batch_size`, which is left empty then.
        sets_per_step: Data sets that a step is made of where several are trained on. Each more
            costs time, as every window needs room for the signals of all; objectives that make
            latents blind to the data set need two.
        workers: Processes of each rank that read ahead; 0 reads between the steps.
        on_corrupt: What to do about a window that cannot be read: stop with an error, or skip it,
            count it and say so.
        cache_mb: Windows from a URL that are kept in memory (MB).
        augment: What is done to train windows.
    """

    tokens_per_step: int | None = Field(None, ge=1)
    sets_per_step: int = Field(1, ge=1)
    workers: int = Field(0, ge=0)
    on_corrupt: OnCorrupt = "error"
    cache_mb: float = Field(512.0, gt=0)
    augment: AugmentParams = AugmentParams()


class Loader:
    """The batches of a run on one rank, from where `restore` put it to the end of the last epoch.

    Args:
        plan: Which windows make up each step.
        collate: Reads them.
        rank, world: Of this process.
        workers: Processes that read ahead.
        augmentation: What is done to the windows, by (seed, epoch, window) alone; None: nothing.
        parts: Batches that this rank's windows of a step come in, one after the other.

    Raises:
        UserError: A step may have fewer windows than there are ranks.
    """

    def __init__(
        self,
        plan: Plan,
        collate: Collator,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        augmentation: AugmentParams | None = None,
        parts: int = 1,
    ):
        plan.check(world * parts)
        self.plan, self.rank, self.world, self.workers = plan, rank, world, workers
        self.parts = parts
        self.epoch = self.cursor = 0
        self._reader = _Reader(collate, augmentation or AugmentParams(), plan.seed)

    def __len__(self) -> int:
        """Steps of all epochs."""
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        """Batches from here on.

        Raises:
            DataError: A window cannot be read; names shard and offset.
        """
        if self.workers:
            self._reader.collate.shards.load()
        ahead: Iterable[Parcel | Batch | NeuroFMXError] = DataLoader(
            self._reader,  # type: ignore[arg-type]  # it needs no more than __getitem__
            batch_size=None,
            sampler=self._jobs(),
            num_workers=self.workers,
            # Forked workers share the index; elsewhere they have to open it again.
            multiprocessing_context="fork" if self.workers and sys.platform == "linux" else None,
            worker_init_fn=_alone,
            generator=torch.Generator(),  # else it would draw from the global one
        )
        for number, came in enumerate(ahead):
            batch = came.open() if isinstance(came, Parcel) else came
            if isinstance(batch, NeuroFMXError):
                raise batch
            if number % self.parts == 0:
                if self.cursor == self.plan.steps(self.epoch):
                    self.epoch, self.cursor = self.epoch + 1, 0
                self.cursor += 1
            yield batch

    def state(self) -> dict[str, Any]:
        """Where the run stands between two steps, as plain values: the same at any world size."""
        return {
            "epoch": self.epoch,
            "cursor": self.cursor,
            "phase": self.plan.phase(self.epoch),
            "seed": self.plan.seed,
            "index_hash": self.plan.index_hash,
            "plan": self.plan.hash,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was taken, maybe with other ranks and workers; then iterate.

        Raises:
            UserError: The windows or their order are no longer those of the state.
        """
        now = self.state()
        for key, (what, mend) in CHANGED.items():
            if state[key] != now[key]:
                raise UserError(
                    f"{what} changed since the run stopped: {key} was {state[key]} and is "
                    f"{now[key]}; {mend}, or start anew in an empty folder"
                )
        epoch, cursor, plan = state["epoch"], state["cursor"], self.plan
        inside = 0 <= epoch < plan.epochs and 0 <= cursor <= plan.steps(epoch)
        if not inside or state["phase"] != plan.phase(epoch):
            raise UserError(
                f"step {cursor} of epoch {epoch}, phase {state['phase']}, is no place in this run "
                f"of {plan.epochs} epochs; the state is damaged: start anew in an empty folder"
            )
        self.epoch, self.cursor = epoch, cursor

    def _jobs(self) -> Iterator["_Job"]:
        first, cursor = self.epoch, self.cursor
        for epoch in range(first, self.plan.epochs):
            yield from self._of_epoch(epoch, cursor if epoch == first else 0)

    def _of_epoch(self, epoch: int, cursor: int) -> Iterator["_Job"]:
        plan = self.plan
        steps, signals = plan.epoch(epoch), plan.phases[plan.phase(epoch)].signals
        shares = range(self.rank * self.parts, (self.rank + 1) * self.parts)
        for step in range(cursor, len(steps)):
            for share in shares:
                windows = plan.share(epoch, steps[step], share, self.world * self.parts)
                yield _Job(epoch, windows, signals)


class _Job(NamedTuple):
    """A batch to be made: of these windows, with these signals."""

    epoch: int
    windows: UInt32[ndarray, " window"]
    signals: list[str] | None


class _Reader:
    """Makes batches, in this process or in a worker."""

    def __init__(self, collate: Collator, params: AugmentParams, seed: int):
        self.collate, self.params, self.seed = collate, params, seed
        specs = collate.shards.signals
        self.spectra = [name for name, spec in specs.items() if spec["tokenizer"] == "audio"]
        self.counts = [name for name, spec in specs.items() if spec["stabilise"]]
        self.edges = stretches(collate.shards) if params.mixup else np.zeros(1, int)

    def __getitem__(self, job: _Job) -> Parcel | Batch | NeuroFMXError:
        """The batch, or what went wrong: an error that a worker raises loses its plain message."""
        try:
            batch = self._batch(job)
        except NeuroFMXError as error:
            return error
        return batch if get_worker_info() is None else Parcel(batch)

    def _batch(self, job: _Job) -> Batch:
        windows = job.windows.astype(np.int64)
        if self.params.off:
            return self.collate(windows, (), job.signals)
        seeds = window_seeds(self.seed, job.epoch, windows)
        others = partners(windows, seeds, self.edges) if self.params.mixup else ()
        batch = self.collate(windows, others, job.signals)
        own = batch.windows[: len(batch.windows) // (2 if self.params.mixup else 1)]
        seeds = window_seeds(self.seed, job.epoch, own)  # of those that could be read
        return augment(batch, self.params, seeds.tolist(), self.spectra, self.counts)


def _alone(worker: int) -> None:
    """Leave to the parent what it does when it ends: a fork has the hooks but not their threads.

    Those of libraries that keep threads, such as prefect's, would fail in the worker, and with
    them its exit code.
    """
    hooks: list[Any] = getattr(threading, "_threading_atexits", [])  # which has no public name
    hooks.clear()
