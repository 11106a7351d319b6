"""Decoding one bin at a time, and windows in batches, for `benchmarks/model.py`.

A bin of 20 ms of 96 units goes through `model.stream`; what it takes is counted from the call to
the answer. Beside it: a GRU of as many parameters on the same bins, and the limit, which is to
read every weight that a bin needs once from memory.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from measuring import Gate, Section
from model_train import rates, timed
from runs import Run
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from neurofmx.batches import Batch, SignalBatch, Target
from neurofmx.models import Known, NeuroFMX
from neurofmx.models.kernels import MISSING
from neurofmx.models.scan import choose
from neurofmx.serving import Replay

UNITS, BIN = 96, 0.02  # s
THREADS = 2
SIZES: dict[str, dict[str, Any]] = {
    "small": {"size": "small"},
    "8M": {"size": "small", "d_model": 256, "latent_dim": 256, "n_blocks": 3},
}
# p99 of one bin (ms): what the project asks of 20M, and what POSSM (Ryoo et al. 2025,
# arXiv:2506.05320) reports for 8M on a processor.
MOST = {"small": 10.0, "8M": 5.65}
HOUR = 180_000  # bins
BACKENDS = {"neurofmx": "auto"}
if not MISSING["compiled"]("cpu"):
    BACKENDS["neurofmx compiled"] = "compiled"
OURS = list(BACKENDS)[-1]


def model_of(size: str, causal: bool, duration: float = 1.0) -> NeuroFMX:
    """A model of spikes and one task that knows the units; its weights are as they begin."""
    torch.manual_seed(0)
    spikes = {"tokenizer": "binned", "patch": 1, "dt": BIN, "counts": True}
    task = {"kind": "regression", "outputs": 2, "mean": [0.0] * 2, "scale": [1.0] * 2}
    config = {
        "model": SIZES.get(size, {"size": size}) | {"causal": causal},
        "duration": duration,
        "signals": {"spikes": spikes},
        "tasks": {"velocity": task},
    }
    model = NeuroFMX.from_config(config)
    model.extend({"spikes": Known([("made", unit) for unit in range(UNITS)], [])})
    return model.eval()


def channels() -> pd.DataFrame:
    """Units as channels.parquet has them."""
    table = pd.DataFrame({"recording": "made", "signal": "spikes", "channel": range(UNITS)})
    table = table.assign(owner="made", number=table["channel"])
    return table.assign(mean=0.3, scale=0.4, region="", x=np.nan, y=np.nan, z=np.nan)


def counts(n: int) -> Tensor:
    """Poisson counts of every unit in n bins: 10 spikes/s."""
    rates = torch.full((n, UNITS), 10 * BIN)
    return torch.poisson(rates, generator=torch.Generator().manual_seed(0))


def taken(step: Callable[[Tensor], Any], bins: Tensor) -> list[float]:
    """Milliseconds of each bin."""
    found = []
    for one in bins.split(1):
        start = time.perf_counter()
        step(one)
        found.append(1e3 * (time.perf_counter() - start))
    return found


def pushing(model: NeuroFMX, backend: str) -> Callable[[Tensor], Any]:
    """Steps of a stream of the model."""
    stream = model.stream("made", channels(), backend=backend)
    return lambda one: stream.push({"spikes": one})


def gru(parameters: int) -> Callable[[Tensor], Tensor]:
    """Steps of a GRU of two layers with about as many parameters."""
    width = int((parameters / 12) ** 0.5)  # 3 gates of 2 products in each of 2 layers
    cell, state = nn.GRU(UNITS, width, num_layers=2), torch.zeros(2, width)
    readout = nn.Linear(width, 2)

    @torch.no_grad()
    def step(bins: Tensor) -> Tensor:
        nonlocal state
        features, state = cell(bins, state)
        return readout(features)

    return step


def read_once(model: NeuroFMX) -> Callable[[Tensor], Tensor]:
    """Reading the weights of a bin's step once from memory."""
    parts = (model.backbone, model.perceiver, model.nearest, model.whole, model.decode)
    weights = torch.cat([p.detach().flatten() for part in parts for p in part.parameters()])
    return lambda bins: weights.sum()


def measure_stream(section: Section, run: Run) -> None:
    """p50 and p99 of one bin, for 20M and 8M parameters."""
    torch.set_num_threads(THREADS)
    bins, rounds = run.size(1000, 20), run.size(7, 1)
    section.inputs = {"bins": bins, "bin_s": BIN, "units": UNITS, "threads": THREADS}
    for size in SIZES:
        model = model_of(size, causal=True)
        n = model.num_parameters()
        section.inputs[f"parameters, {size}"] = n
        steps = {method: pushing(model, backend) for method, backend in BACKENDS.items()}
        steps |= {"GRU": gru(n), "weights read once": read_once(model)}
        for step in steps.values():
            taken(step, counts(run.size(200, 5)))
        found = {
            method: [taken(step, counts(bins)) for _ in range(rounds)]
            for method, step in steps.items()
        }
        for method, each in found.items():
            gate = Gate(f"< {MOST[size]:g} ms", lambda ms, most=MOST[size]: ms < most)
            section.figure(f"p50, {size}", method, [np.quantile(r, 0.5) for r in each], "ms")
            asked = gate if method == OURS else None
            section.figure(
                f"p99, {size}", method, [np.quantile(r, 0.99) for r in each], "ms", asked
            )


