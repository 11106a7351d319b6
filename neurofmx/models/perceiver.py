"""Perceiver-IO: a fixed set of latents reads any number of tokens and answers any queries.

    latents ← latents + attend(latents, tokens)      once
    latents ← latents + attend(latents, latents)     n_layers times
    answers ← queries + attend(queries, latents)     for each query (task, time)

Tokens, latents and queries have times. Attention sees time differences by rotating queries and
keys (Su et al. 2021, RoPE, arXiv:2104.09864), with periods in seconds, so that a query at time t
finds the latents about t, whatever the rate of the tokens.

Source: Jaegle et al. 2021, arXiv:2107.14795.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn


def rotate(
    x: Float[Tensor, "batch head token feature"],
    times: Float[Tensor, "batch token"],
    periods: Float[Tensor, " pair"],
) -> Float[Tensor, "batch head token feature"]:
    """Rotate each pair of features by 2π · time / period."""
    angle = 2 * math.pi * times[:, None, :, None] / periods
    a, b = x.chunk(2, dim=-1)
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class CrossAttention(nn.Module):
    """Queries attend to a context of another width; pre-norm, with a feed-forward, residual.

    Args:
        query_dim: Width of queries and answers.
        context_dim: Width of what is attended to.
        n_heads: Heads.
        dropout: On both residual branches.
        periods: Shortest and longest period of the rotation (s).
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
        self.n_heads = n_heads
        self.query_norm, self.context_norm = nn.LayerNorm(query_dim), nn.LayerNorm(context_dim)
        self.to_query = nn.Linear(query_dim, query_dim, bias=False)
        self.to_key_value = nn.Linear(context_dim, 2 * query_dim, bias=False)
        self.out = nn.Linear(query_dim, query_dim)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(query_dim),
            nn.Linear(query_dim, 4 * query_dim),
            nn.GELU(),
            nn.Linear(4 * query_dim, query_dim),
        )
        self.dropout = nn.Dropout(dropout)
        self.periods: Tensor
        pairs = query_dim // n_heads // 2
        shortest, longest = (math.log(p) for p in periods)
        self.register_buffer("periods", torch.exp(torch.linspace(shortest, longest, pairs)))

    def forward(
        self,
        queries: Float[Tensor, "batch query width"],
        context: Float[Tensor, "batch token context_width"],
        mask: Bool[Tensor, "batch token"] | None = None,
        query_times: Float[Tensor, "batch query"] | None = None,
        context_times: Float[Tensor, "batch token"] | None = None,
    ) -> Float[Tensor, "batch query width"]:
        """Answers to the queries.

        Args:
            mask: False for tokens of the context that nobody may see.
            query_times, context_times: Seconds; without them position plays no part.
        """
        split = "b t (h f) -> b h t f"
        q = rearrange(self.to_query(self.query_norm(queries)), split, h=self.n_heads)
        keys_values = self.to_key_value(self.context_norm(context)).chunk(2, dim=-1)
        k, v = (rearrange(x, split, h=self.n_heads) for x in keys_values)
        if query_times is not None and context_times is not None:
            q = rotate(q, query_times, self.periods)
            k = rotate(k, context_times, self.periods)
        seen = None if mask is None else mask[:, None, None, :]
        answer = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        x = queries + self.dropout(self.out(rearrange(answer, "b h t f -> b t (h f)")))
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
        mask: Bool[Tensor, "batch token"] | None = None,
        times: Float[Tensor, "batch token"] | None = None,
    ) -> Float[Tensor, "batch token width"]:
        """The tokens after one round of attention."""
        return super().forward(x, x, mask, times, times)


class PerceiverIO(nn.Module):
    """Tokens → latents → answers: (2, 200, 768) → (2, 128, 512) with 768 inputs.

    Args:
        n_latents: Latents; they lie evenly over the window.
        latent_dim: Their width, which is also that of queries and answers.
        input_dim: Width of the tokens.
        n_layers: Rounds of self-attention among the latents.
        n_heads: Heads of every attention.
        dropout: On every residual branch.
        periods: Shortest and longest period of the rotation (s).
    """

    def __init__(
        self,
        n_latents: int = 128,
        latent_dim: int = 512,
        input_dim: int = 768,
        n_layers: int = 3,
        n_heads: int = 8,
        dropout: float = 0.0,
        periods: tuple[float, float] = (0.1, 100.0),
    ):
        super().__init__()
        self.latents = nn.Parameter(torch.empty(n_latents, latent_dim))
        nn.init.normal_(self.latents, std=0.02)
        shared = (n_heads, dropout, periods)
        self.read = CrossAttention(latent_dim, input_dim, *shared)
        self.layers = nn.ModuleList(SelfAttention(latent_dim, *shared) for _ in range(n_layers))
        self.write = CrossAttention(latent_dim, latent_dim, *shared)

    def forward(
        self,
        tokens: Float[Tensor, "batch token width"],
        mask: Bool[Tensor, "batch token"] | None = None,
        times: Float[Tensor, "batch token"] | None = None,
        duration: float | None = None,
    ) -> Float[Tensor, "batch latent latent_width"]:
        """Latents of each window.

        Args:
            mask: False for tokens that are gaps or padding.
            times: Time of each token from the window's start (s).
            duration: Length of the window (s), over which the latents are spread.
        """
        x = self.latents.expand(len(tokens), -1, -1)
        at = None if duration is None else self.latent_times(len(tokens), duration)
        x = self.read(x, tokens, mask, at, times)
        for layer in self.layers:
            x = layer(x, times=at)
        return x

    def latent_times(self, batch: int, duration: float) -> Float[Tensor, "batch latent"]:
        """Where the latents lie: the middles of equal parts of the window (s)."""
        n = len(self.latents)
        middles = (torch.arange(n, device=self.latents.device) + 0.5) * duration / n
        return middles.expand(batch, -1)

    def answer(
        self,
        latents: Float[Tensor, "batch latent latent_width"],
        queries: Float[Tensor, "batch query latent_width"],
        query_times: Float[Tensor, "batch query"],
        duration: float,
    ) -> Float[Tensor, "batch query latent_width"]:
        """Answers to queries at given times (s)."""
        at = self.latent_times(len(latents), duration)
        return self.write(queries, latents, None, query_times, at)
