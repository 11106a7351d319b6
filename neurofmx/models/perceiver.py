"""Perceiver-IO: a fixed set of latents reads any number of tokens and answers any queries.

    latents ← latents + attend(latents, tokens)      once
    latents ← latents + attend(latents, latents)     n_layers times
    answers ← queries + attend(queries, latents)     for each query (task, time)

Tokens, latents and queries have times, and attention knows the time between them, so that a query
at time t finds the latents about t, whatever the rate of the tokens.

A window's latents lie at the middles of equal parts of it. In causal mode they lie at (k + 1) ·
spacing for k = 0, 1, 2, …, embedded as row k mod n_latents, and what is at time t sees

    tokens that end in (t − horizon, t]        latents in (t − horizon, t]

so that no answer depends on what comes after its time, and one stream of any length can be
answered as it comes (`PerceiverStream`).

Source: Jaegle et al. 2021, arXiv:2107.14795.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from neurofmx.models.attention import TOLERANCE, CrossAttention, SelfAttention, within


class PerceiverIO(nn.Module):
    """Tokens → latents → answers: (2, 200, 768) → (2, 128, 512) with 768 inputs.

    Args:
        n_latents: Latents that are learned: all that a window has or, in causal mode, that take
            turns.
        latent_dim: Their width, which is also that of queries and answers.
        input_dim: Width of the tokens.
        n_layers: Rounds of self-attention among the latents.
        n_heads: Heads of every attention.
        dropout: On every residual branch.
        periods: Shortest and longest period of the rotation (s).
        causal: Nothing sees what comes after it.
        spacing: Between latents in causal mode (s).
        horizon: How far back everything sees in causal mode (s); None: n_latents · spacing.

    Raises:
        ValueError: Causal mode has no positive spacing and horizon, or another mode has one.
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
        causal: bool = False,
        spacing: float | None = None,
        horizon: float | None = None,
    ):
        super().__init__()
        self.latents = nn.Parameter(torch.empty(n_latents, latent_dim))
        nn.init.normal_(self.latents, std=0.02)
        shared = (n_heads, dropout, periods)
        self.read = CrossAttention(latent_dim, input_dim, *shared)
        self.layers = nn.ModuleList(SelfAttention(latent_dim, *shared) for _ in range(n_layers))
        self.write = CrossAttention(latent_dim, latent_dim, *shared)
        self.causal = causal
        self.spacing, self.horizon = _reach(n_latents, causal, spacing, horizon)

    def forward(
        self,
        tokens: Float[Tensor, "batch token width"],
        mask: Bool[Tensor, "batch token"] | None = None,
        times: Float[Tensor, "batch token"] | None = None,
        duration: float | None = None,
        ends: Float[Tensor, "batch token"] | None = None,
        latent_mask: Bool[Tensor, "batch latent"] | None = None,
    ) -> Float[Tensor, "batch latent latent_width"]:
        """Latents of each window.

        Args:
            mask: False for tokens that are gaps or padding.
            times: Time of each token from the window's start (s).
            duration: Length of the window (s), over which the latents are spread.
            ends: When each token is complete (s); only causal mode needs it.
            latent_mask: False for latents that no other may see.

        Raises:
            ValueError: Causal mode lacks times, ends or duration.
        """
        if self.causal and (times is None or ends is None or duration is None):
            raise ValueError("a causal Perceiver needs times, ends and duration")
        at = None if duration is None else self.latent_times(len(tokens), duration)
        x = self.embedded(len(self.latents) if at is None else at.shape[1])
        x = x.expand(len(tokens), -1, -1)
        x = self.read(x, tokens, self._seen(at, ends, mask), at, times)
        among = self._seen(at, at, latent_mask)
        for layer in self.layers:
            x = layer(x, among, at)
        return x

    def answer(
        self,
        latents: Float[Tensor, "batch latent latent_width"],
        queries: Float[Tensor, "batch query latent_width"],
        query_times: Float[Tensor, "batch query"],
        duration: float,
        latent_mask: Bool[Tensor, "batch latent"] | None = None,
    ) -> Float[Tensor, "batch query latent_width"]:
        """Answers to queries at given times (s).

        Args:
            duration: Of the windows whose latents they are (s).
            latent_mask: False for latents that no query may see.
        """
        at = self.latent_times(len(latents), duration)
        return self.write(
            queries, latents, self._seen(query_times, at, latent_mask), query_times, at
        )

    def latent_times(self, batch: int, duration: float) -> Float[Tensor, "batch latent"]:
        """Where the latents of a window lie (s)."""
        if self.causal:
            n = int((duration + TOLERANCE) / self.spacing)
            at = self._numbers(n).add(1) * self.spacing
        else:
            n = len(self.latents)
            at = self._numbers(n).add(0.5) * duration / n
        return at.expand(batch, -1)

    def embedded(self, n: int) -> Float[Tensor, "latent latent_width"]:
        """The first n latents before they have read anything."""
        return self.latents[self._numbers(n).long() % len(self.latents)]

    def _numbers(self, n: int) -> Float[Tensor, " latent"]:
        return torch.arange(n, dtype=torch.float64, device=self.latents.device)

    def _seen(
        self,
        at: Float[Tensor, "batch query"] | None,
        of: Float[Tensor, "batch token"] | None,
        mask: Bool[Tensor, "batch token"] | None,
    ) -> Bool[Tensor, "batch token"] | Bool[Tensor, "batch query token"] | None:
        """Who may see what: the mask and, in causal mode, no later than it is."""
        if not self.causal:
            return mask
        assert at is not None, "causal mode has refused to go without times"
        assert of is not None, "causal mode has refused to go without ends"
        seen = within(at, of, self.horizon)
        return seen if mask is None else seen & mask[:, None]


def _reach(
    n_latents: int, causal: bool, spacing: float | None, horizon: float | None
) -> tuple[float, float]:
    """Spacing and horizon of causal mode (s); nobody reads them in the other."""
    if not causal:
        if spacing is not None or horizon is not None:
            raise ValueError("spacing and horizon are of causal mode; give causal=True")
        return math.nan, math.nan
    if spacing is None or spacing <= 0:
        raise ValueError(f"a causal Perceiver has a latent every `spacing` s > 0, not {spacing}")
    horizon = n_latents * spacing if horizon is None else horizon
    if horizon <= 0:
        raise ValueError(f"horizon {horizon} s: what a causal Perceiver looks back is positive")
    return spacing, horizon
