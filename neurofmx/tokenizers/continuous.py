"""Continuous traces: filters over a patch and their power, so that phase and power are seen."""

from typing import Literal, cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from neurofmx.batches import Cells, EventBatch, SignalBatch
from neurofmx.sequence import TokenizedSequence
from neurofmx.tokenizers.base import Embedded, Tokenizer
from neurofmx.tokenizers.filters import BANDS, Band, Bands, Pooling, Scales
from neurofmx.tokenizers.spatial import Spatial, mixtures


class LFPTokenizer(Tokenizer):
    """LFP, EEG, ECoG, EMG, calcium, eye, pose and other traces → tokens.

    (2, 64, 1000) → (2, 250, 768) with its defaults. A patch is described by learned filters as
    long as itself (phase, slow potentials), by log(1 + power) of others, by short filters at
    several scales, and by the power of the classical bands up to it: a band's power is a square
    of filtered samples, which no linear map of them gives. What channels do together over the last
    tokens is added to the token (`neurofmx.tokenizers.spatial`).

    Source: squared filters as in Schirrmeister et al. 2017 (ShallowConvNet),
    doi:10.1002/hbm.23730; the others in `neurofmx.tokenizers.filters`.
    """

    class Config(Tokenizer.Config):
        """Settings.

        Attributes:
            filters: Filters as long as a patch that enter as they are; as many enter by power.
            scales: Lengths of the short filters (samples); [] leaves them out.
            scale_filters: Filters of each length.
            pooling: Of a short filter over the token's samples.
            bands: Whose power is among the features; [] leaves it out.
            band_span: Longest window of band power (s).
            sources: Mixtures of the channels whose covariance is described; 0 leaves it out.
            span: Tokens over which it is taken.
        """

        kind: Literal["continuous"] = "continuous"
        patch: PositiveInt = 4
        dt: PositiveFloat = 1e-3
        filters: PositiveInt = 16
        scales: list[PositiveInt] = [3, 5, 7]
        scale_filters: PositiveInt = 2
        pooling: Pooling = "mean"
        bands: list[Band] = list(BANDS)
        band_span: PositiveFloat = 0.5
        sources: NonNegativeInt = 8
        span: PositiveInt = 30

    config: Config

    def __init__(self, config: Config | None = None, pool: nn.Module | None = None):
        super().__init__(config, pool)
        c = self.config
        self.filters = nn.Linear(c.patch, 2 * c.filters)
        self.parts = nn.ModuleDict()
        if c.scales:
            self.parts["scales"] = Scales(c.patch, c.scales, c.scale_filters, c.pooling)
        if c.bands:
            self.parts["bands"] = Bands(c.bands, c.patch, c.dt, c.band_span)
        if c.sources:
            self.spatial = Spatial(c.sources, c.patch, c.dt, c.span)
            self.together = nn.Linear(self.spatial.n_features, c.width)

    @property
    def n_features(self) -> int:
        """Two for each filter, itself and a power; one for each band."""
        c = self.config
        return 2 * (c.filters + c.scale_filters * len(c.scales)) + len(c.bands)

    @property
    def history(self) -> int:
        """As many as the longest filter or window reaches back to."""
        reach = max((cast(int, part.reach) for part in self.parts.values()), default=0)
        tokens = -(-reach // self.config.patch)
        return max(tokens, self.config.span) if self.config.sources else tokens

    def describe(
        self, cells: Cells, before: int = 0
    ) -> Float[Tensor, "batch token channel feature"]:
        """Filtered samples, log powers of as many other filters, scales and bands."""
        values = cells.values[:, before:].to(self.mixing.dtype)
        linear, squared = self.filters(values).chunk(2, dim=-1)
        features = [linear, torch.log1p(squared**2)]
        # They add up many products of samples, so in full precision.
        series = rearrange(cells.values.float(), "b t c s -> (b c) (t s)")
        for part in self.parts.values():
            found = part(series, before).to(self.mixing.dtype)
            features.append(rearrange(found, "(b c) t r -> b t c r", b=len(cells.values)))
        return torch.cat(features, dim=-1)

    def embeddings(self, signal: SignalBatch | EventBatch) -> Embedded:
        """With the mixtures, where their covariance is described."""
        known = super().embeddings(signal)
        if not self.config.sources:
            return known
        mix = mixtures(signal.channel_ids, self.config.sources, signal.regions)
        return known._replace(mix=mix * signal.channel_mask[..., None])

    def joint(
        self, cells: Cells, embeddings: Embedded, before: int = 0
    ) -> Float[Tensor, "batch token width"] | float:
        """A linear map of what channels do together."""
        if embeddings.mix is None:
            return 0.0
        told = self.spatial(cells.values, cells.seen, embeddings.mix, before)
        return self.together(told.to(self.together.weight.dtype))

    def forward(
        self,
        values: Float[Tensor, "batch channel time"],
        channel_ids: Int[Tensor, "batch channel"] | None = None,
        channel_mask: Bool[Tensor, "batch channel"] | None = None,
        mask: Bool[Tensor, "batch time"] | None = None,
        t0: Float[Tensor, " batch"] | None = None,
    ) -> TokenizedSequence:
        """Tokens of arrays that did not come through the loader: channel × time, as is usual."""
        values = rearrange(values, "b c t -> b t c")
        return super().forward(values, channel_ids, channel_mask, mask, t0)
