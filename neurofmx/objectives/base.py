"""What every objective is: it says how much it asks of a batch, and what its loss sums to over it.

The loss is the mean over the groups of an objective (its tasks, its signals), each a mean over what
is asked of it:

    L = mean_g ( Σ loss_g / n_g )    over the groups with n_g > 0.

Sums and numbers are apart, and n_g depends on the batch alone, not on what a model says. So the
mean of a step that is spread over ranks and parts is that of the whole step: n_g is summed over all
of them first. Neither a mask, padding nor the size of a batch changes the scale.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn

from neurofmx.batches import Batch, HeadName, ModelOutput
from neurofmx.config import Params
from neurofmx.objectives.draws import Draws

Groups = dict[str, Num[Tensor, ""]]


class Objective(nn.Module, ABC):
    """One thing that a model is trained for.

    Args:
        tasks, signals: Of the model, in its order.
        config: Its options.

    Attributes:
        heads: The heads of the model that it looks at.
    """

    class Config(Params):
        """Options."""

    heads: ClassVar[Sequence[HeadName]] = ()
    config: Config

    def __init__(
        self, tasks: Sequence[str] = (), signals: Sequence[str] = (), config: Config | None = None
    ):
        super().__init__()
        self.tasks, self.signals = list(tasks), list(signals)
        self.config = config or self.Config()

    def prepare(self, batch: Batch, draws: Draws) -> Batch:
        """The batch as it is shown to the model: what is hidden, noise, and what is asked."""
        return batch

    @property
    @abstractmethod
    def groups(self) -> list[str]:
        """Every group that there can be."""

    @abstractmethod
    def asked(self, batch: Batch) -> Groups:
        """How much a prepared batch asks of each group that is in it."""

    @abstractmethod
    def total(self, output: ModelOutput, batch: Batch) -> Groups:
        """The loss summed over that, of the same groups."""

    def loss(self, output: ModelOutput, batch: Batch) -> Float[Tensor, ""]:
        """Mean over groups, each a mean over what is asked; 0 where nothing is."""
        return mean(self.total(output, batch), self.asked(batch), output.latents.new_zeros(()))

    def learn(self) -> None:
        """After each step: take up what it has seen, the same on every rank."""


def mean(
    totals: Mapping[str, Num[Tensor, ""]],
    numbers: Mapping[str, Num[Tensor, ""]],
    blank: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Mean over groups of total / number; one with no number is left out.

    Args:
        blank: What comes out where there is no group.
    """
    if not totals:
        return blank
    sums = torch.stack([totals[name].float() for name in totals])
    counts = torch.stack([numbers[name].to(sums) for name in totals])
    return (sums / counts.clamp(min=1)).sum() / (counts > 0).sum().clamp(min=1)


def summed(loss: Float[Tensor, "*shape"], asked: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Sum of a loss over what is asked; what stands elsewhere reaches neither it nor a gradient."""
    return torch.where(asked, loss, 0.0).sum()


def present(batch: Batch) -> dict[str, Bool[Tensor, " batch"]]:
    """Which windows have each signal."""
    sampled = {name: cells.seen.flatten(1).any(1) for name, cells in batch.cells.items()}
    return sampled | {name: events.channel_mask.any(1) for name, events in batch.events.items()}
