"""A small model with one signal of each tokenizer and one task of each kind, and windows for it."""

import dataclasses

import torch
from tokenized import events, samples

from neurofmx.batches import Batch, Target
from neurofmx.models import Known, NeuroFMX
from neurofmx.objectives import OBJECTIVES
from neurofmx.objectives.draws import Draws

# One signal of each tokenizer, in windows of half a second.
SIGNALS = {
    "binned": {"tokenizer": "binned", "patch": 2, "dt": 0.02, "counts": True},
    "continuous": {"tokenizer": "continuous", "patch": 4, "dt": 0.01},
    "image": {"tokenizer": "image", "patch": 1, "dt": 0.05, "grid": [2, 3]},
    "audio": {"tokenizer": "audio", "patch": 4, "dt": 0.01, "grid": [6], "neural": False},
    "spikes": {"tokenizer": "spikes", "patch": 1, "dt": 0.001},
}
TASKS = {
    "regression": {"outputs": 2, "mean": [1.0, 2.0], "scale": [3.0, 0.5]},
    "classification": {"outputs": 3, "classes": ["a", "b", "c"]},
    "ordinal": {"outputs": 4, "classes": ["1", "2", "3", "4"]},
    "circular": {"outputs": 1, "mean": [0.0], "scale": [1.0]},
}
WIDTHS = {"d_model": 16, "n_blocks": 1, "d_state": 8, "headdim": 8, "latent_dim": 16}
WIDTHS |= {"n_latents": 4, "n_layers": 1, "n_heads": 2, "n_seeds": 2, "rates": [1, 4]}
UNITS, REGIONS = 6, ["CA1", "CA3"]


def whole(causal=False, seed=0):
    torch.manual_seed(seed)
    prior = {"width": 16, "n_layers": 1, "n_heads": 2, "condition": "classification"}
    config = {
        "model": WIDTHS | {"causal": causal, "prior": prior, "horizons": [0.05, 0.1], "codes": 8},
        "duration": 0.5,
        "signals": SIGNALS,
        "tasks": {kind: {"kind": kind} | task for kind, task in TASKS.items()},
        "domains": ["a", "b"],
    }
    model = NeuroFMX.from_config(config)
    model.extend({name: Known([("a", unit) for unit in range(UNITS)], REGIONS) for name in SIGNALS})
    return model


def targets():
    g = torch.Generator().manual_seed(0)
    values = {
        "regression": torch.randn(2, 5, 2, generator=g),
        "classification": torch.randint(0, 3, (2, 5, 1), generator=g).float(),
        "ordinal": torch.randint(0, 4, (2, 5, 1), generator=g).float(),
        "circular": torch.rand(2, 5, 1, generator=g) * 6 - 3,
    }
    times = (0.1 * torch.arange(1, 6)).expand(2, -1)
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[0, :2] = False
    return {
        kind: Target(kind, x.where(mask[..., None], torch.nan), times, mask)
        for kind, x in values.items()
    }


def windows(names):
    """Two windows, with gaps and padding, of which the second has fewer channels."""
    signals = {}
    for name in set(names) - {"spikes"}:
        dt = SIGNALS[name]["dt"]
        signals[name] = samples(time=round(0.5 / dt), channels=UNITS, dt=dt)
    if "binned" in signals:
        one = torch.ones(2, UNITS)
        told = {"gain": 2 * one, "shift": -one, "rate": 0.4 * one}
        counts = torch.poisson(0.4 * torch.ones(2, 25, UNITS), torch.Generator().manual_seed(0))
        values = 2 * counts.sqrt() - 1
        signals["binned"] = dataclasses.replace(signals["binned"], values=values, **told)
    given = {"spikes": events(units=UNITS)} if "spikes" in names else {}
    return Batch(signals, targets(), ["a", "a"], [0, 1], given)


def objectives(model):
    """Every objective, for a model; those that cannot tell channels apart only where it can."""
    shared = [n for n in model.sampled if not model.tokenizers[n].apart]
    by_channel = ("masked_region", "masked_in_region", "masked_adaptive")
    names = [name for name in OBJECTIVES if not (shared and name in by_channel)]
    tasks, signals = list(model.config.tasks), list(model.config.signals)
    return {name: OBJECTIVES[name](tasks, signals) for name in names}


def prepared(model, batch, asked):
    """The batch as a model is shown it in training, with what all objectives ask of all windows."""
    numbers = torch.arange(len(batch.windows), device=batch.targets["regression"].mask.device)
    draws, batch = Draws(numbers), dataclasses.replace(model.laid(batch), domains=numbers % 2)
    for objective in asked.values():
        batch = objective.prepare(batch, draws)
    # All together they would hide all, and no gradient would reach what reads a signal.
    hidden = asked["masked"].prepare(dataclasses.replace(batch, hidden={}), draws).hidden
    return dataclasses.replace(batch, noise=model.prior.draw(draws), hidden=hidden)


def of_precision(model, precision):
    return model.bfloat16() if precision == "bfloat16" else model


def reached(model):
    """Parameters that got a gradient, by name; each is a number everywhere."""
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert [name for name, x in gradients.items() if not x.isfinite().all()] == []
    return gradients
