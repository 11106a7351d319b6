"""Forecast: the causal features at a token tell every channel's samples at several later times.

Of horizon h the loss weighs 1, or where distance is weighed h₁ / h with the nearest one's h₁, so
that what can hardly be told does not drown what can.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from neurofmx.batches import Batch, HeadName, ModelOutput
from neurofmx.objectives.base import Groups, Objective, summed
from neurofmx.objectives.deviance import deviance, later


class Forecast(Objective):
    """Mean deviance of the samples ahead, over horizons and all that was seen.

    Nothing is asked where nothing lies ahead: of a window as long as a token, or one that saw
    nothing.

    Source: next-step prediction as for tokens, Radford et al. 2018; for neural data, Antoniades
    et al. 2023 (Neuroformer), arXiv:2311.00136.
    """

    class Config(Objective.Config):
        """Options.

        Attributes:
            distance: How a horizon weighs: each alike, or by the inverse of how far ahead it is.
            huber: Deviations of a trace from which on its loss grows linearly.
        """

        distance: Literal["alike", "inverse"] = "alike"
        huber: float = Field(math.inf, gt=0)

    heads: ClassVar[Sequence[HeadName]] = ("forecast",)
    config: Config

    @property
    def groups(self) -> list[str]:
        """A signal each."""
        return list(self.signals)

    def asked(self, batch: Batch) -> Groups:
        """Samples ahead, each with the weight of its horizon."""
        found = {}
        for name, ahead in batch.horizons.items():
            seen = [later(batch.cells[name], n).sum() for n in ahead]
            found[name] = (torch.stack(seen) * self._weights(ahead, seen[0])).sum()
        return found

    def total(self, output: ModelOutput, batch: Batch) -> Groups:
        """Deviances, with the same weights."""
        found = {}
        for name, ahead in batch.horizons.items():
            told, cells = output.heads[f"forecast.{name}"].unbind(1), batch.cells[name]
            sums = [
                summed(deviance(one, cells, n, self.config.huber), later(cells, n))
                for one, n in zip(told, ahead, strict=True)
            ]
            found[name] = (torch.stack(sums) * self._weights(ahead, sums[0])).sum()
        return found

    def _weights(self, ahead: Sequence[int], like: Tensor) -> Float[Tensor, " horizon"]:
        distance = self.config.distance
        weights = [1.0 if distance == "alike" else ahead[0] / n for n in ahead]
        return torch.tensor(weights, device=like.device)
