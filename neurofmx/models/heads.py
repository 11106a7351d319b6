"""What is read out of the model: behaviour from queries, channels from features.

Source: readout by unit embedding as in POYO, Azabou et al. 2023, arXiv:2310.16046.
"""

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor, nn

from neurofmx.tokenizers import Tokenizer


class RegressionHead(nn.Module):
    """Answers → values, in units of the target's deviation over the train split."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.readout = nn.Linear(width, outputs)

    def forward(
        self, answers: Float[Tensor, "batch query width"]
    ) -> Float[Tensor, "batch query dim"]:
        """A linear map."""
        return self.readout(answers)


class ClassificationHead(RegressionHead):
    """Answers → one logit per class."""


class ChannelHead(nn.Module):
    """Features of a token → the samples of each of its cells, by the channel's own embedding.

    The samples of channel c are  W (features ⊙ g_c), with g_c the gain by which the tokenizer
    reads the same channel: what is learned about a unit serves both ways.

    Args:
        width: Width of the features.
        tokenizer: Whose cells are predicted.
    """

    def __init__(self, width: int, tokenizer: Tokenizer):
        super().__init__()
        self.enter = nn.Linear(width, tokenizer.config.width)
        self.readout = nn.Parameter(torch.empty(tokenizer.cell, tokenizer.config.width))
        nn.init.normal_(self.readout, std=tokenizer.config.width**-1.0)

    def forward(
        self,
        features: Float[Tensor, "batch token width"],
        gain: Float[Tensor, "batch channel inner"],
    ) -> Float[Tensor, "batch token channel sample"]:
        """Predicted samples, normalised as the inputs are."""
        samples = einsum(self.enter(features), self.readout, "b t w, s w -> b t s w")
        return einsum(samples, gain, "b t s w, b c w -> b t c s")


HEADS: dict[str, type[nn.Module]] = {
    "regression": RegressionHead,
    "classification": ClassificationHead,
    "channels": ChannelHead,
}
