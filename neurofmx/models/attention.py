"""Attention in time: a query sees the tokens of a context by how long before or after it they are.

Queries and keys are rotated by their times, pair i of their features by the angle 2π t / p_i with
periods p_i in seconds, so that their products know differences of time and nothing else:

    x ← x + W_o Σ_j softmax_j(⟨q, k_j⟩ / √f) v_j        x ← x + feed_forward(x)

Angles are made in float64 and without their whole turns: an hour into a stream they are as exact
as at its start. A query that may see no token gets a sum of nothing, 0.

Source: rotated queries and keys, Su et al. 2021 (RoPE), arXiv:2104.09864.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

TOLERANCE = 1e-6  # s; times are sums of steps, so two that are the same differ by rounding


def rotate(
    x: Float[Tensor, "batch head token feature"], angles: Float[Tensor, "batch token pair"]
) -> Float[Tensor, "batch head token feature"]:
    """Each pair of features (i, i + half) turned by its angle (rad)."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    # In the angles' precision: bfloat16 would be off by 2⁻⁹ of the feature at each of two products.
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)


def attend(
    q: Float[Tensor, "batch head query feature"],
    k: Float[Tensor, "batch head token feature"],
    v: Float[Tensor, "batch head token feature"],
    seen: Bool[Tensor, "batch viewer token"] | None = None,
) -> Float[Tensor, "batch head query feature"]:
    """What each query finds among the tokens that it may see; 0 where it may see none.

    Args:
        seen: By each query, or by one viewer for all of them; None: everything.
    """
    if seen is None:
        return F.scaled_dot_product_attention(q, k, v)
    # A softmax over nothing is NaN in some kernels: the blind see everything, and it is dropped.
    blind = ~seen.any(-1, keepdim=True)[:, None]
    found = F.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None] | blind)
    return found.masked_fill(blind, 0.0)


def within(
    at: Float[Tensor, "batch query"], of: Float[Tensor, "batch token"], horizon: float
) -> Bool[Tensor, "batch query token"]:
    """Whether a token's time is at or before a query's, by less than `horizon` (s)."""
    lag = at[..., None] - of[:, None]
    return (lag >= -TOLERANCE) & (lag < horizon - TOLERANCE)


class CrossAttention(nn.Module):
    """Queries attend to a context of another width; pre-norm, with a feed-forward, residual.

    Args:
        query_dim: Width of queries and answers.
        context_dim: Width of what is attended to.
        n_heads: Heads.
        dropout: On both residual branches.
        periods: Shortest and longest period of the rotation (s).

    Raises:
        ValueError: The heads do not divide the width into pairs.
    """

    def __init__(
        self,
        query_dim: int,
        context_dim: int,
        n_heads: int = 8,
        dropout: float = 0.0,
        periods: tuple[float, float] = (0.1, 100.0),
    ):
        super().__init__()
        if query_dim % (2 * n_heads):
            raise ValueError(
                f"query_dim {query_dim} must be a multiple of 2 · n_heads = {2 * n_heads}"
            )
        self.n_heads, self.periods = n_heads, periods
        self.query_norm, self.context_norm = nn.LayerNorm(query_dim), nn.LayerNorm(context_dim)
        self.to_query = nn.Linear(query_dim, query_dim, bias=False)
        self.to_key_value = nn.Linear(context_dim, 2 * query_dim, bias=False)
        self.out = nn.Linear(query_dim, query_dim, bias=False)  # so that nothing seen adds nothing
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(query_dim),
            nn.Linear(query_dim, 4 * query_dim),
            nn.GELU(),
            nn.Linear(4 * query_dim, query_dim),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        queries: Float[Tensor, "batch query width"],
        context: Float[Tensor, "batch token context_width"],
        mask: Bool[Tensor, "batch token"] | Bool[Tensor, "batch query token"] | None = None,
        query_times: Float[Tensor, "batch query"] | None = None,
        context_times: Float[Tensor, "batch token"] | None = None,
    ) -> Float[Tensor, "batch query width"]:
        """Answers to the queries.

        Args:
            mask: False for tokens of the context that nobody, or that a query, may not see.
            query_times, context_times: Seconds; without them position plays no part.
        """
        seen = mask[:, None] if mask is not None and mask.ndim == 2 else mask
        if seen is not None:  # what a token holds that nobody sees may be NaN, and 0 · NaN is
            context = context.masked_fill(~seen.any(1)[..., None], 0.0)
        angles, context_angles = None, None
        if query_times is not None and context_times is not None:
            angles, context_angles = self.angles(query_times), self.angles(context_times)
        q, (k, v) = self.queries(queries, angles), self.keys_values(context, context_angles)
        return self.answer(queries, attend(q, k, v, seen))

    def angles(self, times: Float[Tensor, "batch token"]) -> Float[Tensor, "batch token pair"]:
        """By how much each pair of features is turned at each time (s), in [0, 2π)."""
        pairs = self.to_query.out_features // self.n_heads // 2
        shortest, longest = (math.log2(period) for period in self.periods)
        periods = torch.logspace(
            shortest, longest, pairs, 2.0, dtype=torch.float64, device=times.device
        )
        return (times[..., None] / periods).remainder(1).mul(2 * math.pi).float()

    def queries(
        self,
        x: Float[Tensor, "batch query width"],
        angles: Float[Tensor, "batch query pair"] | None,
    ) -> Float[Tensor, "batch head query feature"]:
        """What queries ask, turned by their times."""
        q = rearrange(self.to_query(self.query_norm(x)), "b t (h f) -> b h t f", h=self.n_heads)
        return q if angles is None else rotate(q, angles)

    def keys_values(
        self,
        context: Float[Tensor, "batch token context_width"],
        angles: Float[Tensor, "batch token pair"] | None,
    ) -> tuple[
        Float[Tensor, "batch head token feature"], Float[Tensor, "batch head token feature"]
    ]:
        """What tokens are found by, turned by their times, and what they say."""
        both = self.to_key_value(self.context_norm(context))
        k, v = rearrange(both, "b t (two h f) -> two b h t f", two=2, h=self.n_heads)
        return k if angles is None else rotate(k, angles), v

    def answer(
        self,
        x: Float[Tensor, "batch query width"],
        found: Float[Tensor, "batch head query feature"],
    ) -> Float[Tensor, "batch query width"]:
        """Queries with what they have found."""
        x = x + self.dropout(self.out(rearrange(found, "b h t f -> b t (h f)")))
        return x + self.dropout(self.feed_forward(x))


class SelfAttention(CrossAttention):
    """Tokens attend to each other.

    Args:
        dim: Width of the tokens.
        n_heads, dropout, periods: As in `CrossAttention`.
    """

    def __init__(
        self,
        dim: int,
        n_heads: int = 8,
        dropout: float = 0.0,
        periods: tuple[float, float] = (0.1, 100.0),
    ):
        super().__init__(dim, dim, n_heads, dropout, periods)

    def forward(  # type: ignore[override]
        self,
        x: Float[Tensor, "batch token width"],
        mask: Bool[Tensor, "batch token"] | Bool[Tensor, "batch token token"] | None = None,
        times: Float[Tensor, "batch token"] | None = None,
    ) -> Float[Tensor, "batch token width"]:
        """The tokens after one round of attention."""
        return super().forward(x, x, mask, times, times)
