"""How weights move: the optimiser, its rate over a run, and a running mean of the weights."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from neurofmx.config import Params

# Embeddings of units, regions and the like (`neurofmx.tokenizers.units`).
TABLES = (".units.gain.weight", ".units.bias.weight", ".units.region.weight")


class OptimizerParams(Params):
    """The optimiser, with a linear warm-up and, but for a constant rate, a decay to zero.

    Attributes:
        name: adamw (in which embeddings of units share a second moment: `AdamW`), or muon: matrices
            inside the model move by their orthogonal part (Jordan et al. 2024), all else as before.
            Updates are scaled to AdamW's, so `lr` serves both.
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


class AdamW(torch.optim.AdamW):
    """AdamW, of which groups that are `shared` have one second moment for all their entries.

        m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) g²        θ ← (1 − ηλ) θ − η m̂ / √⟨v̂⟩

    ⟨v̂⟩ is the mean over entries that have had a gradient. Adam's own v̂ moves every entry as far,
    however little it has to do with the loss: of hundreds of units of which few say anything, the
    others are then learned by heart. With one for all they move in proportion to their gradients.

    Source: Loshchilov & Hutter 2017, arXiv:1711.05101; one second moment for a block of parameters,
    Zhang et al. 2024 (Adam-mini), arXiv:2406.16793.

    Attributes:
        total: Sums over ranks what each has of a table; they hold all of it unless an engine says
            otherwise.
    """

    total: Callable[[Tensor], Tensor] = staticmethod(lambda x: x)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move all parameters that have a gradient."""
        shared = [g for g in self.param_groups if g["shared"]]
        held = {p: p.grad for group in shared for p in group["params"] if p.grad is not None}
        for p in held:
            p.grad = None
        super().step()
        for group in shared:
            for p in (p for p in group["params"] if p in held):
                p.grad = held[p]
                self._move(p, group)

    def _move(self, p: Tensor, group: dict[str, Any]) -> None:
        assert p.grad is not None
        state = self.state[p]
        if not state:
            step = torch.zeros((), device=p.device)
            state |= {"step": step, "exp_avg": torch.zeros_like(p)}
            state["exp_avg_sq"] = torch.zeros_like(p)
        (first, second), m, v = group["betas"], state["exp_avg"], state["exp_avg_sq"]
        state["step"] += 1
        m.lerp_(p.grad, 1 - first)
        v.mul_(second).addcmul_(p.grad, p.grad, value=1 - second)
        sums = (v.sum(dtype=torch.float64), (v > 0).sum(dtype=torch.float64))
        square, seen = self.total(torch.stack([_whole(x) for x in sums]))
        mean = (square / seen.clamp(min=1)).to(v.dtype)
        root = (mean / (1 - second ** state["step"])).sqrt() + group["eps"]
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.sub_(m * (group["lr"] / (1 - first ** state["step"]) / root))


def _whole(x: Tensor) -> Tensor:
    return x.full_tensor() if isinstance(x, DTensor) else x


def optimizers(named: Iterable[tuple[str, nn.Parameter]], params: OptimizerParams) -> list[Any]:
    """The optimisers of a model's trained parameters: AdamW, and where chosen Muon beside it."""
    trained = [(name, p) for name, p in named if p.requires_grad]
    by_muon = [p for name, p in trained if params.name == "muon" and _inner(name, p)]
    others = [p for _, p in trained if not any(p is q for q in by_muon)]
    tables = [p for name, p in trained if name.endswith(TABLES)]
    inner = [p for p in others if p.ndim > 1 and not any(p is table for table in tables)]
    decay = params.weight_decay
    groups: list[dict[str, Any]] = [
        {"params": inner, "weight_decay": decay, "shared": False},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0, "shared": False},
        *({"params": [table], "weight_decay": decay, "shared": True} for table in tables),
    ]
    fused = {p.device.type for p in others} <= {"cpu", "cuda"} and all(
        p.is_floating_point() for p in others
    )
    made: list[Any] = [AdamW(groups, lr=params.lr, betas=(0.9, 0.98), fused=fused)]
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
