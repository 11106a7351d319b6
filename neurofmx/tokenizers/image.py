"""Pictures in time and volumes: tiles of channels that lie beside each other.

A tubelet is a tile of pixels (or voxels) over the samples of a token. Its samples v are described
by φ = P v with P learned and shared, and enter the population as in every tokenizer,

    x = Σ_r φ_r (m_r ⊙ g) + b

with (g, b) the embedding of the tile's place, which is the same in every recording.

Source: tubelet embedding, Arnab et al. 2021 (ViViT), arXiv:2103.15691; fMRI by region or by
volume patch, as Caro et al. 2023 (BrainLM), doi:10.1101/2023.09.12.557460, and Kim et al. 2023
(SwiFT), arXiv:2307.05916.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int, Shaped
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from neurofmx.batches import Cells, EventBatch, SignalBatch
from neurofmx.sequence import TokenizedSequence
from neurofmx.tokenizers.base import Embedded, Tokenizer, cut
from neurofmx.tokenizers.units import Places

PIXELS, VOXELS = 16, 4  # side of a tile of a picture (as ViT has it) and of a volume


class ImageTokenizer(Tokenizer):
    """Video and fMRI → tokens: one per `patch` frames, pooled over tiles or regions.

    Channels lie on `grid`, row by row. Without a grid each channel is a tile, and has its own row
    of the vocabulary.

    Source: Arnab et al. 2021 (ViViT), arXiv:2103.15691.
    """

    class Config(Tokenizer.Config):
        """Settings.

        Attributes:
            tile: Side of a tile along each axis of the grid; [] takes 16 of a picture and 4 of a
                volume. What a tile has beyond the edge counts as not seen.
            features: Largest number of features that describe a tubelet.
            by: What is pooled: tiles of the grid, or brain regions, each the mean of its channels
                (those of unknown region are one of their own).
        """

        kind: str = "image"
        dt: PositiveFloat = 1 / 30
        tile: list[PositiveInt] = []
        features: PositiveInt = 16
        by: Literal["tile", "region"] = "tile"

        @model_validator(mode="after")
        def _tile_fits(self):
            if self.tile and len(self.tile) != len(self.grid):
                raise ValueError(
                    f"tile {self.tile} has {len(self.tile)} sides, but the grid {self.grid} has "
                    f"{len(self.grid)}: give one of each axis"
                )
            return self

    config: Config

    def __init__(self, config: Config | None = None, pool: nn.Module | None = None):
        super().__init__(config, pool)
        self.project: nn.Module = nn.Identity()
        if self.cell > self.n_features:
            self.project = nn.Linear(self.cell, self.n_features, bias=False)
        if self.config.by == "region":
            self.units = Places(self.config.width, 0)
        elif self.config.grid:
            self.units = Places(self.config.width, math.prod(self._tiles))

    @property
    def n_features(self) -> int:
        """As many as samples, up to `features`."""
        return min(self.cell, self.config.features)

    @property
    def cell(self) -> int:
        """Samples of a tubelet."""
        return self.config.patch * (1 if self.config.by == "region" else math.prod(self._sides))

    @property
    def apart(self) -> bool:
        """Whether pixels are neither in tiles nor in regions."""
        return not self._placed

    @property
    def _placed(self) -> bool:
        """Whether cells have embeddings that all recordings share."""
        return bool(self.config.grid) or self.config.by == "region"

    @property
    def _sides(self) -> list[int]:
        side = VOXELS if len(self.config.grid) > 2 else PIXELS
        return self.config.tile or [min(side, length) for length in self.config.grid]

    @property
    def _tiles(self) -> list[int]:
        return [-(-n // s) for n, s in zip(self.config.grid, self._sides, strict=True)]

    def cells(self, signal: SignalBatch) -> Cells:
        """Tubelets, or means of regions, in each token's time."""
        if self.config.by == "region":
            return self._regions(signal)
        if not self.config.grid:
            return super().cells(signal)
        channels = signal.values.shape[2]
        if channels != math.prod(self.config.grid):
            raise ValueError(
                f"{channels} channels do not lie on a grid of {self.config.grid}; give its shape"
            )
        cells = super().cells(signal)
        return Cells(self._tubelets(cells.values), self._tubelets(cells.seen))

    def _tubelets(
        self, x: Shaped[Tensor, "batch token channel sample"]
    ) -> Shaped[Tensor, "batch token tile pixel"]:
        x = rearrange(x, "b t c s -> b t s c").unflatten(-1, self.config.grid)
        pads = [(0, -n % s) for n, s in zip(self.config.grid, self._sides, strict=True)]
        x = F.pad(x, [p for pad in reversed(pads) for p in pad])  # F.pad begins at the last axis
        for axis, side in enumerate(self._sides):
            x = x.unflatten(3 + 2 * axis, (-1, side))
        # b t s, then for each axis its tiles and the pixels within: tiles first, then samples.
        axes = len(self._sides)
        tiles, within = range(3, 3 + 2 * axes, 2), range(4, 4 + 2 * axes, 2)
        x = x.permute(0, 1, *tiles, 2, *within)
        return x.flatten(2, 1 + axes).flatten(3)

    def _regions(self, signal: SignalBatch) -> Cells:
        if signal.regions is None:
            raise ValueError("cells by region need the region of each channel; choose by: tile")
        member = F.one_hot(signal.regions, len(self.units.region.weight)).to(signal.values)
        member = member * signal.channel_mask[..., None]
        number = member.sum(1)
        there = signal.mask[..., None] & signal.channel_mask[:, None]
        means = signal.values.masked_fill(~there, 0.0) @ member / number.clamp(min=1)[:, None]
        seen = signal.mask[..., None] & (number > 0)[:, None]
        return Cells(cut(means, self.config.patch), cut(seen, self.config.patch))

    def describe(
        self, cells: Cells, before: int = 0
    ) -> Float[Tensor, "batch token channel feature"]:
        """Projections of each tubelet."""
        return self.project(cells.values[:, before:].to(self.mixing.dtype))

    def embeddings(self, signal: SignalBatch | EventBatch) -> Embedded:
        """Gain and bias of each tile's place, of each region, or of each channel."""
        if not self._placed:
            return super().embeddings(signal)
        batch, device = len(signal.channel_ids), signal.channel_ids.device
        if self.config.by == "region":
            regions = torch.arange(len(self.units.region.weight), device=device)
            regions = regions.expand(batch, -1)
            return Embedded(*self.units(torch.zeros_like(regions), regions))
        places = torch.arange(1, len(self.units) + 1, device=device).expand(batch, -1)
        return Embedded(*self.units(places))

    def forward(
        self,
        values: Float[Tensor, "batch time *space"],
        channel_ids: Int[Tensor, "batch channel"] | None = None,
        channel_mask: Bool[Tensor, "batch channel"] | None = None,
        mask: Bool[Tensor, "batch time"] | None = None,
        t0: Float[Tensor, " batch"] | None = None,
    ) -> TokenizedSequence:
        """Tokens of frames that did not come through the loader, in any shape of space."""
        values = values.flatten(2)
        if channel_ids is None and self._placed:  # the ids of channels are not read
            channel_ids = torch.zeros_like(values[:, 0], dtype=torch.long)
        return super().forward(values, channel_ids, channel_mask, mask, t0)
