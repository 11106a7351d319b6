"""Forecast: the causal features at a token tell every channel's samples at several later times."""

from jaxtyping import Float
from torch import Tensor

from neurofmx.batches import Batch, Hidden, ModelOutput
from neurofmx.objectives.deviance import deviance, means, summed


def forecast(output: ModelOutput, batch: Batch, hidden: Hidden | None = None) -> Float[Tensor, ""]:
    """Mean deviance of the samples ahead, over horizons and all that was seen, as in `deviance`.

    0 where nothing lies ahead: of a window as long as a token, or one that saw nothing.

    Source: next-step prediction as for tokens, Radford et al. 2018; for neural data, Antoniades
    et al. 2023 (Neuroformer), arXiv:2311.00136.
    """
    parts = []
    for name, horizons in output.horizons.items():
        told, cells = output.heads[f"forecast.{name}"], output.cells[name]
        found = [summed(*deviance(told[:, k], cells, n)) for k, n in enumerate(horizons)]
        total, number = zip(*found, strict=True)
        parts.append((sum(total[1:], start=total[0]), sum(number[1:], start=number[0])))
    return means(parts, output.latents.new_zeros(()))
