"""What a task says of a window, as numbers on which latents can be conditioned.

Values of a regression are scaled as they are for training, an angle φ is cos φ and sin φ, a class
is a one-hot vector.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from neurofmx.batches import Target
from neurofmx.types import TaskKind


def condition_dim(kind: TaskKind, outputs: int) -> int:
    """Numbers of a condition on a task with so many dimensions, angles or classes."""
    return 2 * outputs if kind == "circular" else outputs


def conditioning(
    kind: TaskKind, values: Float[Tensor, "*query dim"], outputs: int
) -> Float[Tensor, "*query condition"]:
    """Values of a task, as a `Target` holds them, in the form of a condition."""
    if kind == "circular":
        return torch.cat([values.cos(), values.sin()], dim=-1)
    if kind == "regression":
        return values
    return F.one_hot(values[..., 0].long(), outputs).to(values)


def condition_of(
    target: Target, outputs: int
) -> tuple[Float[Tensor, "batch condition"], Bool[Tensor, " batch"]]:
    """Mean condition over the answered queries of each window, and whether there are any.

    Where all of a window is of one class, that is its one-hot vector.
    """
    seen = target.mask[..., None]
    each = conditioning(target.kind, target.values.masked_fill(~seen, 0.0), outputs)
    total = each.masked_fill(~seen, 0.0).sum(dim=1)
    return total / seen.sum(dim=1).clamp(min=1), target.mask.any(dim=1)
