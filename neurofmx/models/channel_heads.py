"""What is told of channels, now and later, and what of a window is compared between signals.

The samples of channel c in a token with features f are

    η_c = W (E f ⊙ g_c),    and k tokens later    η_c(k) = W ((E f ⊙ a_k + b_k) ⊙ g_c),

with g_c the gain by which the tokenizer reads the same channel: what is learnt about a unit serves
both ways. Of a trace η is the mean of a Gaussian, in deviations of the channel; of counts it is
what the logarithm of a Poisson rate has beyond that of the unit's mean rate. W starts at 0, so an
untrained head tells every channel's mean.

Source: readout by unit embedding, Azabou et al. 2023 (POYO), arXiv:2310.16046; Poisson rates by a
logarithmic link, Ye & Pandarinath 2021 (NDT), arXiv:2108.01210; a_k and b_k, Perez et al. 2017
(FiLM), arXiv:1709.07871; projections to the sphere, Chen et al. 2020 (SimCLR), arXiv:2002.05709.
"""

import dataclasses
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurofmx.batches import Cells, SignalBatch
from neurofmx.tokenizers import Tokenizer

SILENT = 1e-3  # spikes per sample: at least what a unit is expected to fire that never fired
BOUND = 10.0  # rates lie between e⁻¹⁰ and e¹⁰ of the unit's mean: no step makes one infinite
ROUNDING = 1e-6  # tokens


class ChannelHead(nn.Module):
    """Features of a token → the samples of each of its cells, by the channel's own embedding.

    Args:
        width: Width of the features.
        tokenizer: Whose cells are told.
    """

    def __init__(self, width: int, tokenizer: Tokenizer):
        super().__init__()
        self.enter = nn.Linear(width, tokenizer.config.width)
        self.readout = nn.Parameter(torch.zeros(tokenizer.cell, tokenizer.config.width))

    def forward(
        self,
        features: Float[Tensor, "batch token width"],
        gain: Float[Tensor, "batch channel inner"],
        rate: Float[Tensor, "batch 1 channel sample"] | None = None,
    ) -> Float[Tensor, "batch token channel sample"]:
        """Means of traces, normalised as the inputs are, or logarithms of rates.

        Args:
            features: Of each token.
            gain: Of each channel of the cells, as the tokenizer's `embeddings` gives it.
            rate: Mean count of a sample, of each channel of the cells; None: they are traces.
        """
        return self._read(self.enter(features), gain, rate)

    def _read(
        self,
        entered: Float[Tensor, "batch token inner"],
        gain: Float[Tensor, "batch channel inner"],
        rate: Float[Tensor, "batch 1 channel sample"] | None,
    ) -> Float[Tensor, "batch token channel sample"]:
        by_sample = einsum(entered, self.readout, "b t w, s w -> b t s w")
        told = einsum(by_sample, gain, "b t s w, b c w -> b t c s")
        if rate is None:
            return told
        return BOUND * torch.tanh(told / BOUND) + rate.clamp(min=SILENT).log()


class ForecastHead(ChannelHead):
    """Causal features of a token → the samples of each channel some tokens later.

    Args:
        width: Width of the features.
        tokenizer: Whose cells are told.
        horizons: How many times ahead are told.
    """

    def __init__(self, width: int, tokenizer: Tokenizer, horizons: int):
        super().__init__(width, tokenizer)
        inner = tokenizer.config.width
        self.horizon_gain = nn.Parameter(1 + 0.1 * torch.randn(horizons, inner))
        self.horizon_bias = nn.Parameter(torch.zeros(horizons, inner))

    def forward(  # type: ignore[override]  # it tells more than one time
        self,
        features: Float[Tensor, "batch token width"],
        gain: Float[Tensor, "batch channel inner"],
        rate: Float[Tensor, "batch 1 channel sample"] | None = None,
    ) -> Float[Tensor, "batch horizon token channel sample"]:
        """Of each horizon, what `ChannelHead` tells, made at each token."""
        entered = self.enter(features)[:, None]
        entered = entered * self.horizon_gain[:, None] + self.horizon_bias[:, None]
        told = self._read(rearrange(entered, "b h t w -> b (h t) w"), gain, rate)
        return rearrange(told, "b (h t) c s -> b h t c s", h=len(self.horizon_gain))


