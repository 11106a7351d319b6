"""What tokenizers share: cut time into patches, describe each channel's patch, pool over channels.

A patch of channel c is described by a few features φ_r, computed alike for every channel, and
enters the population as

    x_c = Σ_r φ_r(c) · (m_r ⊙ g_c) + b_c

with m_r shared and (g_c, b_c) the channel's own embedding, looked up by its row of the
vocabulary. Pooling over channels knows neither their number nor their order, so one model reads
recordings with any number of units. Since x_c is bilinear, a pool never has to hold it: it works
on φ, m, g and b (`Population`), which are smaller by the width of the model.

Source: unit embeddings, Azabou et al. 2023 (POYO), arXiv:2310.16046.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from neurofmx.batches import SignalBatch, TokenizedSequence
from neurofmx.config import Params


@dataclass(frozen=True)
class Population:
    """Patches of many channels, before they are pooled.

    Attributes:
        features: φ: what the samples of each channel say.
        mixing: m: how each feature enters the width of the model.
        gain: g: the channel's embedding that scales.
        bias: b: the channel's embedding that is added.
        mask: False for channels that are padding or hidden.
    """

    features: Float[Tensor, "batch token channel feature"]
    mixing: Float[Tensor, "feature width"]
    gain: Float[Tensor, "batch channel width"]
    bias: Float[Tensor, "batch channel width"]
    mask: Bool[Tensor, "batch channel"]

    def weighted(
        self, weight: Float[Tensor, "batch token seed channel"]
    ) -> Float[Tensor, "batch token seed width"]:
        """Σ_c weight_c · x_c, held or not held as x, whichever is smaller."""
        seeds, (channels, features) = weight.shape[2], self.features.shape[2:]
        if channels <= seeds * features:
            return einsum(weight, self.held(), "b t k c, b t c w -> b t k w")
        # Sum over channels first: (b, t, k, r, c) is smaller than (b, t, c, w) by about w / k r.
        described = rearrange(self.features, "b t c r -> b t 1 r c") * weight[:, :, :, None]
        mixed = einsum(described, self.gain, "b t k r c, b c w -> b t k r w")
        biases = einsum(weight, self.bias, "b t k c, b c w -> b t k w")
        return (mixed * self.mixing).sum(3) + biases

    def held(self) -> Float[Tensor, "batch token channel width"]:
        """x, as the equation above gives it."""
        return (self.features @ self.mixing) * self.gain[:, None] + self.bias[:, None]


class MeanPool(nn.Module):
    """Masked mean over channels: the pooling of a tokenizer that stands alone."""

    def forward(self, population: Population) -> Float[Tensor, "batch token width"]:
        """Mean of x over the channels that the mask keeps; 0 where it keeps none."""
        kept = population.mask.to(population.gain.dtype)
        weight = kept / kept.sum(-1, keepdim=True).clamp(min=1)
        tokens = population.features.shape[1]
        return population.weighted(repeat(weight, "b c -> b t 1 c", t=tokens))[:, :, 0]


class Tokenizer(nn.Module):
    """Samples of many channels → one token per patch of time.

    Args:
        config: Its settings.
        pool: Aggregates over channels; the model gives its `PopT`.
    """

    class Config(Params):
        """Settings that every tokenizer has.

        Attributes:
            width: Features of a token.
            patch: Samples per token.
            n_channels: Rows of the vocabulary, besides row 0 for unknown channels.
        """

        kind: Literal["binned", "continuous"] = "binned"
        width: int = 768
        patch: int = 1
        n_channels: int = 96

    def __init__(self, config: Config, pool: nn.Module | None = None):
        super().__init__()
        self.config = config
        n_features = self.n_features(config)
        self.pool = pool or MeanPool()
        self.mixing = nn.Parameter(torch.empty(n_features, config.width))
        nn.init.normal_(self.mixing, std=n_features**-0.5)
        self.gain = nn.Embedding(config.n_channels + 1, config.width)
        self.bias = nn.Embedding(config.n_channels + 1, config.width)
        self.reset_channels()

    def reset_channels(self) -> None:
        """Draw new embeddings; random gains make the first pooling a random projection."""
        nn.init.normal_(self.gain.weight)
        nn.init.normal_(self.bias.weight, std=0.02)

    @staticmethod
    def n_features(config: Config) -> int:
        """How many features `describe` gives of a channel's patch."""
        raise NotImplementedError("each tokenizer has its own")

    def describe(
        self, patches: Float[Tensor, "batch token channel sample"]
    ) -> Float[Tensor, "batch token channel feature"]:
        """φ: what a channel's samples in a patch say, whichever channel it is."""
        raise NotImplementedError("each tokenizer has its own")

    def forward(
        self,
        values: Float[Tensor, "batch time channel"],
        channel_ids: Int[Tensor, "batch channel"] | None = None,
        channel_mask: Bool[Tensor, "batch channel"] | None = None,
        mask: Bool[Tensor, "batch time"] | None = None,
        t0: Float[Tensor, " batch"] | None = None,
        dt: float = 1.0,
    ) -> TokenizedSequence:
        """Tokens of a batch of windows.

        Args:
            values: Normalised samples; anything where a mask is false changes nothing.
            channel_ids: Rows of the vocabulary; without them channels 1, 2, … in order.
            channel_mask: False for channels that are padding or hidden.
            mask: False for samples that are gaps or padding.
            t0: Start of each window (s).
            dt: Duration of a sample (s).
        """
        batch, time, channels = values.shape
        if channel_ids is None:
            channel_ids = torch.arange(1, channels + 1, device=values.device).expand(batch, -1)
        if channel_mask is None:
            channel_mask = torch.ones(batch, channels, dtype=torch.bool, device=values.device)
        if mask is None:
            mask = torch.ones(batch, time, dtype=torch.bool, device=values.device)
        if t0 is None:
            t0 = torch.zeros(batch, dtype=torch.float64, device=values.device)
        patches, valid = self.patches(values, mask)
        population = Population(
            self.describe(patches),
            self.mixing,
            self.gain(channel_ids),
            self.bias(channel_ids),
            channel_mask,
        )
        tokens = self.pool(population) * valid[..., None]
        duration = torch.tensor(self.config.patch * dt, device=values.device)
        return TokenizedSequence(tokens, t0, duration, valid)

    def tokenize(
        self, signal: SignalBatch, channel_mask: Bool[Tensor, "batch channel"] | None = None
    ) -> TokenizedSequence:
        """Tokens of one signal of a batch; `channel_mask` may hide more than the padding."""
        shown = signal.channel_mask if channel_mask is None else channel_mask
        return self(signal.values, signal.channel_ids, shown, signal.mask, signal.t0, signal.dt)

    def patches(
        self, values: Float[Tensor, "batch time channel"], mask: Bool[Tensor, "batch time"]
    ) -> tuple[Float[Tensor, "batch token channel sample"], Bool[Tensor, "batch token"]]:
        """Samples of each patch, and whether any of them was recorded; the last one is padded."""
        size = self.config.patch
        missing = -values.shape[1] % size
        values = F.pad(values * mask[..., None], (0, 0, 0, missing))
        patches = rearrange(values, "b (t s) c -> b t c s", s=size)
        return patches, reduce(
            F.pad(mask, (0, missing)).float(), "b (t s) -> b t", "max", s=size
        ) > 0
