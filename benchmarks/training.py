"""Measure training: where a step's time goes, what the loop costs, and what each engine does.

    python benchmarks/training.py [split loop engines] [--device cpu|cuda] [--quick]

The model is `small` on windows of a synthetic recording (`model_planted.py`). `split` parts a step
into data, forward, backward and optimiser, and what ranks say to each other; `loop` sets the engine
`local` beside a bare loop of the same model, windows and loss; `engines` gives windows per second
of every engine on as many processes as there are cores. Figures go to
benchmarks/training/results.csv, the machine to machine.json beside it; those of CUDA to
benchmarks/training/cuda/.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Gate, Section, in_turn, run_sections
from model_planted import model_of, windows
from runs import Run
from torch import nn

from neurofmx.config import build
from neurofmx.data.collate import Collator
from neurofmx.data.shards import Shards
from neurofmx.models import NeuroFMX
from neurofmx.objectives.decode import Decode
from neurofmx.training.fit import Fit
from neurofmx.training.pace import product_rate
from neurofmx.training.recipe import FitParams

RESULTS = Path(__file__).with_suffix("")
MARKS = {  # in README.md
    "cpu": ("<!-- training -->", "<!-- /training -->"),
    "cuda": ("<!-- training cuda -->", "<!-- /training cuda -->"),
}
BATCH, FIRST = 16, 3  # windows of a step; steps that are not timed
LOADER, LOOP = 0.05, 1.03  # most that the loader may take of a step, and the loop of a bare one
NEVER = 10**9  # steps between looks and checkpoints
ENGINES: dict[str, dict[str, Any]] = {
    "local": {"engine": "local"},
    "ddp": {"engine": "ddp"},
    "fsdp": {"engine": "fsdp"},
    "deepspeed, zero 1": {"engine": "deepspeed", "memory": {"zero": 1}},
    "deepspeed, zero 2": {"engine": "deepspeed", "memory": {"zero": 2}},
    "deepspeed, zero 3": {"engine": "deepspeed", "memory": {"zero": 3}},
}


def params(steps: int, shards: Shards, **changes: Any) -> dict[str, Any]:
    """Parameters of a run of so many steps, as plain values."""
    train = len(shards.positions("train"))
    return {
        "epochs": -(-steps * BATCH // train),
        "batch_size": BATCH,
        "objectives": {"decode": 1.0, "masked": 0.1, "forecast": 0.1},
        "valid_every": NEVER,
        "checkpoint": {"every": NEVER},
        "loader": {"workers": 1},
    } | changes


def fit_of(shards: Shards, size: str, folder: Path, given: dict[str, Any]) -> Fit:
    """A run that is to be timed."""
    folder.mkdir(parents=True, exist_ok=True)
    made = model_of(shards, size, 0)
    return Fit(made, shards, ["planted"], build(FitParams, given, "fit"), 0, folder)


def steps_of(fit: Fit, taken: dict[str, list[float]] | None = None) -> Iterator[float]:
    """Seconds of each step of a run, its parts added to `taken`."""
    engine, lesson = fit.engine, fit.engine.lesson
    parts: dict[str, float] = defaultdict(float)

    def timed(name: str, work: Callable) -> Callable:
        def do(*given: Any, **named: Any) -> Any:
            _settle(engine.device)
            start = time.perf_counter()
            found = work(*given, **named)
            _settle(engine.device)
            parts[name] += time.perf_counter() - start
            return found

        return do

    if taken is not None:
        lesson.prepare = timed("prepare", lesson.prepare)
        engine.run = timed("forward", engine.run)
        engine.backward = timed("backward", engine.backward)
        engine.step = timed("optimiser", engine.step)
        engine.sum = timed("communication", engine.sum)
    batches = iter(fit.loader)
    for number in range(fit.steps):
        _settle(engine.device)
        start = time.perf_counter()
        batch = next(batches)
        parts["data"] += time.perf_counter() - start
        fit._step(number, [batch], stop=False)
        _settle(engine.device)
        seconds = time.perf_counter() - start
        if number >= FIRST:
            yield seconds
            if taken is not None:
                for name, value in parts.items():
                    taken[name].append(value)
                taken["step"].append(seconds)
        parts.clear()


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure_split(section: Section, run: Run) -> None:
    """Share of a step that each part of it takes."""
    shards, size = _planted(run), run.size("small", "tiny")
    taken: dict[str, list[float]] = defaultdict(list)
    given = params(run.size(40, 6), shards)
    list(steps_of(fit_of(shards, size, run.folder / "split", given), taken))
    section.inputs |= {"size": size, "windows of a step": BATCH, "threads": torch.get_num_threads()}
    whole = np.array(taken.pop("step"))
    section.figure("step", "neurofmx", (1e3 * whole).tolist(), "ms")
    gate = Gate(f"< {LOADER:g}", lambda share: share < LOADER)
    for name, seconds in taken.items():
        asked = gate if name == "data" else None
        shares = (np.array(seconds) / whole).tolist()
        section.figure(f"share of a step: {name}", "neurofmx", shares, "", asked)


def bare(model: NeuroFMX, shards: Shards, order: list[np.ndarray]) -> Iterator[float]:
    """Seconds of each step of what one would write by hand."""
    collate = Collator(shards, model.rows, model.config.signals, tasks=model.tasks)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98), fused=True)
    decode = Decode()
    model.train()
    for positions in order:
        start = time.perf_counter()
        batch = collate(positions)
        loss = decode.loss(model(batch, heads=["decode"]), batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        yield time.perf_counter() - start


def measure_loop(section: Section, run: Run) -> None:
    """Our loop beside a bare one, round by round: the same model, windows and loss."""
    shards, size, steps = _planted(run), run.size("small", "tiny"), run.size(12, 4)
    given = params(400, shards, objectives={"decode": 1.0})
    given["loader"] = {"workers": 0}
    fit = fit_of(shards, size, run.folder / "loop", given)
    train = shards.positions("train")
    order = [np.random.default_rng(k).choice(train, BATCH, False) for k in range(400)]
    ours, theirs = steps_of(fit), bare(model_of(shards, size, 0), shards, order)
    taken = in_turn(
        {
            "neurofmx": lambda: [next(ours) for _ in range(steps)],
            "bare loop": lambda: [next(theirs) for _ in range(steps)],
        },
        run.size(9, 1),
    )
    section.inputs |= {"size": size, "windows of a step": BATCH, "steps of a round": steps}
    section.seconds("a round", taken)
    ratios = [a / b for a, b in zip(taken["neurofmx"], taken["bare loop"], strict=True)]
    gate = Gate(f"≤ {LOOP:g} ×", lambda ratio: ratio <= LOOP)
    section.figure("neurofmx / bare loop", "neurofmx", ratios, "×", gate)


def measure_engines(section: Section, run: Run) -> None:
    """Windows per second of every engine, on as many processes as there are cores."""
    shards, size = _planted(run), run.size("small", "tiny")
    world, steps = (os.cpu_count() or 1), run.size(24, 6)
    section.inputs |= {"size": size, "windows of a step": BATCH, "processes": world}
    for name, changes in ENGINES.items():
        ranks = 1 if name == "local" else world
        folder = run.folder / name.replace(", ", "-").replace(" ", "")
        folder.mkdir()
        given = params(steps, shards, loader={"workers": 0}, **changes)
        spec = {"shards": str(run.folder / "planted" / "shards"), "size": size, "params": given}
        (folder / "spec.json").write_text(json.dumps(spec))
        _launch(folder, ranks, threads=world // ranks)
        seconds = json.loads((folder / "seconds.json").read_text())
        rates = [BATCH / s for s in seconds]
        section.figure(f"windows, {ranks} processes", name, rates, "1/s")


def _launch(folder: Path, ranks: int, threads: int) -> None:
    command = [sys.executable, __file__, "--rank", str(folder)]
    if ranks > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command = [*launcher, "--nproc-per-node", str(ranks), *command[1:]]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with (folder / "log").open("w") as log:
        done = subprocess.run(command, env=environment, stdout=log, stderr=log)
    if done.returncode:
        raise SystemExit((folder / "log").read_text()[-3000:])


def rank(folder: Path) -> None:
    """One of the processes of `measure_engines`."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    spec = json.loads((folder / "spec.json").read_text())
    fit = fit_of(Shards(Path(spec["shards"])), spec["size"], folder / "run", spec["params"])
    seconds = list(steps_of(fit))
    if fit.engine.rank == 0:
        (folder / "seconds.json").write_text(json.dumps(seconds))
    fit.engine.barrier()


