"""Tokens per second, forward and back, of the blocks along time, beside peers and the floors."""

import functools
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import torch
from measuring import Gate, Seconds, Section, memory
from models import Contender, Sizes
from runs import Run

from neurofmx.models.kernels import MISSING
from neurofmx.models.params import SIZES

CPU = Sizes(256, 4)
LENGTHS = {1024: 4, 4096: 4, 16384: 1}  # tokens of a window → windows at once
REPEATS = {1024: 5, 4096: 2, 16384: 2}
LEFT_OUT = (
    "at 16384 tokens mambapy, which needs 14 GB, and transformers' default chunk of 256; "
    "at 4096 tokens mambapy gets 1 window"
)
LINEAR = Gate("≤ 1.1", lambda value: value <= 1.1)


def contenders(sizes: Sizes, device: str) -> dict[str, Contender]:
    """Who is measured on a device: everyone in float32 and bfloat16, mambapy in float32 only."""
    made: dict[str, Contender] = {}
    for kind, low in (("float32", False), ("bfloat16", True)):
        ours = functools.partial(models.neurofmx, sizes)
        made[f"neurofmx, {kind}"] = Contender(functools.partial(ours, "auto"), low)
        if not MISSING["mamba_ssm"](device):
            made[f"neurofmx chunked, {kind}"] = Contender(functools.partial(ours, "chunked"), low)
        if device == "cpu" and not MISSING["compiled"](device):
            made[f"neurofmx compiled, {kind}"] = Contender(functools.partial(ours, "compiled"), low)
        # 64 suits it best on a CPU, 256 is its own; on CUDA it takes mamba_ssm's kernels.
        for chunk in (64, 256) if device == "cpu" else ():
            mixer = functools.partial(models.transformers, sizes, chunk)
            longest = 10**9 if chunk == 64 else 4096
            made[f"transformers Mamba2 chunk {chunk}, {kind}"] = Contender(mixer, low, longest)
        made[f"Transformer, {kind}"] = Contender(functools.partial(models.transformer, sizes), low)
        if device == "cuda" and models.installed("mamba_ssm"):
            made[f"mamba_ssm, {kind}"] = Contender(functools.partial(models.mamba_ssm, sizes), low)
    if device == "cpu":
        peer = functools.partial(models.mambapy, sizes)
        made["mambapy, float32"] = Contender(peer, longest=4096, most=4096)
    return made


def in_turn(tasks: dict[str, Callable[[], object]], repeats: int, device: str) -> Seconds:
    """Seconds of each task in each of `repeats` rounds; a first round is not counted."""
    taken: Seconds = {name: [] for name in tasks}
    for round_ in range(repeats + 1):
        for name, task in tasks.items():
            seconds = timed(task, device)
            if round_:
                taken[name].append(seconds)
    return taken


