"""Masked modelling: tell hidden channels from the others and hidden times from other times.

Hidden channels make it co-smoothing: what one unit does is told from the rest of the population.
"""

import torch
import torch.nn.functional as F
from einops import repeat
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from neurofmx.batches import Batch, Hidden, ModelOutput, SignalBatch


def hide(
    batch: Batch, channels: float, patches: float, patch: dict[str, int], generator: Generator
) -> Hidden:
    """Choose what to hide.

    Args:
        channels: Share of the channels of each window.
        patches: Share of the patches of each window.
        patch: Samples per token of each signal.
        generator: Source of the choice; on the CPU, so that every device hides the same.
    """

    def choose(signal: SignalBatch, size: int, share: float) -> Bool[Tensor, "batch chosen"]:
        shape = (len(signal.values), size)
        return (torch.rand(shape, generator=generator) < share).to(signal.values.device)

    return Hidden(
        {n: choose(s, s.channel_mask.shape[1], channels) for n, s in batch.signals.items()},
        {n: choose(s, -(-s.mask.shape[1] // patch[n]), patches) for n, s in batch.signals.items()},
    )


def masked(output: ModelOutput, batch: Batch, hidden: Hidden | None = None) -> Float[Tensor, ""]:
    """Mean squared error over the hidden samples, in units of each channel's deviation.

    Source: masked autoencoding, He et al. 2021, arXiv:2111.06377; for populations of neurons, Ye
    & Pandarinath 2021 (NDT), arXiv:2108.01210.
    """
    losses = []
    for name, signal in batch.signals.items():
        if hidden is None:
            continue
        patches = hidden.patches[name]
        size = -(-signal.mask.shape[1] // patches.shape[1])
        times = repeat(patches, "b t -> b (t s)", s=size)[:, : signal.mask.shape[1]]
        asked = times[..., None] | hidden.channels[name][:, None, :]
        asked &= signal.mask[..., None] & signal.channel_mask[:, None, :]
        if asked.any():
            losses.append(
                F.mse_loss(output.heads[f"reconstruct.{name}"][asked], signal.values[asked])
            )
    return sum(losses, start=output.latents.new_zeros(())) / max(1, len(losses))
