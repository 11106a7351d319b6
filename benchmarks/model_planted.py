"""The model of size `small` learns a planted recording by heart, for `benchmarks/model.py`.

Two smooth latents z drive the rates of units, exp(c_i · z) about 15 spikes/s. Training on windows
of a second of binned spikes has to find z in these windows, in less than a minute on a processor.
Beside it: windows that were not trained on, the untrained model, and chance, which is what the
answers say of the latents half of the held-out time away.
"""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from measuring import Gate, Section
from runs import Run
from scipy.ndimage import gaussian_filter1d

from neurofmx.data.cards import Card
from neurofmx.data.parts import join_parts, write_part
from neurofmx.data.shards import Shards
from neurofmx.evaluation import METRICS
from neurofmx.models import ModelParams, NeuroFMX, untrained, vocabulary_of
from neurofmx.training.configure import configure
from neurofmx.training.fit import Fit
from neurofmx.training.inference import answers
from neurofmx.training.optim import OptimizerParams
from neurofmx.training.recipe import FitParams
from neurofmx.types import AlignedRecording, Events, Samples

RATE, UNITS, MEAN, SMOOTH = 50.0, 48, 15.0, 0.2  # Hz, count, spikes/s at z = 0, s
THREADS = 1  # a stricter claim, and busy neighbours cannot make threads wait for each other
CARD = {
    "name": "planted",
    "title": "planted latents",
    "licence": "made",
    "synthetic": True,
    "source": {"kind": "local", "path": "."},
    "signals": {
        "spikes": {"path": "spikes", "modality": "spikes"},
        "latents": {"path": "latents", "modality": "behavior"},
    },
    "tasks": {"latents": {"kind": "regression", "signal": "latents"}},
    "windows": {"duration": 1.0, "step": 1.0, "bin_width": 1 / RATE},
    "split": {"train": 0.7, "valid": 0.1, "guard": 1.0},
}


def planted(seconds: int, seed: int = 0) -> AlignedRecording:
    """Latents of deviation 1, and spikes of units that each follow them in their own way."""
    rng, n = np.random.default_rng(seed), round(seconds * RATE)
    z = gaussian_filter1d(rng.normal(size=(n, 2)), SMOOTH * RATE, axis=0)
    z = (z - z.mean(0)) / z.std(0)
    tuning = rng.normal(scale=0.5, size=(2, UNITS))
    counts = rng.poisson(MEAN * np.exp(z @ tuning) / RATE)
    bins, units = np.nonzero(counts)
    index, number = np.repeat(units, counts[bins, units]), np.repeat(bins, counts[bins, units])
    times = (number + rng.uniform(size=len(number))) / RATE
    order = np.argsort(times)
    table = pd.DataFrame({"id": np.arange(UNITS)})
    spikes = Events(times[order], index[order], table)
    signals = {"spikes": spikes, "latents": Samples(z, "a.u.", RATE)}
    return AlignedRecording("planted", "made", "none", "planted", signals)


def windows(folder: Path, seconds: int, tokens: int) -> Shards:
    """Windows of a planted recording, split in time, each cut into so many tokens."""
    card, part, out = Card.model_validate(CARD), folder / "part", folder / "shards"
    part.mkdir(parents=True)
    out.mkdir()
    write_part(part, planted(seconds), card)
    join_parts({"planted": part}, out, card, tokens, shard_bytes=2**26, world_size=1)
    return Shards(out)


def model_of(shards: Shards, size: str, seed: int) -> NeuroFMX:
    """A new model of these windows."""
    params = ModelParams.model_validate({"size": size, "dropout": 0.0})
    return untrained(configure(shards, params), vocabulary_of(shards, ["planted"]), seed)


def learn(model: NeuroFMX, shards: Shards, folder: Path, epochs: int, seed: int) -> int:
    """Train on the train windows, eight a step, to the last step; how many there were."""
    rare = 10**9  # steps: the last weights are kept, whatever the valid split says
    params = FitParams(
        precision="bfloat16",
        epochs=epochs,
        batch_size=8,
        optimizer=OptimizerParams(lr=5e-4, weight_decay=0.0),
        objectives={"decode": 1.0},
        valid_every=rare,
    )
    folder.mkdir()
    fit = Fit(model, shards, ["planted"], params, seed, folder)
    fit.run("planted")
    return fit.steps


def r2(model: NeuroFMX, shards: Shards, split: str, chance: bool = False) -> float:
    """R² of the latent that is recovered worse; `chance` asks of another time than it answers."""
    found = answers(model, shards, shards.positions(split))["latents"]
    truth = np.roll(found.truth, len(found.truth) // 2 if chance else 0, axis=0)
    return float(METRICS["r2"].score(truth, found.prediction).min())


def measure_planted(section: Section, run: Run) -> None:
    """Seconds to learn the windows, and how well they and others are then told, by seed."""
    torch.set_num_threads(THREADS)
    seconds, size, epochs = run.size(72, 30), run.size("small", "tiny"), run.size(14, 1)
    shards = windows(run.folder / "planted", seconds, tokens=10)
    before, own, held, chance, taken = [], [], [], [], []
    for seed in range(run.size(3, 1)):
        model = model_of(shards, size, seed)
        before.append(r2(model, shards, "test"))
        start = time.perf_counter()
        steps = learn(model, shards, run.folder / f"fit-{seed}", epochs, seed)
        taken.append(time.perf_counter() - start)
        own.append(r2(model, shards, "train"))
        held.append(r2(model, shards, "test"))
        chance.append(r2(model, shards, "test", chance=True))
    split = {name: len(shards.positions(name)) for name in ("train", "test")}
    section.inputs = {"windows": split, "units": UNITS, "threads": THREADS, "steps": steps}
    section.inputs |= {"size": size, "parameters": model.num_parameters()}
    worse = "of the latent recovered worse"
    learnt = Gate("> 0.95", lambda value: value > 0.95)
    section.figure(f"R² {worse}, windows trained on", "neurofmx", own, "R²", learnt)
    for method, values in {"neurofmx": held, "untrained": before, "another time": chance}.items():
        section.figure(f"R² {worse}, held-out windows", method, values, "R²")
    minute = Gate("< 60 s", lambda value: value < 60)
    section.figure("training until then", "neurofmx", taken, "s", minute)