class CodeHead(nn.Module):
    """Features of a token → a logit for each code of each of its cells.

    The book of codes is drawn once and is the same for every model.

    Source: Chiu et al. 2022 (BEST-RQ), arXiv:2202.01855.

    Args:
        width: Width of the features.
        tokenizer: Whose cells are told.
        codes: K, how many there are.
    """

    DIMS = 16  # of the space that samples are projected to
    book: Tensor
    project: Tensor

    def __init__(self, width: int, tokenizer: Tokenizer, codes: int):
        super().__init__()
        inner, g = tokenizer.config.width, torch.Generator().manual_seed(0)
        self.enter = nn.Linear(width, inner)
        self.readout = nn.Parameter(torch.zeros(codes, inner))
        book, project = torch.randn(codes, self.DIMS, generator=g), (tokenizer.cell, self.DIMS)
        self.register_buffer("book", F.normalize(book, dim=1))
        self.register_buffer("project", torch.randn(project, generator=g))

    def forward(
        self,
        features: Float[Tensor, "batch token width"],
        gain: Float[Tensor, "batch channel inner"],
    ) -> Float[Tensor, "batch token channel code"]:
        """Logits."""
        by_code = einsum(self.enter(features), self.readout, "b t w, k w -> b t k w")
        return einsum(by_code, gain, "b t k w, b c w -> b t c k")

    def code(self, cells: Cells) -> Int[Tensor, "batch token channel"]:
        """Which code is nearest to what was seen."""
        return (cells.values.to(self.project) @ self.project @ self.book.T).argmax(-1)


class Projection(nn.Module):
    """Features of a whole window → a point on the unit sphere, the same size for every signal.

    Args:
        width: Width of the features.
        outputs: Dimensions of the space that the sphere is in.
    """

    def __init__(self, width: int, outputs: int = 128):
        super().__init__()
        self.project = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs, bias=False)
        )

    def forward(self, features: Float[Tensor, "batch width"]) -> Float[Tensor, "batch dim"]:
        """Points of length 1."""
        return F.normalize(self.project(features), dim=-1)


def tokens_ahead(horizons: Sequence[float], token: float, duration: float) -> list[int]:
    """Horizons in whole tokens, each once: the nearest later one, within the longest window.

    Args:
        horizons: Times ahead (s).
        token: Duration of a token (s).
        duration: Of the longest window (s).
    """
    ahead = {max(1, math.ceil(horizon / token - ROUNDING)) for horizon in horizons}
    return sorted(k for k in ahead if k < math.ceil(duration / token - ROUNDING))


def counted(tokenizer: Tokenizer, signal: SignalBatch) -> Cells:
    """Cells of counts, which say how the counts were normalised and what a unit fires on average.

    Raises:
        ValueError: The batch does not say so.
    """
    if signal.gain is None or signal.shift is None or signal.rate is None:
        raise ValueError(
            "the model reads this signal as counts, but its SignalBatch does not say how they "
            "were normalised: give gain, shift and rate, as the loader does"
        )
    # What is said of channels goes the way of their samples, as the samples of three tokens.
    patch = tokenizer.config.patch
    said = torch.stack([signal.gain, signal.shift, signal.rate], dim=1)
    values = repeat(said, "b said c -> b (said s) c", s=patch)
    every = values.new_ones(values.shape[:2], dtype=torch.bool)
    laid = tokenizer.cells(dataclasses.replace(signal, values=values, mask=every)).values
    gain, shift, rate = laid.split(1, dim=1)
    return dataclasses.replace(tokenizer.cells(signal), gain=gain, shift=shift, rate=rate)
