"""PopT: aggregate over a population without knowing its size or order.

k learned seeds attend to the channels x_c of a patch, and their answers are joined:

    y = norm(W [a_1, …, a_k])        a_i = Σ_c softmax_c(⟨s_i, x_c⟩ / √width) x_c

It is permutation invariant, and what a masked channel holds plays no part, even NaN. Keys and
values are the channels themselves: projections of them would be linear maps that fold into `seeds`
and `join`, at many times the cost. Values are not normalised, since how strongly a channel fires is
what it has to say.

Source: pooling by multi-head attention, Lee et al. 2019 (Set Transformer), arXiv:1810.00825; as a
population module, Chau et al. 2024 (PopT), arXiv:2406.03044.
"""

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from neurofmx.tokenizers import Population

FIRST = 0.1  # size of a token before training


class PopT(nn.Module):
    """Channels of a patch → one token.

    Args:
        width: Features of the token.
        n_seeds: Questions that are asked of the population.
    """

    def __init__(self, width: int, n_seeds: int = 4):
        super().__init__()
        self.seeds = nn.Parameter(torch.empty(n_seeds, width))
        nn.init.normal_(self.seeds, std=width**-0.5)
        self.join = nn.Linear(n_seeds * width, width)
        self.norm = nn.LayerNorm(width)
        nn.init.constant_(self.norm.weight, FIRST)

    def forward(self, population: Population) -> Float[Tensor, "batch token width"]:
        """One token per patch; a window without a valid channel gives the same token always."""
        shown = population.shown()
        pooled = rearrange(shown.weighted(self.attention(shown)), "b t k w -> b t (k w)")
        return self.norm(self.join(pooled))

    def attention(self, population: Population) -> Float[Tensor, "batch token seed channel"]:
        """Weight of each channel in each seed's answer."""
        p, seeds = population, self.seeds / self.seeds.shape[-1] ** 0.5
        by_feature = einsum(seeds, p.mixing, p.gain, "k w, r w, b c w -> b c k r")
        scores = einsum(p.features, by_feature, "b t c r, b c k r -> b t k c")
        scores = scores + einsum(seeds, p.bias, "k w, b c w -> b k c")[:, None]
        shown = p.mask[:, :, None, :]
        # A finite floor, so that a window without channels gives zeros and not NaN.
        floor = torch.finfo(scores.dtype).min
        return scores.masked_fill(~shown, floor).softmax(dim=-1) * shown
