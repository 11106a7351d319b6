"""A prior over the Perceiver's latents: noise is added in steps, a network learns to take it away.

The steps and their equations are in `diffusion_steps`, the network is in `diffusion_net`. A
condition (a class, a behaviour) is kept back from some of the training windows, so that one
network knows both what is likely and what is likely given the condition, and sampling can weigh
the difference:  said(∅) + guidance · (said(condition) − said(∅)).

Source: latent diffusion, Rombach et al. 2022, arXiv:2112.10752; guidance without a classifier, Ho &
Salimans 2022, arXiv:2207.12598.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Generator, Tensor, nn

from neurofmx.config import Params
from neurofmx.models.diffusion_net import Denoiser
from neurofmx.models.diffusion_steps import (
    ScheduleName,
    TargetName,
    asked_for,
    cleaned,
    make_schedule,
    sample,
)
from neurofmx.models.whitening import Whitening
from neurofmx.objectives.draws import Draws

# Deviations that x̂₀ may reach where the network says ε: near t = T its error is divided by α ≈ 0.
LIMIT = 5.0


class Noise(NamedTuple):
    """Everything random about a training step of the prior.

    Attributes:
        times: How far each window's latents are noised, 1 … T.
        eps: The noise.
        untold: Windows whose condition is kept back.
        alone: Windows that the model should answer from their latents alone, as it will have to
            answer from samples.
    """

    times: Int[Tensor, " batch"]
    eps: Float[Tensor, "batch latent width"]
    untold: Bool[Tensor, " batch"]
    alone: Bool[Tensor, " batch"]


class DiffusionPrior(nn.Module):
    """What latents are likely: learns from those of an encoder and draws new ones.

    Args:
        latent_dim: Width of the latents.
        n_latents: Latents of a window.
        width, n_layers, n_heads: Of the denoising network.
        steps: T, the steps in which noise is added.
        schedule: Row of `SCHEDULES`.
        target: What the network says: the noise, the clean latents, or v.
        condition_dim: Features of the condition (classes, or dimensions of behaviour); 0: none.
        untold: Share of the training windows from which the condition is kept back.
        alone: Share of the training windows that are to be answered from their latents alone.
        min_snr: Most that a signal-to-noise ratio weighs in the loss (Hang et al. 2023,
            arXiv:2303.09556, who take 5); without it every time weighs the same.
    """

    class Config(Params):
        """What a person chooses of it.

        Attributes:
            width, n_layers: None: those of the model's size.
            condition: Task that latents are conditioned on; "" for none.
        """

        width: int | None = Field(None, ge=2)
        n_layers: int | None = Field(None, ge=1)
        n_heads: int = Field(4, ge=1)
        steps: int = Field(1000, ge=1)
        schedule: ScheduleName = "cosine"
        target: TargetName = "v"
        condition: str = ""
        untold: float = Field(0.1, ge=0, le=1)
        alone: float = Field(0.25, ge=0, le=1)
        min_snr: float | None = Field(None, gt=0)

    def __init__(
        self,
        latent_dim: int,
        n_latents: int,
        width: int = 256,
        n_layers: int = 4,
        n_heads: int = 4,
        steps: int = 1000,
        schedule: ScheduleName = "cosine",
        target: TargetName = "v",
        condition_dim: int = 0,
        untold: float = 0.1,
        alone: float = 0.25,
        min_snr: float | None = None,
    ):
        super().__init__()
        self.shape, self.condition_dim = (n_latents, latent_dim), condition_dim
        self.schedule, self.target = make_schedule(schedule, steps), target
        self.untold, self.alone, self.min_snr = untold, alone, min_snr
        self.whiten = Whitening(n_latents, latent_dim)
        self.net = Denoiser(latent_dim, n_latents, width, n_layers, n_heads, condition_dim)

    def draw(self, draws: Draws) -> Noise:
        """What is random about a training step, of each window by its seed."""
        steps = torch.full_like(draws.seeds, self.schedule.steps)
        return Noise(
            draws.chosen("noise time", steps) + 1,
            draws.normal("noise", *self.shape),
            draws.uniform("untold") < self.untold,
            draws.uniform("alone") < self.alone,
        )

    def forward(
        self,
        latents: Float[Tensor, "batch latent width"],
        noise: Noise,
        condition: Float[Tensor, "batch condition"] | None = None,
        known: Bool[Tensor, " batch"] | None = None,
    ) -> tuple[Float[Tensor, "batch latent width"], Float[Tensor, "batch latent width"]]:
        """What the network says of noised latents and what it should say, in float32.

        No gradient reaches the latents: the prior learns what the encoder gives. In training they
        also enter the whitening.

        Args:
            condition: Of each window; without it none is told.
            known: False where the condition is undefined.

        Raises:
            ValueError: The condition has another shape than the prior was built for.
        """
        self._check(len(latents), condition)
        latents = latents.detach()
        if self.training:
            self.whiten.observe(latents)
        clean, eps = self.whiten(latents), noise.eps.to(latents.device)
        alpha, sigma = self.schedule.at(noise.times, latents.device)
        told = ~noise.untold.to(latents.device)
        told = told if known is None else told & known
        said = self._say(alpha * clean + sigma * eps, noise.times, condition, told)
        weight = self._weight(alpha, sigma).sqrt()
        return weight * said, weight * asked_for(self.target, clean, eps, alpha, sigma)

    def loss(
        self,
        latents: Float[Tensor, "batch latent width"],
        condition: Float[Tensor, "batch condition"] | None,
        draws: Draws,
    ) -> Float[Tensor, ""]:
        """Mean squared error of what the network says; 1 for a network that says 0 of v or ε."""
        return F.mse_loss(*self(latents, self.draw(draws), condition))

    @torch.no_grad()
    def sample(
        self,
        n: int,
        condition: Float[Tensor, "batch condition"] | None = None,
        steps: int = 50,
        eta: float = 0.0,
        guidance: float = 1.0,
        *,
        generator: Generator,
    ) -> Float[Tensor, "batch latent width"]:
        """New latents, with the device and type of the weights.

        Args:
            n: How many.
            condition: Of each; without it they are drawn whatever the condition.
            steps: Steps of the sampler.
            eta: Share of the DDPM's fresh noise; 0 is DDIM.
            guidance: Weight of the condition: 0 leaves it out, 1 takes it as it was learned, more
                sharpens it (the paper's 1 + w).
            generator: Source of the noise; on the CPU.

        Raises:
            ValueError: The prior has seen no latents, or a condition is missing or has another
                shape.
        """
        if self.whiten.count == 0:
            raise ValueError("the prior has seen no latents; train it before sampling")
        if condition is None and guidance != 1:
            raise ValueError(f"guidance {guidance} needs a condition; give one, or leave it at 1")
        self._check(n, condition)
        weights = self.net.places
        condition = None if condition is None else condition.to(weights)

        def clean_of(x: Tensor, time: int) -> Tensor:
            said = self._guided(x, torch.full((n,), time), condition, guidance)
            clean = cleaned(self.target, said, x, *self.schedule.level(time))
            return clean.clamp(-LIMIT, LIMIT) if self.target == "eps" else clean

        x = torch.randn((n, *self.shape), generator=generator).to(weights.device)
        x = sample(clean_of, x, self.schedule, steps, eta, generator)
        return self.whiten.undo(x).to(weights.dtype)

    def _check(self, n: int, condition: Tensor | None) -> None:
        if condition is not None and condition.shape != (n, self.condition_dim):
            raise ValueError(
                f"condition has shape {tuple(condition.shape)}; {n} samples of this prior need "
                f"{(n, self.condition_dim)}"
            )

    def _say(
        self,
        x: Float[Tensor, "batch latent width"],
        times: Int[Tensor, " batch"],
        condition: Float[Tensor, "batch condition"] | None,
        told: Bool[Tensor, " batch"] | None,
    ) -> Float[Tensor, "batch latent width"]:
        """The network in the type of its weights, its answer in float32."""
        weights = self.net.places
        thousandths = (times * (1000 / self.schedule.steps)).to(weights.device)
        condition = None if condition is None else condition.to(weights)
        return self.net(x.to(weights), thousandths, condition, told).float()

    def _guided(
        self,
        x: Float[Tensor, "batch latent width"],
        times: Int[Tensor, " batch"],
        condition: Float[Tensor, "batch condition"] | None,
        guidance: float,
    ) -> Float[Tensor, "batch latent width"]:
        """What it says without the condition, and `guidance` times what the condition adds."""
        if guidance == 1:
            return self._say(x, times, condition, None)
        without = self._say(x, times, None, None)
        return without + guidance * (self._say(x, times, condition, None) - without)

    def _weight(
        self, alpha: Float[Tensor, "batch 1 1"], sigma: Float[Tensor, "batch 1 1"]
    ) -> Float[Tensor, "batch 1 1"]:
        """Weight of each window's squared error (Hang et al. 2023, section 3.4)."""
        if self.min_snr is None:
            return torch.ones_like(alpha)
        ratio = (alpha / sigma) ** 2
        weight = ratio.clamp(max=self.min_snr)
        return weight / {"eps": ratio, "x0": torch.ones_like(ratio), "v": ratio + 1}[self.target]
