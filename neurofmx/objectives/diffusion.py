"""Diffusion: tell the noise that was added to the latents, so that new ones can be drawn."""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F

from neurofmx.batches import Batch, HeadName, ModelOutput
from neurofmx.objectives.base import Groups, Objective


class Diffusion(Objective):
    """Mean squared error of what the prior says of noised latents, in their deviations.

    What it says (the noise, x₀ or v) is `model.prior.target`.

    Raises:
        ValueError: The model has no prior, or was given no noise.

    Source: the simple loss of Ho et al. 2020 (DDPM), arXiv:2006.11239, eq. 14; weights of times,
    where the prior has them, are in both sides already.
    """

    heads: ClassVar[Sequence[HeadName]] = ("denoise",)

    @property
    def groups(self) -> list[str]:
        """One."""
        return ["latents"]

    def asked(self, batch: Batch) -> Groups:
        """Windows."""
        return {"latents": torch.tensor(float(len(batch.windows)))}

    def total(self, output: ModelOutput, batch: Batch) -> Groups:
        """Of each window the mean over its latents' features."""
        if "denoise.truth" not in output.heads:
            raise ValueError(
                "the objective diffusion needs a model with a prior and its noise; set model.prior "
                "and give the batch noise=model.prior.draw(draws)"
            )
        said, truth = output.heads["denoise.prediction"], output.heads["denoise.truth"]
        return {"latents": F.mse_loss(said, truth) * len(said)}