def measure_cuda(section: Section, run: Run, device: str = "cuda") -> None:
    """Windows per second, MFU and how busy the GPU is, by size, in bfloat16."""
    shards = _planted(run)
    for size in run.size(["small", "medium", "base"], ["tiny"]):
        given = params(run.size(60, 6), shards, precision="bfloat16", loader={"workers": 4})
        given |= {"batch_size": run.size(256, BATCH), "epochs": run.size(60, 2)}
        given["optimizer"] = {"lr": 3e-4}  # at 3e-3 medium's loss is soon no number
        fit = fit_of(shards, size, run.folder / size, given)
        busy, seconds = [], []
        for step in steps_of(fit):
            seconds.append(step)
            busy.append(torch.cuda.utilization() / 100 if device == "cuda" else float("nan"))
        rates = [given["batch_size"] / s for s in seconds]
        enough = Gate("> 1000 1/s", lambda rate: rate > 1000) if size == "small" else None
        section.figure(f"windows, {size}", "neurofmx, bfloat16", rates, "1/s", enough)
        tokens = float(np.mean(shards.tokens))
        needed = 6 * fit.engine.lesson.model.num_parameters() * tokens
        peak = product_rate(fit.engine.device, torch.bfloat16, run.size(8192, 512))
        mfu = [rate * needed / peak for rate in rates]
        section.figure(f"MFU, {size}", "neurofmx, bfloat16", mfu, "")
        if device == "cuda":
            gate = Gate("> 0.8", lambda share: share > 0.8)
            section.figure(f"GPU busy, {size}", "neurofmx, bfloat16", busy, "", gate)


def _planted(run: Run) -> Shards:
    folder = run.folder / "planted"
    return Shards(folder / "shards") if folder.exists() else windows(folder, run.size(200, 60), 20)


SECTIONS: dict[str, dict[str, Callable[[Section, Run], None]]] = {
    "cpu": {"split": measure_split, "loop": measure_loop, "engines": measure_engines},
    "cuda": {"train": measure_cuda},
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--device", choices=list(SECTIONS), default="cpu")
    parser.add_argument("--rank", type=Path)
    given, sys.argv[1:] = parser.parse_known_args()
    if given.rank:
        rank(given.rank)
    else:
        results = RESULTS if given.device == "cpu" else RESULTS / given.device
        run_sections(__doc__, SECTIONS[given.device], results, MARKS[given.device])
