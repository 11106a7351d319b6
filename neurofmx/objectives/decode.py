"""Decode behaviour: squared error of scaled targets, cross-entropy of classes."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from neurofmx.batches import Batch, Hidden, ModelOutput


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


def unexplained(output: ModelOutput, batch: Batch) -> Float[Tensor, " task"]:
    """What is left to explain of each task: 0 is perfect, 1 is the train mean or a blind guess.

    Squared error of scaled targets, and errors of the most probable class over those of guessing
    among the classes. Unlike cross-entropy it does not grow with the confidence of a wrong answer,
    so it tells which weights decode best. NaN for a task that the batch does not ask.
    """
    left = []
    for name, target in batch.targets.items():
        prediction, truth = output.heads[f"decode.{name}"][target.mask], target.values[target.mask]
        if target.kind == "classification":
            wrong = (prediction.argmax(-1) != truth[:, 0].long()).float().mean()
            left.append(wrong / (1 - 1 / prediction.shape[-1]))
        else:
            left.append((prediction - truth).square().mean())
    return torch.stack(left)
