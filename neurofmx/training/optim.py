"""How weights move: the optimiser, its rate over a run, and a running mean of the weights."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from neurofmx.config import Params


class OptimizerParams(Params):
    """The optimiser, with a linear warm-up and, but for a constant rate, a decay to zero.

    Attributes:
        name: adamw, or muon: matrices inside the model move by their orthogonal part (Jordan et
            al. 2024), all else by AdamW. Updates are scaled to AdamW's, so `lr` serves both.
        lr: Largest learning rate.
        weight_decay: Of matrices; embeddings' vectors, norms and biases have none.
        schedule: After the warm-up a cosine down to 0 (Loshchilov & Hutter 2016,
            arXiv:1608.03983); wsd: constant, then down linearly (Hu et al. 2024,
            arXiv:2404.06395); or constant.
        warmup: Share of the steps that the rate rises.
        decay: Share of the steps that wsd comes down.
        clip: Largest norm of the gradient.
        ema: Share of the running mean of the weights that a step keeps, which is then what is
            validated and kept (Polyak & Juditsky 1992); 0: there is none.
    """

    name: Literal["adamw", "muon"] = "adamw"
    lr: float = Field(3e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    warmup: float = Field(0.1, ge=0, le=1)
    decay: float = Field(0.2, ge=0, le=1)
    clip: float = Field(1.0, gt=0)
    ema: float = Field(0.0, ge=0, lt=1)

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step as a share of the largest."""
        rise = max(1, round(steps * self.warmup))
        if step < rise:
            return (step + 1) / rise
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
        if self.schedule == "constant":
            return 1.0
        fall = max(1, round(steps * self.decay))
        return min(1.0, (steps - step) / fall)


def optimizers(named: Iterable[tuple[str, nn.Parameter]], params: OptimizerParams) -> list[Any]:
    """The optimisers of a model's trained parameters: AdamW, and where chosen Muon beside it."""
    trained = [(name, p) for name, p in named if p.requires_grad]
    by_muon = [p for name, p in trained if params.name == "muon" and _inner(name, p)]
    others = [p for _, p in trained if not any(p is q for q in by_muon)]
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": params.weight_decay},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = {p.device.type for p in others} <= {"cpu", "cuda"} and all(
        p.is_floating_point() for p in others
    )
    made: list[Any] = [torch.optim.AdamW(groups, lr=params.lr, betas=(0.9, 0.98), fused=fused)]
    if by_muon:
        made.append(
            torch.optim.Muon(
                by_muon,
                lr=params.lr,
                weight_decay=params.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return made


def _inner(name: str, parameter: nn.Parameter) -> bool:
    """Whether it is a matrix between features, not an embedding, a query or a readout."""
    inside = any(part in name for part in ("backbone.", "perceiver.", "prior.net."))
    # Places and latents are parameters by themselves; only layers have a weight.
    layer = name.endswith(".weight") and "prior.net.leave." not in name
    return inside and layer and parameter.ndim == 2 and min(parameter.shape) > 1


class Average:
    """A running mean of weights, kept beside them in the same layout."""

    def __init__(self, parameters: Iterable[nn.Parameter], keep: float):
        self.own = [p for p in parameters if p.requires_grad]
        self.keep = keep
        self.mean: list[Tensor] = [p.detach().clone() for p in self.own]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After a step; at first the mean of those so far, so that the start is soon forgotten."""
        keep = min(self.keep, (step + 1) / (step + 10))
        for mean, own in zip(self.mean, self.own, strict=True):
            mean.lerp_(own.detach(), 1 - keep)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the weights are their mean."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for mean, own in zip(self.mean, self.own, strict=True):
            kept = own.detach().clone()
            own.copy_(mean)
            mean.copy_(kept)