def measure_hour(section: Section, run: Run) -> None:
    """The same over an hour of bins: neither time nor memory grows."""
    torch.set_num_threads(THREADS)
    sixths, each = 6, run.size(HOUR, 120) // 6
    model = model_of("small", causal=True)
    stream = model.stream("made", channels(), backend=BACKENDS[OURS])
    bins, sizes, p50, p99 = counts(each), [], [], []
    taken(lambda one: stream.push({"spikes": one}), bins[: run.size(200, 5)])
    for _ in range(sixths):
        found = taken(lambda one: stream.push({"spikes": one}), bins)
        p50.append(float(np.quantile(found, 0.5)))
        p99.append(float(np.quantile(found, 0.99)))
        sizes.append(sum(x.nbytes for x in stream.state().values()) / 1e6)
    section.inputs = {"bins": sixths * each, "parts": sixths, "threads": THREADS}
    flat = Gate("≤ 1.1 ×", lambda ratio: ratio <= 1.1)
    section.figure("p50 of each sixth of an hour, small", OURS, p50, "ms")
    section.figure("p99 of each sixth of an hour, small", OURS, p99, "ms")
    section.figure("p50, last / first sixth of an hour", OURS, [p50[-1] / p50[0]], "×", flat)
    same = Gate("= 0 MB", lambda grown: grown == 0)
    section.figure("memory of the stream", OURS, sizes, "MB")
    section.figure("memory, last - first", OURS, [sizes[-1] - sizes[0]], "MB", same)


def windows(n: int, bins: int) -> Batch:
    """A batch of windows asked at the end of every bin."""
    ids = torch.arange(1, UNITS + 1).expand(n, -1)
    every = torch.ones(n, UNITS)
    signal = SignalBatch(
        values=counts(n * bins).reshape(n, bins, UNITS),
        t0=torch.zeros(n, dtype=torch.float64),
        dt=BIN,
        mask=torch.ones(n, bins, dtype=torch.bool),
        channel_ids=ids,
        channel_mask=torch.ones(n, UNITS, dtype=torch.bool),
        gain=every,
        shift=torch.zeros(n, UNITS),
        rate=10 * BIN * every,
    )
    times = (torch.arange(bins) + 1) * BIN
    asked = torch.ones(n, bins, dtype=torch.bool)
    target = Target("regression", torch.zeros(n, bins, 2), times.expand(n, -1), asked)
    return Batch({"spikes": signal}, {"velocity": target}, ["made"] * n, list(range(n)))


def measure_batch(section: Section, run: Run) -> None:
    """Windows of a second in batches of 64, decoded."""
    torch.set_num_threads(THREADS)
    n, bins, rounds = run.size(64, 2), 50, run.size(7, 1)
    model, batch = model_of("small", causal=False), windows(n, bins)
    section.inputs = {"windows": n, "bins": bins, "threads": THREADS}
    for name, dtype in {"float32": torch.float32, "bfloat16": torch.bfloat16}.items():
        with torch.inference_mode(), torch.autocast("cpu", dtype, dtype != torch.float32):
            model(batch, heads=["decode"])
            seconds = []
            for _ in range(rounds):
                start = time.perf_counter()
                model(batch, heads=["decode"])
                seconds.append(time.perf_counter() - start)
        section.figure(
            f"windows of 1 s, small, {name}", "neurofmx", [n / s for s in seconds], "windows/s"
        )


def measure_cuda(section: Section, run: Run, device: str = "cuda") -> None:
    """The whole base model decoding windows of a second in bfloat16: one at a time, and 64."""
    size, bins = run.size("base", "tiny"), 50
    model = model_of(size, causal=False).to(device)
    machine = rates(device, run.size(8192, 64))
    name = torch.cuda.get_device_name() if device == "cuda" else device
    section.inputs = {"device": name, "bins": bins, "units": UNITS, "torch": torch.__version__}
    section.inputs |= {"parameters": model.num_parameters(), "scan": choose("auto", device)}
    weights = sum(p.nbytes for p in model.parameters())
    for n, repeats in ((1, run.size(300, 3)), (64, run.size(30, 2))):
        batch = windows(n, bins).to(device)

        def eager(batch: Batch = batch) -> Any:
            with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
                return model(batch, heads=["decode"])

        with FlopCounterMode(display=False) as counted:
            eager()
        floors = {
            "operations": counted.get_total_flops() / machine["bfloat16"],
            "bytes": weights / machine["bytes"],
        }
        ways: dict[str, Callable[[], Any]] = {"neurofmx": eager}
        if device == "cuda":
            ways["neurofmx replayed"] = functools.partial(Replay(model, batch), batch)
        best = list(ways)[-1]
        for method, way in ways.items():
            seconds = [timed(way, device) for _ in range(repeats + 10)][10:]
            if n == 1:
                p50, p99 = (1e3 * float(np.percentile(seconds, p)) for p in (50, 99))
                gate = Gate("< 10 ms", lambda ms: ms < 10) if method == best else None
                section.figure(f"a window, p50, {size}", method, [p50], "ms")
                section.figure(f"a window, p99, {size}", method, [p99], "ms", gate)
            else:
                many = Gate("> 1000 windows/s", lambda k: k > 1000) if method == best else None
                each = [n / s for s in seconds]
                section.figure(f"batches of {n}, {size}", method, each, "windows/s", many)
        for floor, least in floors.items():
            section.figure(f"{n} at once, limit by {floor}", best, [1e3 * least], "ms")
