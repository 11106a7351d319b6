"""What is read out of the model: behaviour from queries, channels from features.

Source: readout by unit embedding as in POYO, Azabou et al. 2023, arXiv:2310.16046.
"""

from einops import einsum, rearrange
from jaxtyping import Float, Int
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
    """Features of a patch → the samples of each channel, by the channel's own embedding.

    The samples of channel c are  W (features ⊙ g_c) + b, with g_c the embedding by which the
    tokenizer reads the same channel: what is learned about a unit serves both ways.

    Args:
        width: Width of the features.
        tokenizer: Whose channels are predicted.
    """

    def __init__(self, width: int, tokenizer: Tokenizer):
        super().__init__()
        self.enter = nn.Linear(width, tokenizer.config.width)
        self.readout = nn.Parameter(
            tokenizer.gain.weight.new_empty(tokenizer.config.patch, tokenizer.config.width)
        )
        nn.init.normal_(self.readout, std=tokenizer.config.width**-1.0)

    def forward(
        self,
        features: Float[Tensor, "batch token width"],
        channel_ids: Int[Tensor, "batch channel"],
        tokenizer: Tokenizer,
    ) -> Float[Tensor, "batch time channel"]:
        """Predicted samples, normalised as the inputs are."""
        mixed = self.enter(features)
        samples = einsum(mixed, self.readout, "b t w, s w -> b t s w")
        channels = einsum(samples, tokenizer.gain(channel_ids), "b t s w, b c w -> b t s c")
        return rearrange(channels, "b t s c -> b (t s) c")


HEADS: dict[str, type[nn.Module]] = {
    "regression": RegressionHead,
    "classification": ClassificationHead,
    "channels": ChannelHead,
}
