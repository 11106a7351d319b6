"""Forecast: the causal features at a patch tell every channel's next patch."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from neurofmx.batches import Batch, Hidden, ModelOutput


def forecast(output: ModelOutput, batch: Batch, hidden: Hidden | None = None) -> Float[Tensor, ""]:
    """Mean squared error of the next patch, in units of each channel's deviation.

    Source: next-step prediction as for tokens, Radford et al. 2018; for neural data, Antoniades
    et al. 2023 (Neuroformer), arXiv:2311.00136.
    """
    losses = []
    for name, signal in batch.signals.items():
        features = output.features[name]
        size = -(-signal.mask.shape[1] // features.mask.shape[1])
        prediction = output.heads[f"forecast.{name}"][:, : signal.values.shape[1] - size]
        truth = signal.values[:, size:]
        asked = (signal.mask[:, size:, None] & signal.channel_mask[:, None, :]).expand_as(truth)
        if asked.any():
            losses.append(F.mse_loss(prediction[asked], truth[asked]))
    return sum(losses, start=output.latents.new_zeros(())) / max(1, len(losses))
