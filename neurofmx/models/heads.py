"""What is read out of the model: behaviour from queries, channels from features.

Source: readout by unit embedding as in POYO, Azabou et al. 2023, arXiv:2310.16046.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from neurofmx.models.channel_heads import ChannelHead, CodeHead, ForecastHead, Projection


class DecodeHead(nn.Module):
    """Answers → parameters of the answer's distribution, as the kind's `Likelihood` reads them.

    Parameters are float32 whatever the precision of the model: likelihoods need its digits.

    Args:
        width: Width of the answers.
        params: Numbers that are read out.
    """

    def __init__(self, width: int, params: int):
        super().__init__()
        self.readout = nn.Linear(width, params)

    def forward(
        self, answers: Float[Tensor, "batch query width"]
    ) -> Float[Tensor, "batch query param"]:
        """A linear map."""
        return self.readout(answers).float()


class RegressionHead(DecodeHead):
    """Mean and log variance of each dimension, in units of the target's over the train split.

    The log variance begins at 0, that of the target itself, and is bounded, x → b tanh(x / b), so
    that no early step makes one answer infinitely sure of itself.
    """

    BOUND = 10.0  # deviations between e⁻⁵ and e⁵ of the target's

    def __init__(self, width: int, outputs: int):
        super().__init__(width, 2 * outputs)
        nn.init.zeros_(self.readout.weight[outputs:])
        nn.init.zeros_(self.readout.bias[outputs:])

    def forward(
        self, answers: Float[Tensor, "batch query width"]
    ) -> Float[Tensor, "batch query param"]:
        """Means, then log variances."""
        mean, log_variance = super().forward(answers).chunk(2, dim=-1)
        return torch.cat([mean, self.BOUND * torch.tanh(log_variance / self.BOUND)], dim=-1)


class ClassificationHead(DecodeHead):
    """One logit per class."""

    def __init__(self, width: int, outputs: int):
        super().__init__(width, outputs)


class OrdinalHead(DecodeHead):
    """Logits c_k = g (θ_k − s) of P(y ≤ k): one score s, and thresholds θ that stay in order.

    They begin where all classes are equally likely at s = 0. The gain g is fixed, as θ and s can
    take any scale: it only makes their steps in training longer, for few distances are learnt.

    Source: cumulative link, McCullagh 1980, doi:10.1111/j.2517-6161.1980.tb01109.x; one score for
    all thresholds as in CORAL, Cao et al. 2020, arXiv:1901.07884.
    """

    GAIN = 3.0
    CLOSEST = 1e-3  # between thresholds: a class that never occurs keeps a finite logarithm

    def __init__(self, width: int, outputs: int):
        super().__init__(width, 1)
        even = torch.logit(torch.arange(1, outputs) / outputs) / self.GAIN
        self.first = nn.Parameter(even[:1].clone())
        # The inverse of softplus, log(eˣ − 1).
        self.steps = nn.Parameter(torch.log(torch.expm1(even.diff() - self.CLOSEST)))

    def forward(
        self, answers: Float[Tensor, "batch query width"]
    ) -> Float[Tensor, "batch query param"]:
        """Of all classes but the last, which every value is below or in."""
        steps = F.softplus(self.steps.float()) + self.CLOSEST
        thresholds = torch.cat([self.first.float(), self.first.float() + steps.cumsum(0)])
        return self.GAIN * (thresholds - super().forward(answers))


class CircularHead(DecodeHead):
    """Two numbers per angle, η = κ (cos μ, sin μ): its direction, and in its length how surely."""

    def __init__(self, width: int, outputs: int):
        super().__init__(width, 2 * outputs)


class DomainHead(nn.Module):
    """Mean latents of a window → a logit for each domain.

    Source: the classifier of Ganin et al. 2016 (DANN), arXiv:1505.07818.

    Args:
        width: Of the latents.
        domains: How many.
    """

    def __init__(self, width: int, domains: int):
        super().__init__()
        self.enter, self.readout = nn.Linear(width, width), nn.Linear(width, domains)

    def forward(
        self, latents: Float[Tensor, "batch width"], frozen: bool = False
    ) -> Float[Tensor, "batch domain"]:
        """Logits; of a frozen classifier gradients go to the latents alone."""
        x = latents
        for layer in (self.enter, self.readout):
            weights = (layer.weight, layer.bias)
            x = F.linear(x, *(w.detach() for w in weights) if frozen else weights)
            x = F.relu(x) if layer is self.enter else x
        return x.float()


HEADS: dict[str, type[nn.Module]] = {
    "regression": RegressionHead,
    "classification": ClassificationHead,
    "ordinal": OrdinalHead,
    "circular": CircularHead,
    "channels": ChannelHead,
    "forecast": ForecastHead,
    "contrastive": Projection,
    "codes": CodeHead,
    "domain": DomainHead,
}
