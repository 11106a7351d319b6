"""Decode behaviour: how likely the answers were under what the model says of them."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from neurofmx.batches import Batch, HeadName, ModelOutput
from neurofmx.objectives.base import Groups, Objective, summed
from neurofmx.objectives.likelihoods import LIKELIHOODS


class Decode(Objective):
    """Mean loss over tasks, each a mean over the queries that have an answer.

    Source: maximum likelihood; the distributions are those of `LIKELIHOODS`.
    """

    heads: ClassVar[Sequence[HeadName]] = ("decode",)

    @property
    def groups(self) -> list[str]:
        """A task each."""
        return list(self.tasks)

    def asked(self, batch: Batch) -> Groups:
        """Queries that have an answer."""
        return {name: target.mask.sum() for name, target in batch.targets.items()}

    def total(self, output: ModelOutput, batch: Batch) -> Groups:
        """What each likelihood makes small."""
        found = {}
        for name, target in batch.targets.items():
            params = output.heads[f"decode.{name}"]
            # Whatever stands where nothing is defined must not reach the gradient.
            values = torch.where(target.mask[..., None], target.values, 0.0)
            found[name] = summed(LIKELIHOODS[target.kind].loss(params, values), target.mask)
        return found


def unexplained(output: ModelOutput, batch: Batch) -> dict[str, Float[Tensor, " query"]]:
    """What is left to explain of each answered query: 0 is perfect, 1 the train mean or a guess."""
    left = {}
    for name, target in batch.targets.items():
        params, values = output.heads[f"decode.{name}"][target.mask], target.values[target.mask]
        left[name] = LIKELIHOODS[target.kind].unexplained(params, values)
    return left
