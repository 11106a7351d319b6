"""How far what was told of channels is from what was seen: the deviance of its likelihood.

Twice the log-likelihood that the best possible answer has over the one that was given:

    traces, Gaussian:    (x − η)²                         x in deviations of the channel
    counts, Poisson:     2 (n log(n / λ) − n + λ)         λ = exp η, the expected count

Both are about 1 for one who tells the mean and 0 for one who knows: of the square roots of counts,
whose variance is 1/4, the squared error in deviations is 4 (√n − √λ)², which the Poisson deviance
is to first order. So a unit that hardly fires weighs less than a busy one, as it has less to say.

Source: McCullagh & Nelder 1989, Generalized Linear Models, section 2.3.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neurofmx.batches import Cells


def deviance(
    told: Float[Tensor, "batch token channel sample"], cells: Cells, ahead: int = 0
) -> tuple[Float[Tensor, "batch later channel sample"], Bool[Tensor, "batch later channel sample"]]:
    """Deviance of each sample, and which of them were seen.

    Args:
        told: By each token, of the token that lies `ahead` of it: means of traces, logarithms of
            expected counts. What would lie beyond the window is left out.
        cells: What was seen.
        ahead: Tokens.
    """
    seen, truth = cells.seen[:, ahead:], cells.truth[:, ahead:].float()
    told = told[:, : seen.shape[1]].float()
    if cells.rate is None:
        return (truth - told).square(), seen
    return 2 * (torch.xlogy(truth, truth) - truth * told - truth + told.exp()), seen


def means(
    parts: list[tuple[Float[Tensor, ""], Float[Tensor, ""]]], blank: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Mean over signals of (sum, number), each a mean of its own; one with no number is left out.

    Args:
        parts: Of each signal.
        blank: What comes out where nothing is asked.
    """
    if not parts:
        return blank
    sums, numbers = (torch.stack(column) for column in zip(*parts, strict=True))
    return (sums / numbers.clamp(min=1)).sum() / (numbers > 0).sum().clamp(min=1)


def summed(
    loss: Float[Tensor, "*shape"], asked: Bool[Tensor, "*shape"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Sum of a loss over what is asked, and how much that is."""
    return torch.where(asked, loss, 0.0).sum(), asked.sum().to(loss.dtype)
