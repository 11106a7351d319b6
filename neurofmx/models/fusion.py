"""How the streams of the backbone become one: side by side, summed, or chosen token by token.

    concat      y = W [y^1, …, y^k]
    add         y = Σ_i s_i y^i
    attention   y = Σ_i softmax_i(⟨Q x, y^i⟩ / √width) y^i

with x the token that the streams have read.
"""

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor, nn


class Concat(nn.Module):
    """One linear map of all streams side by side."""

    def __init__(self, width: int, n_streams: int):
        super().__init__()
        self.join = nn.Linear(n_streams * width, width, bias=False)

    def forward(
        self, x: Float[Tensor, "*batch width"], streams: Float[Tensor, "*batch stream width"]
    ) -> Float[Tensor, "*batch width"]:
        """Features of each token."""
        return self.join(streams.flatten(-2))


class Add(nn.Module):
    """The sum of the streams, each with its learned scale."""

    def __init__(self, width: int, n_streams: int):
        super().__init__()
        self.scale = nn.Parameter(torch.full((n_streams,), n_streams**-0.5))

    def forward(
        self, x: Float[Tensor, "*batch width"], streams: Float[Tensor, "*batch stream width"]
    ) -> Float[Tensor, "*batch width"]:
        """Features of each token."""
        return einsum(streams, self.scale, "... k w, k -> ... w")


class Attend(nn.Module):
    """A mean of the streams, weighed by how well each answers the token's query."""

    def __init__(self, width: int, n_streams: int):
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)

    def forward(
        self, x: Float[Tensor, "*batch width"], streams: Float[Tensor, "*batch stream width"]
    ) -> Float[Tensor, "*batch width"]:
        """Features of each token."""
        scores = einsum(self.query(x), streams, "... w, ... k w -> ... k") / x.shape[-1] ** 0.5
        return einsum(scores.softmax(-1), streams, "... k, ... k w -> ... w")


FUSIONS: dict[str, type[nn.Module]] = {"concat": Concat, "add": Add, "attention": Attend}
