"""How far what was told of channels is from what was seen: the deviance of its likelihood.

Twice the log-likelihood that the best possible answer has over the one that was given:

    traces, Gaussian:    (x − η)²                         x in deviations of the channel
    counts, Poisson:     2 (n log(n / λ) − n + λ)         λ = exp η, the expected count

Both are about 1 for one who tells the mean and 0 for one who knows: of the square roots of counts,
whose variance is 1/4, the squared error in deviations is 4 (√n − √λ)², which the Poisson deviance
is to first order. So a unit that hardly fires weighs less than a busy one, as it has less to say.

Traces with artefacts can be held to Huber's loss instead, 2 h (|x − η| − h / 2) beyond h
deviations: its gradient does not grow with an outlier (smooth L1).

Source: McCullagh & Nelder 1989, Generalized Linear Models, section 2.3; Huber 1964,
doi:10.1214/aoms/1177703732.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neurofmx.batches import Cells


def deviance(
    told: Float[Tensor, "batch token channel sample"],
    cells: Cells,
    ahead: int = 0,
    huber: float = math.inf,
) -> Float[Tensor, "batch later channel sample"]:
    """Deviance of each sample.

    Args:
        told: By each token, of the token that lies `ahead` of it: means of traces, logarithms of
            expected counts. What would lie beyond the window is left out.
        cells: What was seen.
        ahead: Tokens.
        huber: Deviations of a trace from which on the loss grows linearly.
    """
    truth = cells.truth[:, ahead:].float()
    told = told[:, : truth.shape[1]].float()
    if cells.rate is not None:
        return 2 * (torch.xlogy(truth, truth) - truth * told - truth + told.exp())
    error = truth - told
    if huber == math.inf:
        return error.square()
    far = 2 * huber * (error.abs() - huber / 2)
    return torch.where(error.abs() <= huber, error.square(), far)


def later(cells: Cells, ahead: int) -> Bool[Tensor, "batch later channel sample"]:
    """What was seen of the tokens that lie `ahead` of one in the window."""
    return cells.seen[:, ahead:]
