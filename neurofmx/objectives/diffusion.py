"""Diffusion: tell the noise that was added to the latents, so that new ones can be drawn."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from neurofmx.batches import Batch, Hidden, ModelOutput


def diffusion(output: ModelOutput, batch: Batch, hidden: Hidden | None = None) -> Float[Tensor, ""]:
    """Mean squared error of what the prior says of noised latents, in their deviations.

    Raises:
        ValueError: The model has no prior, or was given no noise.

    Source: the simple loss of Ho et al. 2020 (DDPM), arXiv:2006.11239, eq. 14; weights of times,
    where the prior has them, are in both sides already.
    """
    if "denoise.truth" not in output.heads:
        raise ValueError(
            "the objective diffusion needs a model with a prior and its noise; set model.prior "
            "and call model(batch, hidden, model.prior.draw(windows, generator))"
        )
    return F.mse_loss(output.heads["denoise.prediction"], output.heads["denoise.truth"])
