"""Distillation: a small model is held to what a large one says of the same windows.

The teacher sees what is hidden from the student. Both name parameters of the same distributions
(`LIKELIHOODS`, logarithms of expected counts, means of traces), and these are what is compared:
for logits it is the limit of soft targets at a high temperature.

Source: Hinton et al. 2015, arXiv:1503.02531, section 2.1.
"""

from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Bool
from torch import Tensor

from neurofmx.batches import Batch, HeadName, ModelOutput
from neurofmx.objectives.base import Groups, Objective, summed

COMPARED = ("decode", "reconstruct", "forecast")


class Distill(Objective):
    """Mean over heads of the squared distance to the teacher's parameters.

    It runs over the queries of tasks that have an answer and over all samples that were seen, in
    each head that both were asked for, contrastive ones left out: their space is each model's own.

    Raises:
        ValueError: The batch has no teacher.

    Source: Hinton et al. 2015, arXiv:1503.02531, section 2.1.
    """

    heads: ClassVar[Sequence[HeadName]] = (
        "decode",
    )  # and every other head that the others look at

    @property
    def groups(self) -> list[str]:
        """A head each."""
        return [f"{head}.{name}" for head in COMPARED for name in (*self.tasks, *self.signals)]

    def asked(self, batch: Batch) -> Groups:
        """Numbers that are compared."""
        teacher = self._teacher(batch).heads
        return {
            name: asked.expand_as(teacher[name]).sum() for name, asked in self._asked(batch).items()
        }

    def total(self, output: ModelOutput, batch: Batch) -> Groups:
        """Squared distances."""
        teacher, found = self._teacher(batch).heads, {}
        for name, asked in self._asked(batch).items():
            error = (output.heads[name] - teacher[name]).square()
            found[name] = summed(error, asked.expand_as(error))
        return found

    def _asked(self, batch: Batch) -> dict[str, Bool[Tensor, "..."]]:
        """Where each head says something, in a shape that expands to it."""
        found = {}
        for name in self._teacher(batch).heads:
            head, _, of = name.partition(".")
            if head == "decode":
                found[name] = batch.targets[of].mask[..., None]
            elif head == "reconstruct":
                found[name] = batch.cells[of].seen
            elif head == "forecast":
                found[name] = batch.cells[of].seen[:, None]
        return found

    def _teacher(self, batch: Batch) -> ModelOutput:
        if batch.teacher is None:
            raise ValueError("distill needs what a teacher says of the batch; give Fit a teacher")
        return batch.teacher
