"""Contrast by behaviour: moments in which an animal did alike lie near each other.

Of each window one moment with an answer is drawn, and y is the answer there. With points z of the
moments i ≠ j,

    L_i = −Σ_j w_ij log ( exp(z_i · z_j / τ) / Σ_k exp(z_i · z_k / τ) ) / log (n − 1)
    w_ij ∝ exp(−|y_i − y_j|² / 2σ²),  Σ_j w_ij = 1

which is what CEBRA asks on average where it draws a positive by the distance of behaviours. A guess
leaves 1; the least is the entropy of w, by that of guessing.

Source: Schneider et al. 2023 (CEBRA), arXiv:2204.00673; weights of a kernel, Dufumier et al. 2021
(y-aware InfoNCE), arXiv:2106.08808.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from neurofmx.batches import Batch, HeadName, ModelOutput, Moments, Target
from neurofmx.errors import UserError
from neurofmx.objectives.base import Groups, Objective, present
from neurofmx.objectives.contrastive import TEMPERATURE, pairing
from neurofmx.objectives.draws import Draws
from neurofmx.objectives.ranks import everyone


class ContrastiveBehaviour(Objective):
    """Mean over signals of the loss above.

    Source: Schneider et al. 2023 (CEBRA), arXiv:2204.00673.
    """

    class Config(Objective.Config):
        """Options.

        Attributes:
            task: Whose answers say what is alike; empty takes the first.
            sigma: σ: by how much answers may differ, in deviations of the task; angles by the
                chord on the unit circle, classes by their number.
        """

        task: str = ""
        sigma: float = Field(0.3, gt=0)

    heads: ClassVar[Sequence[HeadName]] = ("moment",)
    config: Config

    @property
    def groups(self) -> list[str]:
        """A signal each."""
        return list(self.signals)

    def prepare(self, batch: Batch, draws: Draws) -> Batch:
        """Draw a moment of each window.

        Raises:
            UserError: The task is not there.
        """
        task = self.config.task or next(iter(self.tasks), "")
        if task not in self.tasks:
            raise UserError(
                f"contrastive_behaviour is by the task {task!r}, which is not there; choose from "
                f"{', '.join(self.tasks) or 'none: the card has no task'}"
            )
        return dataclasses.replace(batch, moments=drawn(batch.targets[task], draws))

    def asked(self, batch: Batch) -> Groups:
        """Windows that have the signal and a moment."""
        return {name: pairing(batch, asked).own.sum() for name, asked in self._asked(batch).items()}

    def total(self, output: ModelOutput, batch: Batch) -> Groups:
        """Cross-entropies, weighted."""
        assert batch.moments is not None, "prepare draws them"
        labels, found = everyone(batch.moments.labels), {}
        for name, asked in self._asked(batch).items():
            p = pairing(batch, asked)
            head = output.heads.get(f"moment.{name}")
            own = 0.0 * output.latents.flatten(1)[:, :1] if head is None else head.float()
            every = everyone(own)
            rows = p.begin + torch.arange(len(own), device=own.device)
            others = p.every & (rows[:, None] != torch.arange(len(every), device=own.device))
            apart = (batch.moments.labels[:, None] - labels).square().sum(2)
            weight = _over(-apart / (2 * self.config.sigma**2), others).exp()
            logs = _over(own @ every.T / TEMPERATURE, others)
            loss = -torch.where(others, weight * logs, 0.0).sum(1)
            guess = math.log(max(2, int(p.every.sum()) - 1))
            found[name] = torch.where(p.own, loss, 0.0).sum() / guess + 0.0 * every.sum()
        return found

    def _asked(self, batch: Batch) -> dict[str, Bool[Tensor, " batch"]]:
        assert batch.moments is not None, "prepare draws them"
        here, defined = present(batch), batch.moments.defined
        none = torch.zeros_like(defined)
        return {name: here.get(name, none) & defined for name in self.signals}


def drawn(target: Target, draws: Draws) -> Moments:
    """One answered query of each window, each alike likely, and its answer as a point."""
    number = target.mask.sum(1)
    nth = draws.chosen("moment", number)
    place = ((target.mask.cumsum(1) - 1 == nth[:, None]) & target.mask).int().argmax(1)
    rows = torch.arange(len(place), device=place.device)
    values = torch.where(target.mask[..., None], target.values, 0.0)[rows, place]
    if target.kind == "circular":
        values = torch.cat([values.cos(), values.sin()], dim=1)
    return Moments(target.times[rows, place], values.float(), number > 0)


def _over(scores: Float[Tensor, "own all"], others: Bool[Tensor, "own all"]) -> Tensor:
    """Log softmax over the others."""
    return scores.masked_fill(~others, torch.finfo(scores.dtype).min).log_softmax(1)
