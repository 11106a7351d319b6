"""How several losses become one.

    fixed          L = Σ_k w_k L_k
    uncertainty    L = Σ_k w_k (e^{−s_k} L_k + s_k),  s_k = log σ_k² learnt with the model
    gradnorm       L = Σ_k w_k v_k L_k,  v_k such that ‖v_k w_k ∇_f L_k‖ ∝ (how slowly L_k falls)^α

w_k is the weight that is given, and may change from phase to phase. GradNorm takes gradients with
respect to the features f that all losses share, where the paper takes those of the last shared
weights: features are there whatever shards the weights.

Source: Kendall et al. 2018, arXiv:1705.07115, eq. 7 (half of it, which `w` has); Chen et al. 2018
(GradNorm), arXiv:1711.02257, eq. 1 and 2.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurofmx.objectives.ranks import summed_over_ranks

WeightingName = Literal["fixed", "uncertainty", "gradnorm"]


class Fixed(nn.Module):
    """Weights as they are given."""

    def forward(
        self,
        losses: Float[Tensor, " objective"],
        weights: Float[Tensor, " objective"],
        shared: Sequence[Tensor],
        share: float,
    ) -> Float[Tensor, ""]:
        """The loss.

        Args:
            losses: This part's share of each objective's mean over the step.
            weights: As given, of this step.
            shared: The features that all objectives read.
            share: Share of the step that this part is, for what is added once.
        """
        return (losses * weights).sum()

    def learn(
        self, losses: Float[Tensor, " objective"], asked: Float[Tensor, " objective"]
    ) -> None:
        """After a step, with each objective's mean over it and whether it asked anything."""


class Uncertainty(Fixed):
    """Each loss by the noise that it is left with.

    For s no loss is less than `LEAST`: that of a density or a distance may fall below 0, where
    there is no best s and its weight would grow without end.

    Source: Kendall et al. 2018, arXiv:1705.07115.
    """

    LEAST = 0.01

    def __init__(self, n: int):
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(n))

    def forward(
        self,
        losses: Float[Tensor, " objective"],
        weights: Float[Tensor, " objective"],
        shared: Sequence[Tensor],
        share: float,
    ) -> Float[Tensor, ""]:
        """The equation above."""
        s = self.log_variance
        weight, noise = (-s).exp(), losses.detach().clamp(min=self.LEAST * share)
        for_s = (weight - weight.detach()) * noise  # 0, with a gradient
        return (weights * (weight.detach() * losses + for_s + share * s)).sum()


class GradNorm(Fixed):
    """Each loss so that all pull alike, those that fall slowly harder.

    A loss counts as fallen to `LEAST` of its first value at most, as that of a density or a
    distance may fall below 0; one that began there counts as not fallen.

    Source: Chen et al. 2018, arXiv:1711.02257.
    """

    ALPHA, RATE = 1.5, 0.025  # of the paper
    LEAST = 0.1
    values: Tensor
    norms: Tensor
    first: Tensor

    def __init__(self, n: int):
        super().__init__()
        self.register_buffer("values", torch.ones(n))
        self.register_buffer("first", torch.zeros(n))  # loss at the first step that asked it
        self.register_buffer("norms", torch.zeros(n), persistent=False)  # squared, of this step

    def forward(
        self,
        losses: Float[Tensor, " objective"],
        weights: Float[Tensor, " objective"],
        shared: Sequence[Tensor],
        share: float,
    ) -> Float[Tensor, ""]:
        """The equation above; it also takes down how strongly each loss pulls at the features."""
        if self.training and torch.is_grad_enabled():
            for k, loss in enumerate((losses * weights).unbind()):
                pulls = torch.autograd.grad(
                    loss, list(shared), retain_graph=True, allow_unused=True
                )
                self.norms[k] += sum(g.float().square().sum() for g in pulls if g is not None)
        return (losses * weights * self.values).sum()

    @torch.no_grad()
    def learn(
        self, losses: Float[Tensor, " objective"], asked: Float[Tensor, " objective"]
    ) -> None:
        """Move v by the gradient of Σ |‖g_k‖ v_k − target_k|, and keep its mean at 1."""
        pulls = summed_over_ranks(self.norms).sqrt()
        self.norms.zero_()
        live = (asked > 0) & (pulls > 0)
        if live.sum() < 2:
            return
        self.first.copy_(losses.where((self.first == 0) & live, self.first))
        slow = (losses / self.first).where(self.first > 0, 1.0).clamp(min=self.LEAST)[live]
        strength = (pulls * self.values)[live]
        target = strength.mean() * (slow / slow.mean()) ** self.ALPHA
        move = torch.sign(strength - target) * (pulls[live] / pulls[live].mean())
        values = (self.values[live] - self.RATE * move).clamp(min=1e-3)
        self.values[live] = values / values.mean() * self.values[live].mean()


WEIGHTINGS = {"fixed": lambda n: Fixed(), "uncertainty": Uncertainty, "gradnorm": GradNorm}
