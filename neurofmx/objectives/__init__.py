"""What the model is trained for; each objective is a mean over what it may ask."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from neurofmx.objectives.decode import decode
from neurofmx.objectives.forecast import forecast
from neurofmx.objectives.masked import masked

OBJECTIVES: dict[str, Callable[..., Float[Tensor, ""]]] = {
    "decode": decode,
    "masked": masked,
    "forecast": forecast,
}

__all__ = ["OBJECTIVES", "decode", "forecast", "masked"]
