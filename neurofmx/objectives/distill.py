"""Distillation: a small model is held to what a large one says of the same windows.

The teacher sees what is hidden from the student. Both name parameters of the same distributions
(`LIKELIHOODS`, logarithms of expected counts, means of traces), and these are what is compared:
for logits it is the limit of soft targets at a high temperature.

Source: Hinton et al. 2015, arXiv:1503.02531, section 2.1.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from neurofmx.batches import Batch, Hidden, ModelOutput
from neurofmx.objectives.deviance import means, summed


def distill(output: ModelOutput, batch: Batch, hidden: Hidden | None = None) -> Float[Tensor, ""]:
    """Mean over heads of the squared distance to the teacher's parameters.

    It runs over the queries of tasks that have an answer and over all samples that were seen, in
    each head that both were asked for, contrastive ones left out: their space is each model's own.

    Raises:
        ValueError: The batch has no teacher.
    """
    if batch.teacher is None:
        raise ValueError("distill needs what a teacher says of the batch; give Fit a teacher")
    parts = []
    for name, truth in batch.teacher.heads.items():
        asked = _asked(name, output, batch)
        if name in output.heads and asked is not None:
            error = (output.heads[name] - truth).square()
            parts.append(summed(error, asked.expand_as(error)))
    return means(parts, output.latents.new_zeros(()))


def _asked(name: str, output: ModelOutput, batch: Batch) -> Bool[Tensor, "..."] | None:
    """Where a head says something, in a shape that expands to it; None for one not compared."""
    head, _, of = name.partition(".")
    if head == "decode":
        return batch.targets[of].mask[..., None]
    if head == "reconstruct":
        return output.cells[of].seen
    return output.cells[of].seen[:, None] if head == "forecast" else None