def timed(task: Callable[[], object], device: str) -> float:
    """Seconds of a task, done when the device is."""
    start = time.perf_counter()
    task()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def rates(device: str, n: int) -> dict[str, float]:
    """What the machine itself does: operations per second of a product n³, bytes per second."""
    found = {}
    for kind, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.randn(n, n, device=device).to(dtype)
        times = [timed(lambda a=a: a @ a, device) for _ in range(10)]
        found[kind] = 2 * n**3 / min(times[2:])
    a = torch.empty(64 * n**2 // 4, device=device).zero_()
    b = torch.empty_like(a).zero_()
    times = [timed(lambda: b.copy_(a), device) for _ in range(10)]
    return found | {"bytes": 2 * a.numel() * 4 / min(times[2:])}


def measure(section: Section, run: Run) -> None:
    """On a CPU: tokens per second at three lengths, how time and memory grow, the floors."""
    machine = rates("cpu", run.size(2048, 64))
    sizes = run.size(CPU, Sizes(64, 1))
    lengths = run.size(LENGTHS, {128: 2, 256: 1})
    section.inputs = {
        "d_model": sizes.width,
        "blocks": sizes.blocks,
        "threads": torch.get_num_threads(),
        "windows": {str(n): k for n, k in lengths.items()},
        "compared": "float32 with float32, bfloat16 with bfloat16, which is by autocast",
        "left out": LEFT_OUT,
    }
    _machine(section, machine)
    entrants, each = contenders(sizes, "cpu"), {}
    for length, windows in lengths.items():
        x = {n: torch.randn(n, length, sizes.width) for n in {1, windows}}
        tasks, tokens = {}, {}
        for name, entrant in entrants.items():
            if length <= entrant.longest:
                n = windows if windows * length <= entrant.most else 1
                tokens[name] = n * length
                tasks[name] = functools.partial(entrant.step, x[n])
        taken = in_turn(tasks, run.size(REPEATS, {}).get(length, 1), "cpu")
        each[length] = {k: [s / tokens[k] for s in v] for k, v in taken.items()}
        _speeds(section, length, each[length], sizes, machine)
        _against_peers(section, length, each[length])
    _growth(section, each, sizes, run)


def _machine(section: Section, machine: dict[str, float]) -> None:
    for kind in ("float32", "bfloat16"):
        section.figure("matrix product", kind, [machine[kind] / 1e9], "GFLOP/s")
    section.figure("copy", "memory", [machine["bytes"] / 1e9], "GB/s")


def _speeds(
    section: Section, length: int, each: Seconds, sizes: Sizes, machine: dict[str, float]
) -> None:
    """Tokens per second; of ours, beside the two floors, and the share of the machine's rate."""
    for name, seconds in each.items():
        section.figure(f"tokens, {length}", name, [1 / s for s in seconds], "tokens/s")
        if not name.startswith("neurofmx"):
            continue
        kind = name.split(", ")[1]
        share = [100 * sizes.operations / s / machine[kind] for s in seconds]
        section.figure(f"share of matrix product rate, {length}", name, share, "%")
        floors = {
            "operations": machine[kind] / sizes.operations,
            "bytes": machine["bytes"] / sizes.bytes(2 if kind == "bfloat16" else 4),
        }
        for floor, value in floors.items():
            section.figure(f"limit by {floor}, {length}", name, [value], "tokens/s")


def _against_peers(section: Section, length: int, each: Seconds) -> None:
    """Ours is the compiled scan where there is a compiler, else the other."""
    for kind, least in (("float32", 1.5), ("bfloat16", 2.5)):
        ours = _ours(each, kind)
        for chunk in (64, 256):
            if (peer := f"transformers Mamba2 chunk {chunk}, {kind}") in each:
                section.ratio(f"{length}", each, ours, peer, least)
        if length >= 2048:
            section.ratio(f"{length}", each, ours, f"Transformer, {kind}", 1.0)
    if "mambapy, float32" in each:
        section.ratio(f"{length}", each, _ours(each, "float32"), "mambapy, float32", 8.0)


def _ours(each: Seconds, kind: str) -> str:
    compiled = f"neurofmx compiled, {kind}"
    return compiled if compiled in each else f"neurofmx, {kind}"


def _growth(section: Section, each: dict[int, Seconds], sizes: Sizes, run: Run) -> None:
    """Exponents of time and memory of a window in its length, by least squares of logarithms."""
    for name in (name for name in each[min(each)] if name.startswith("neurofmx")):
        seconds = {length: np.median(taken[name]) * length for length, taken in each.items()}
        section.figure("time ~ length to the power", name, [slope(seconds)], "", LINEAR)
        memory = peaks(name, sizes, run.size(tuple(LENGTHS), (4096, 16384)))
        for length, value in memory.items():
            section.figure(f"memory of a window, {length}", name, [value / 1e6], "MB")
        section.figure("memory ~ length to the power", name, [slope(memory)], "", LINEAR)


def slope(values: dict[int, float]) -> float:
    """Exponent of a power law."""
    return float(np.polyfit(np.log(list(values)), np.log(list(values.values())), 1)[0])


def peaks(name: str, sizes: Sizes, lengths: tuple[int, ...]) -> dict[int, float]:
    """Bytes that a step on one window adds at most, by its length; in a process of its own.

    Args:
        lengths: In growing order, so that the peak so far is that of the last step.
    """
    numbers = map(str, (sizes.width, sizes.blocks, *lengths))
    command = [sys.executable, str(Path(__file__)), name, *numbers]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return dict(zip(lengths, map(float, said.split()), strict=True))


def measure_cuda(section: Section, run: Run, device: str = "cuda") -> None:
    """On CUDA: bfloat16 at the sizes of the model, forward and back and forward alone."""
    machine = rates(device, run.size(8192, 64))
    name = torch.cuda.get_device_name() if device == "cuda" else device
    section.inputs = {"device": name, "windows": run.size(8, 2), "torch": torch.__version__}
    _machine(section, machine)
    length, repeats = run.size(2048, 128), run.size(20, 1)
    for size in ("base", "medium"):
        sizes = run.size(Sizes(SIZES[size]["d_model"], SIZES[size]["n_blocks"]), Sizes(64, 1))
        entrants = {k: v for k, v in contenders(sizes, device).items() if k.endswith("bfloat16")}
        x = torch.randn(run.size(8, 2), length, sizes.width, device=device)
        tasks = {k: functools.partial(v.step, x) for k, v in entrants.items()}
        taken = in_turn(tasks, repeats, device)
        each = {k: [s / x.shape[0] / length for s in v] for k, v in taken.items()}
        _speeds(section, f"{size}, {length}", each, sizes, machine)
        if size == "base":
            _latency(section, entrants, run, sizes, device)


def _latency(
    section: Section, entrants: dict[str, Contender], run: Run, sizes: Sizes, device: str
) -> None:
    """Forward of one window of 100 tokens, and windows per second in batches of 64."""
    x = torch.randn(64, 100, sizes.width, device=device)
    for name, entrant in entrants.items():
        one = _forwards(entrant, x[:1], run.size(100, 3), device)
        p50, p99 = (1e3 * float(np.percentile(one, p)) for p in (50, 99))
        section.figure("forward of a window, p50", name, [p50], "ms")
        section.figure("forward of a window, p99", name, [p99], "ms")
        many = [len(x) / s for s in _forwards(entrant, x, run.size(20, 1), device)]
        section.figure("forward of 64", name, many, "samples/s")


def _forwards(entrant: Contender, x: torch.Tensor, repeats: int, device: str) -> list[float]:
    """Seconds of forward passes, of which the first ones are not counted."""
    taken = [timed(lambda: entrant.forward(x), device) for _ in range(repeats + 5)]
    return taken[5:]


if __name__ == "__main__":
    method, (width, blocks, *tokens) = sys.argv[1], map(int, sys.argv[2:])
    entrant = contenders(Sizes(width, blocks), "cpu")[method]
    entrant.step(torch.randn(1, 1, width))
    before = memory("VmHWM")
    for n in tokens:
        entrant.step(torch.randn(1, n, width))
        print(memory("VmHWM") - before)
