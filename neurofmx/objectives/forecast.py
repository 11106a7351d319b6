"""Forecast: the causal features at a token tell every channel's next samples."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from neurofmx.batches import Batch, Hidden, ModelOutput


def forecast(output: ModelOutput, batch: Batch, hidden: Hidden | None = None) -> Float[Tensor, ""]:
    """Mean squared error of the next token's samples, in units of each channel's deviation.

    Source: next-step prediction as for tokens, Radford et al. 2018; for neural data, Antoniades
    et al. 2023 (Neuroformer), arXiv:2311.00136.
    """
    losses = []
    for name, cells in output.cells.items():
        prediction, truth = output.heads[f"forecast.{name}"][:, :-1], cells.values[:, 1:]
        asked = cells.seen[:, 1:]
        if asked.any():
            losses.append(F.mse_loss(prediction[asked], truth[asked]))
    return sum(losses, start=output.latents.new_zeros(())) / max(1, len(losses))
