"""A causal Transformer over the bins, and the encoder that it shares with `ndt`.

Source: Vaswani et al. 2017, arXiv:1706.03762; normed before each block, Xiong et al. 2020,
arXiv:2002.04745.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from neurofmx.evaluation.baselines import networks
from neurofmx.evaluation.baselines.base import BaselineParams, Prediction, Problem
from neurofmx.evaluation.baselines.sequences import sequences
from neurofmx.evaluation.baselines.supervised import Supervised

HEADS, LAYERS = 4, 2


class Encoder(nn.Module):
    """Self-attention over the bins of a chunk, each with its place.

    Args:
        length: Bins of a chunk at most.
        back, ahead: Bins that a bin sees before and after itself.
    """

    allowed: Bool[Tensor, "time time"]

    def __init__(
        self, channels: int, width: int, dropout: float, length: int, back: int, ahead: int
    ):
        super().__init__()
        self.shown = nn.Sequential(nn.Dropout(dropout / 2), nn.Linear(channels, width))
        self.place = nn.Parameter(0.02 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(
            width, HEADS, 2 * width, dropout, "gelu", batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(width)
        self.blocks = nn.TransformerEncoder(layer, LAYERS, norm, enable_nested_tensor=False)
        later = torch.arange(length) - torch.arange(length)[:, None]
        self.register_buffer("allowed", (later >= -back) & (later <= ahead), persistent=False)

    def forward(
        self, x: Float[Tensor, "batch time channel"], seen: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time width"]:
        """Features of each bin."""
        n = x.shape[1]
        itself = torch.eye(n, dtype=torch.bool, device=x.device)  # so that no softmax is empty
        hidden = ~((self.allowed[:n, :n] & seen[:, None]) | itself)
        states = self.shown(x) + self.place[:n]
        return self.blocks(states, mask=hidden.repeat_interleave(HEADS, dim=0))


class Transformer(nn.Module):
    """A causal encoder and a linear readout of each bin."""

    def __init__(self, channels: int, outputs: int, width: int, dropout: float, length: int):
        super().__init__()
        self.encoder = Encoder(channels, width, dropout, length, length, 0)
        self.readout = nn.Linear(width, outputs)

    def forward(
        self, x: Float[Tensor, "batch time channel"], seen: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time output"]:
        """An answer for each bin, from it and those before it."""
        return self.readout(self.encoder(x, seen))


def transformer(problem: Problem, params: BaselineParams) -> Prediction:
    """A causal Transformer whose width and dropout are chosen on valid."""
    given = params.networks
    data = sequences(problem, given.rate)
    channels, length = data.standardised().shape[1], networks.chunk_length(data, given)

    def make(setting: networks.Setting, splits: tuple[str, ...]) -> Supervised:
        network = Transformer(channels, data.outputs, **setting, length=length)
        network = network.to(torch.get_default_device())
        return Supervised(data, given, splits, network, given.lr / 3, 0.75)

    candidates = [{"width": width, "dropout": dropout} for width, dropout in given.sizes]
    return networks.predict(problem, data, *networks.tuned(data, given, candidates, make))
