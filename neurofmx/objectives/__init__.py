"""What the model is trained for; each objective is a mean over what it may ask."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from neurofmx.batches import HeadName
from neurofmx.objectives.contrastive import contrastive
from neurofmx.objectives.decode import decode
from neurofmx.objectives.diffusion import diffusion
from neurofmx.objectives.distill import distill
from neurofmx.objectives.forecast import forecast
from neurofmx.objectives.masked import masked

OBJECTIVES: dict[str, Callable[..., Float[Tensor, ""]]] = {
    "decode": decode,
    "masked": masked,
    "forecast": forecast,
    "contrastive": contrastive,
    "diffusion": diffusion,
    "distill": distill,
}

# The heads of the model that each objective looks at.
LOOKS_AT: dict[str, tuple[HeadName, ...]] = {
    "decode": ("decode",),
    "masked": ("reconstruct",),
    "forecast": ("forecast",),
    "contrastive": ("contrastive",),
    "diffusion": (),  # but at the latents
    "distill": ("decode",),  # and at every other head that the others look at
}

__all__ = [
    "LOOKS_AT",
    "OBJECTIVES",
    "contrastive",
    "decode",
    "diffusion",
    "distill",
    "forecast",
    "masked",
]
