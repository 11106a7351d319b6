"""Masked modelling: tell hidden channels from the others and hidden times from other times.

Hidden channels make it co-smoothing: what one unit does is told from the rest of the population.
"""

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from neurofmx.batches import Batch, Cells, Hidden, ModelOutput
from neurofmx.objectives.deviance import deviance, means, summed


def hide(cells: dict[str, Cells], channels: float, tokens: float, generator: Generator) -> Hidden:
    """Choose what to hide.

    Args:
        cells: Of each signal, as `NeuroFMX.cells` gives them.
        channels: Share of the channels of each window.
        tokens: Share of the tokens of each window.
        generator: Source of the choice; on the CPU, so that every device hides the same.
    """

    def choose(cell: Cells, size: int, share: float) -> Bool[Tensor, "batch chosen"]:
        chosen = torch.rand((len(cell.values), size), generator=generator) < share
        return chosen.to(cell.values.device)

    return Hidden(
        {name: choose(cell, cell.seen.shape[2], channels) for name, cell in cells.items()},
        {name: choose(cell, cell.seen.shape[1], tokens) for name, cell in cells.items()},
    )


def masked(output: ModelOutput, batch: Batch, hidden: Hidden | None = None) -> Float[Tensor, ""]:
    """Mean deviance over the hidden samples that were seen, as in `deviance`.

    0 where nothing is hidden.

    Source: masked autoencoding, He et al. 2021, arXiv:2111.06377; for populations of neurons, Ye
    & Pandarinath 2021 (NDT), arXiv:2108.01210.
    """
    parts = []
    for name, cells in output.cells.items():
        if hidden is None:
            continue
        asked = hidden.tokens[name][:, :, None, None] | hidden.channels[name][:, None, :, None]
        loss, seen = deviance(output.heads[f"reconstruct.{name}"], cells)
        parts.append(summed(loss, asked & seen))
    return means(parts, output.latents.new_zeros(()))
