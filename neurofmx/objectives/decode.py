"""Decode behaviour: how likely the answers were under what the model says of them."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neurofmx.batches import Batch, Hidden, ModelOutput
from neurofmx.objectives.likelihoods import LIKELIHOODS


def decode(output: ModelOutput, batch: Batch, hidden: Hidden | None = None) -> Float[Tensor, ""]:
    """Mean loss over tasks, each a mean over the queries that have an answer; 0 without any.

    Source: maximum likelihood; the distributions are those of `LIKELIHOODS`.
    """
    means, asked = [], []
    for name, target in batch.targets.items():
        params = output.heads[f"decode.{name}"]
        # Whatever stands where nothing is defined must reach neither the loss nor its gradient.
        values = torch.where(target.mask[..., None], target.values, 0.0)
        means.append(_mean(LIKELIHOODS[target.kind].loss(params, values), target.mask))
        asked.append(target.mask.any())
    if not means:
        return output.latents.new_zeros(())
    return _mean(torch.stack(means), torch.stack(asked))


def unexplained(output: ModelOutput, batch: Batch) -> Float[Tensor, " task"]:
    """What is left to explain of each task: 0 is perfect, 1 the train mean or a blind guess.

    NaN for a task that the batch does not ask.
    """
    left = []
    for name, target in batch.targets.items():
        params, values = output.heads[f"decode.{name}"][target.mask], target.values[target.mask]
        left.append(LIKELIHOODS[target.kind].unexplained(params, values).mean())
    return torch.stack(left)


def _mean(values: Float[Tensor, "*any"], mask: Bool[Tensor, "*any"]) -> Float[Tensor, ""]:
    """Over what the mask holds true; 0 where that is nothing."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)
