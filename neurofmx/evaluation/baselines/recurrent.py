"""A gated recurrent network over the bins.

Source: Cho et al. 2014, arXiv:1406.1078; as a decoder of movement, Glaser et al. 2020,
arXiv:1708.00909.
"""

from itertools import product

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from neurofmx.evaluation.baselines import networks
from neurofmx.evaluation.baselines.base import BaselineParams, Prediction, Problem
from neurofmx.evaluation.baselines.sequences import sequences
from neurofmx.evaluation.baselines.supervised import Supervised


class GRU(nn.Module):
    """Inputs with dropout, a GRU, a linear readout of each bin.

    Args:
        both_ways: A second GRU reads the chunk from its end.
    """

    def __init__(self, channels: int, outputs: int, width: int, dropout: float, both_ways: bool):
        super().__init__()
        self.shown = nn.Dropout(dropout / 2)
        self.gru = nn.GRU(channels, width, batch_first=True, bidirectional=both_ways)
        self.readout = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(width * (1 + both_ways), outputs)
        )

    def forward(
        self, x: Float[Tensor, "batch time channel"], seen: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time output"]:
        """An answer for each bin; the blanks that end a chunk are read as zeros."""
        states, _ = self.gru(self.shown(x))
        return self.readout(states)


def gru(problem: Problem, params: BaselineParams) -> Prediction:
    """A GRU whose width, dropout and directions are chosen on valid."""
    given = params.networks
    data = sequences(problem, given.rate)
    channels = data.standardised().shape[1]

    def make(setting: networks.Setting, splits: tuple[str, ...]) -> Supervised:
        network = GRU(channels, data.outputs, **setting).to(torch.get_default_device())
        best = 0.5 if setting["both_ways"] else 0.75
        return Supervised(data, given, splits, network, given.lr, best)

    candidates = [
        {"width": width, "dropout": dropout, "both_ways": both_ways}
        for (width, dropout), both_ways in product(given.sizes, (False, True))
    ]
    return networks.predict(problem, data, *networks.tuned(data, given, candidates, make))
