"""Decode behaviour: squared error of scaled targets, cross-entropy of classes."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from neurofmx.types import Batch, Hidden, ModelOutput


def decode(output: ModelOutput, batch: Batch, hidden: Hidden | None = None) -> Float[Tensor, ""]:
    """Mean loss over tasks, each a mean over the queries that have an answer.

    Targets are in units of their deviation, so a squared error of 1 is that of the mean.

    Source: least squares and maximum likelihood; Bishop 2006, sections 3.1 and 4.3.
    """
    losses = []
    for name, target in batch.targets.items():
        prediction, mask = output.heads[f"decode.{name}"], target.mask
        if not mask.any():
            continue
        if target.kind == "classification":
            losses.append(F.cross_entropy(prediction[mask], target.values[mask][:, 0].long()))
        else:
            losses.append(F.mse_loss(prediction[mask], target.values[mask]))
    return sum(losses, start=output.latents.new_zeros(())) / max(1, len(losses))
