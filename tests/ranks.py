"""Ranks that write down the windows they are given, go on from a checkpoint, and can be killed.

They are real processes, tied by gloo as in training: a rank that made fewer steps than another
would hang. A server that has imported torch forks them, so that each starts in milliseconds.
"""

import json
import os
import signal
import time
from collections import defaultdict
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.distributed as dist

from neurofmx.data.collate import Collator
from neurofmx.data.loader import Loader
from neurofmx.data.mixture import Phase
from neurofmx.data.plan import Plan
from neurofmx.data.pool import Pool
from neurofmx.data.shards import Shards

SAVE_EVERY = 3  # steps
PATIENCE = 60.0  # s


@dataclass(frozen=True)
class Run:
    """What is the same in all parts of a run."""

    folders: list[Path]  # of the data sets
    phases: list[Phase]
    budget: dict[str, int]
    work: Path  # where ranks leave the checkpoint and what they saw

    def loader(self, rank=0, world=1, workers=0) -> Loader:
        parts = [Shards(folder) for folder in self.folders]
        shards = parts[0] if len(parts) == 1 else Pool(parts)
        plan = Plan(shards, shards.positions("train"), 5, self.phases, **self.budget)
        return Loader(plan, Collator(shards, unknown), rank, world, workers)


def unknown(signal, keys, regions):
    """The rows of a vocabulary that knows nothing."""
    return [0] * len(keys), [0] * len(keys)


def start(run: Run, part: str, world: int, workers: int, kill_at: int | None = None):
    """Run ranks to the end, or until all have made so many steps and are killed with -9."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch.distributed", "neurofmx.data.loader"])
    ranks = [
        context.Process(target=_rank, args=(run, part, rank, world, workers, kill_at))
        for rank in range(world)
    ]
    for process in ranks:
        process.start()
    try:
        if kill_at is not None:
            _wait_for([run.work / f"{part}-{rank}.waits" for rank in range(world)])
            for process in ranks:
                os.kill(process.pid, signal.SIGKILL)
        for process in ranks:
            process.join(PATIENCE)
        return [process.exitcode for process in ranks]
    finally:
        for process in ranks:
            process.kill()


def seen(run: Run, part: str) -> dict[tuple[int, int], dict[int, list[str]]]:
    """The keys of the windows that each rank was given, by (epoch, step)."""
    found = defaultdict(dict)
    for path in sorted(run.work.glob(f"{part}-*.log")):
        for line in path.read_text().splitlines():
            epoch, step, rank, keys = json.loads(line)
            found[epoch, step][rank] = keys
    return dict(found)


def _rank(run: Run, part: str, rank: int, world: int, workers: int, kill_at: int | None) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{run.work}/{part}.meet", rank=rank, world_size=world
    )
    loader, checkpoint = run.loader(rank, world, workers), run.work / "state.json"
    made = 0
    if checkpoint.exists():
        state = json.loads(checkpoint.read_text())
        made = state.pop("made")
        loader.restore(state)
    shards = loader.plan.shards
    with (run.work / f"{part}-{rank}.log").open("a", buffering=1) as log:
        for batch in loader:
            total = torch.tensor(len(batch.windows))
            dist.all_reduce(total)
            made += 1
            state = loader.state()
            line = [state["epoch"], state["cursor"], rank, shards.keys(batch.windows)]
            log.write(json.dumps(line) + "\n")
            if made == kill_at:
                (run.work / f"{part}-{rank}.waits").touch()
                time.sleep(PATIENCE)
            if made % SAVE_EVERY == 0 and rank == 0:
                new = checkpoint.with_suffix(".tmp")
                new.write_text(json.dumps(state | {"made": made}))
                new.replace(checkpoint)
    dist.destroy_process_group()


def _wait_for(paths: list[Path]) -> None:
    end = time.monotonic() + PATIENCE
    while not all(path.exists() for path in paths):
        if time.monotonic() > end:
            raise TimeoutError(f"ranks have not come to {paths}")
        time.sleep(0.02)
