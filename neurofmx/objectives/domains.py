"""Domains: latents that do not tell which recording, animal or species a window comes from.

A classifier c of the domain d reads the mean latents z of a window. With CE its cross-entropy and a
bar over what is held constant, the rows add

    adversarial    CE(c(z̄), d)  and, with no value of its own, the gradient −λ ∇_z CE(c̄(z), d)
    confusion      CE(c(z̄), d) + CE(c̄(z), uniform)
    mmd            MMD²(z | d, z | d′), mean over pairs of domains in the batch

Cross-entropies are divided by log n of n domains: a blind guess leaves 1.

Source: Ganin et al. 2016 (DANN), arXiv:1505.07818; Tzeng et al. 2015, arXiv:1510.02192; Gretton et
al. 2012, A Kernel Two-Sample Test, JMLR 13, eq. 3 (unbiased).
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from neurofmx.batches import Batch, HeadName, ModelOutput
from neurofmx.objectives.base import Groups, Objective
from neurofmx.objectives.contrastive import pairing
from neurofmx.objectives.ranks import everyone

WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the kernels, in median distances


class Adversarial(Objective):
    """The classifier learns to tell domains, and the latents, by its reversed gradient, not to be.

    Its value is the cross-entropy of the classifier: 1 where it can but guess.

    Source: Ganin et al. 2016 (DANN), arXiv:1505.07818, eq. 9.
    """

    class Config(Objective.Config):
        """Options.

        Attributes:
            reversal: λ.
        """

        reversal: float = Field(0.1, gt=0)

    heads: ClassVar[Sequence[HeadName]] = ("domain",)
    config: Config

    @property
    def groups(self) -> list[str]:
        """One."""
        return ["domain"]

    def asked(self, batch: Batch) -> Groups:
        """Windows of a known domain."""
        return {"domain": (_domains(batch) >= 0).sum()}

    def total(self, output: ModelOutput, batch: Batch) -> Groups:
        """Cross-entropies; what goes to the latents cancels in the value."""
        own, through = (_entropy(output, head, batch) for head in ("domain.own", "domain.through"))
        return {"domain": own - self.config.reversal * (through - through.detach())}


class Confusion(Adversarial):
    """The classifier learns to tell domains, and the latents to leave it undecided between all.

    Source: Tzeng et al. 2015, arXiv:1510.02192, eq. 3 and 4.
    """

    class Config(Objective.Config):
        """Options."""

    config: Config  # type: ignore[assignment]  # there is no λ

    def total(self, output: ModelOutput, batch: Batch) -> Groups:
        """Both cross-entropies."""
        known = _domains(batch) >= 0
        logits = output.heads["domain.through"].float()
        undecided = -logits.log_softmax(1).mean(1) / math.log(max(2, logits.shape[1]))
        own = _entropy(output, "domain.own", batch)
        return {"domain": own + undecided.where(known, 0.0).sum()}


class MMD(Objective):
    """Mean over pairs of domains of the squared distance between their distributions of latents.

    With k a mean of Gaussian kernels, whose widths are shares of the median distance. The estimate
    is unbiased, so between alike domains it is 0 on average and may be below it.

    Source: Gretton et al. 2012, JMLR 13, eq. 3; several widths, Li et al. 2015, arXiv:1502.02761.
    """

    @property
    def groups(self) -> list[str]:
        """One."""
        return ["domain"]

    def asked(self, batch: Batch) -> Groups:
        """Windows: each rank's share of the one distance between all."""
        return {"domain": torch.tensor(float(len(batch.windows)))}

    def total(self, output: ModelOutput, batch: Batch) -> Groups:
        """This rank's rows of it, times the windows that it is divided by."""
        own, domains = output.latents.float().mean(1), _domains(batch)
        once = pairing(batch, torch.ones_like(domains, dtype=torch.bool)).every
        distance = mmd(everyone(own), everyone(domains).where(once, -1))
        # Every rank has the whole of it; shares of windows add up to one whole.
        return {"domain": distance * len(own)}


def mmd(
    points: Float[Tensor, "window width"], domains: Int[Tensor, " window"]
) -> Float[Tensor, ""]:
    """Mean over pairs of domains of MMD², of those with two windows or more; 0 without a pair."""
    points, domains = points[domains >= 0], domains[domains >= 0]
    present, numbers = domains.unique(return_counts=True)
    present = present[numbers > 1]
    if len(present) < 2:
        return points.sum() * 0.0
    kernel = _kernel(points)
    within = {}
    for d in present.tolist():
        inside = domains == d
        n = int(inside.sum())
        block = kernel[inside][:, inside]
        within[d] = (block.sum() - block.diagonal().sum()) / (n * (n - 1))
    distances = [
        within[a] + within[b] - 2 * kernel[domains == a][:, domains == b].mean()
        for i, a in enumerate(within)
        for b in list(within)[i + 1 :]
    ]
    return torch.stack(distances).mean()


def _kernel(points: Float[Tensor, "window width"]) -> Float[Tensor, "window window"]:
    norms = points.square().sum(1)
    squared = (norms[:, None] + norms - 2 * points @ points.T).clamp(min=0)
    apart = ~torch.eye(len(points), dtype=torch.bool, device=points.device)
    median = squared.detach()[apart].median().clamp(min=1e-12)
    return torch.stack([(-squared / (2 * w**2 * median)).exp() for w in WIDTHS]).mean(0)


def _entropy(output: ModelOutput, head: str, batch: Batch) -> Float[Tensor, ""]:
    """Sum of cross-entropies over windows of a known domain, as shares of that of guessing."""
    logits = output.heads[head].float()
    loss = F.cross_entropy(logits, _domains(batch), ignore_index=-1, reduction="sum")
    return loss / math.log(max(2, logits.shape[1]))


def _domains(batch: Batch) -> Int[Tensor, " batch"]:
    if batch.domains is None:
        raise ValueError("objectives of domains need Batch.domains, which Fit gives")
    return batch.domains
