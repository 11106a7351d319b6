"""The steps of a diffusion: how noise is added, and how a sample goes back from it.

With x₀ clean, ε ~ N(0, 1) and t = 0 … T,

    x_t = α_t x₀ + σ_t ε,    α_t² = Π (1 − β_i) over i ≤ t,    σ_t² = 1 − α_t²

A network says ε, x₀ or v = α_t ε − σ_t x₀; each tells the others. A sample starts as noise and
goes from a step t to an earlier one s by

    x_s = α_s x̂₀ + √(σ_s² − τ²) ε̂ + τ z,    τ² = η² (σ_s² / σ_t²) (1 − α_t² / α_s²)

η = 0 is DDIM, which is deterministic and can take few large steps; η = 1 with every step is DDPM.

Source: Ho et al. 2020 (DDPM), arXiv:2006.11239; Song et al. 2021 (DDIM), arXiv:2010.02502; Nichol
& Dhariwal 2021 (cosine), arXiv:2102.09672; Salimans & Ho 2022 (v), arXiv:2202.00512.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64, Int
from torch import Generator, Tensor

ScheduleName = Literal["cosine", "linear"]
TargetName = Literal["eps", "x0", "v"]


class Level(NamedTuple):
    """How much of a noisy latent is signal and how much is noise: x = alpha · x₀ + sigma · ε."""

    alpha: float
    sigma: float


@dataclass(frozen=True)
class Schedule:
    """α and σ of every t = 0 … T, in float64 and on the CPU, where times are drawn.

    They are no buffers of the module, which would be rounded with its weights to bfloat16.
    """

    alpha: Float64[Tensor, " level"]
    sigma: Float64[Tensor, " level"]

    @property
    def steps(self) -> int:
        """T."""
        return len(self.alpha) - 1

    def level(self, time: int) -> Level:
        """α and σ at one time."""
        return Level(self.alpha[time].item(), self.sigma[time].item())

    def at(
        self, times: Int[Tensor, " batch"], device: torch.device | str
    ) -> tuple[Float[Tensor, "batch 1 1"], Float[Tensor, "batch 1 1"]]:
        """α and σ of each sample, to be multiplied with latents on a device."""
        alpha, sigma = (x[times].float().to(device) for x in (self.alpha, self.sigma))
        return alpha[:, None, None], sigma[:, None, None]


def cosine_betas(steps: int) -> Float64[Tensor, " step"]:
    """β such that α falls as a cosine, slowly at both ends (Nichol & Dhariwal 2021, eq. 17)."""
    time = torch.linspace(0, 1, steps + 1, dtype=torch.float64, device="cpu")
    signal = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
    return 1 - signal[1:] / signal[:-1]


def linear_betas(steps: int) -> Float64[Tensor, " step"]:
    """β from 10⁻⁴ to 0.02 over 1000 steps (Ho et al. 2020); fewer steps are larger each."""
    scale = 1000 / steps
    return torch.linspace(1e-4 * scale, 0.02 * scale, steps, dtype=torch.float64, device="cpu")


SCHEDULES: dict[ScheduleName, Callable[[int], Float64[Tensor, " step"]]] = {
    "cosine": cosine_betas,
    "linear": linear_betas,
}


def make_schedule(kind: ScheduleName, steps: int) -> Schedule:
    """The schedule of a row of `SCHEDULES` in T steps."""
    # Where β reaches 1 nothing of the signal is left to divide by.
    kept = torch.cumprod(1 - SCHEDULES[kind](steps).clamp(max=0.999), dim=0)
    kept = torch.cat([kept.new_ones(1), kept])
    return Schedule(kept.sqrt(), (1 - kept).sqrt())


def asked_for(
    target: TargetName,
    clean: Float[Tensor, "batch latent width"],
    eps: Float[Tensor, "batch latent width"],
    alpha: Float[Tensor, "batch 1 1"] | float,
    sigma: Float[Tensor, "batch 1 1"] | float,
) -> Float[Tensor, "batch latent width"]:
    """What the network has to say of α · clean + σ · ε."""
    return {"eps": eps, "x0": clean, "v": alpha * eps - sigma * clean}[target]


def cleaned(
    target: TargetName,
    said: Float[Tensor, "batch latent width"],
    x: Float[Tensor, "batch latent width"],
    alpha: Float[Tensor, "batch 1 1"] | float,
    sigma: Float[Tensor, "batch 1 1"] | float,
) -> Float[Tensor, "batch latent width"]:
    """x̂₀ from what the network says of x; α must not be 0 where it says ε."""
    if target == "eps":
        return (x - sigma * said) / alpha
    return said if target == "x0" else alpha * x - sigma * said


def earlier(
    x: Float[Tensor, "batch latent width"],
    clean: Float[Tensor, "batch latent width"],
    now: Level,
    then: Level,
    eta: float = 0.0,
    z: Float[Tensor, "batch latent width"] | None = None,
) -> Float[Tensor, "batch latent width"]:
    """x at a level with less noise.

    Args:
        clean: x̂₀.
        now, then: Levels of x and of what comes out.
        eta: Share of the DDPM's fresh noise, 0 to 1.
        z: That noise, with unit variance; needed where `eta` is not 0.
    """
    eps = (x - now.alpha * clean) / now.sigma
    fresh = eta * then.sigma / now.sigma * math.sqrt(1 - (now.alpha / then.alpha) ** 2)
    x = then.alpha * clean + math.sqrt(max(0.0, then.sigma**2 - fresh**2)) * eps
    return x if z is None else x + fresh * z


def sample(
    clean_of: Callable[[Tensor, int], Tensor],
    x: Float[Tensor, "batch latent width"],
    schedule: Schedule,
    steps: int,
    eta: float,
    generator: Generator,
) -> Float[Tensor, "batch latent width"]:
    """Clean latents from noise.

    Args:
        clean_of: x̂₀ from x and its time.
        x: Noise with unit variance.
        steps: Steps taken, at most T.
        eta: As in `earlier`.
        generator: Of the fresh noise; on the CPU.

    Raises:
        ValueError: There are no such steps, or no such eta.
    """
    if not 1 <= steps <= schedule.steps or not 0 <= eta <= 1:
        raise ValueError(
            f"sampling takes 1 to {schedule.steps} steps with eta from 0 to 1; they were {steps} "
            f"and {eta}"
        )
    times = torch.linspace(schedule.steps, 0, steps + 1, dtype=torch.float64).round().int().tolist()
    for now, then in pairwise(times):
        z = torch.randn(x.shape, generator=generator).to(x) if eta else None
        x = earlier(x, clean_of(x, now), schedule.level(now), schedule.level(then), eta, z)
    return x
