"""Counts in bins: the population code stays linear."""

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, Shaped
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from neurofmx.batches import Cells, EventBatch, SignalBatch
from neurofmx.tokenizers.base import Embedded, Tokenizer


class BinnedTokenizer(Tokenizer):
    """Binned counts → tokens: (2, 100, 96) → (2, 100, 768) with its defaults.

    What a unit did in a token's bins is described by the bins themselves and, at slower rates, by
    its mean over the last r tokens. Where `units` is more than 1, neighbouring units share a cell
    and one embedding (the mean of theirs), so that fewer cells are pooled; which member did what
    is told by `mixing` alone, and their order counts.

    Source: a linear patch along time, as Dosovitskiy et al. 2020, arXiv:2010.11929, in space;
    patches of units, Ye et al. 2023 (NDT2), doi:10.1101/2023.09.18.558113; square roots of counts,
    Anscombe 1948, doi:10.2307/2332343.
    """

    class Config(Tokenizer.Config):
        """Settings.

        Attributes:
            rates: Tokens over which bins are averaged, the present one included; 1, the bins
                themselves, is always there.
            units: Consecutive units that share a cell.
        """

        kind: Literal["binned"] = "binned"
        dt: PositiveFloat = 0.02
        rates: list[PositiveInt] = [1]
        units: PositiveInt = 1

    config: Config
    linear = True

    @property
    def cell(self) -> int:
        """The bins of each unit of a cell."""
        return self.config.patch * self.config.units

    @property
    def apart(self) -> bool:
        """Whether units do not share cells."""
        return self.config.units == 1

    @property
    def n_features(self) -> int:
        """The bins of a cell, and a mean of each unit for each slower rate."""
        return self.cell + self.config.units * len(self._slower)

    @property
    def _slower(self) -> list[int]:
        return [rate for rate in self.config.rates if rate > 1]

    @property
    def history(self) -> int:
        """Those of the slowest mean."""
        return max([1, *self._slower]) - 1

    def prepare(self, values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Square roots, whose variance does not grow with the mean count."""
        return values.abs().sqrt() * values.sign()

    def cells(self, signal: SignalBatch) -> Cells:
        """The bins of each unit, or group of units, in each token's time."""
        cells = super().cells(signal)
        return Cells(*(self._grouped(x).flatten(-2) for x in (cells.values, cells.seen)))

    def describe(
        self, cells: Cells, before: int = 0
    ) -> Float[Tensor, "batch token channel feature"]:
        """The bins as they are (`mixing` is the linear map of the patch) and slower means."""
        values, means = cells.values.to(self.mixing.dtype), []
        for rate in self._slower:
            total, count = (self._last(x, rate) for x in (values, cells.seen.to(values.dtype)))
            means.append(total / count.clamp(min=1))
        return torch.cat([values, *means], dim=-1)[:, before:]

    def embeddings(self, signal: SignalBatch | EventBatch) -> Embedded:
        """Gain and bias of each cell: the mean of those of its units."""
        gain, bias, _ = super().embeddings(signal)
        kept = self._grouped(signal.channel_mask[..., None].to(gain.dtype))
        share = kept / kept.sum(-2, keepdim=True).clamp(min=1)
        return Embedded(*((self._grouped(x) * share).sum(-2) for x in (gain, bias)))

    def _grouped(
        self, x: Shaped[Tensor, "*batch channel sample"]
    ) -> Shaped[Tensor, "*batch cell unit sample"]:
        padded = F.pad(x, (0, 0, 0, -x.shape[-2] % self.config.units))
        return rearrange(padded, "... (c u) s -> ... c u s", u=self.config.units)

    def _last(
        self, x: Float[Tensor, "batch token channel sample"], rate: int
    ) -> Float[Tensor, "batch token channel unit"]:
        """Sum of each unit over the last `rate` tokens, the present one included."""
        totals = reduce(x, "b t c (u s) -> b t c u", "sum", u=self.config.units)
        return F.pad(totals, (0, 0, 0, 0, rate - 1, 0)).unfold(1, rate, 1).sum(-1)
