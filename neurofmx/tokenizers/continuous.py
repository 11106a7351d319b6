"""Continuous traces: filters over a patch and their power, so that phase and power are seen."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurofmx.tokenizers.base import Tokenizer

N_FILTERS = 16


class LFPTokenizer(Tokenizer):
    """LFP, EEG, EMG and other traces → tokens.

    A patch is described by learned filters (phase, slow potentials) and by log(1 + power) of
    others: a band's power is a square of filtered samples, which no linear map of them gives.

    Source: squared filters as in Schirrmeister et al. 2017 (ShallowConvNet),
    doi:10.1002/hbm.23730.
    """

    def __init__(self, config: Tokenizer.Config, pool: nn.Module | None = None):
        super().__init__(config, pool)
        self.filters = nn.Linear(config.patch, 2 * N_FILTERS)

    @staticmethod
    def n_features(config: Tokenizer.Config) -> int:
        """Two for each filter: itself and a power."""
        return 2 * N_FILTERS

    def describe(
        self, patches: Float[Tensor, "batch token channel sample"]
    ) -> Float[Tensor, "batch token channel feature"]:
        """Filtered samples, and log power of as many other filters."""
        linear, squared = self.filters(patches).chunk(2, dim=-1)
        return torch.cat([linear, torch.log1p(squared**2)], dim=-1)
