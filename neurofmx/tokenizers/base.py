"""What tokenizers share: cut time into patches, describe each channel's patch, pool over channels.

A patch of channel c is described by a few features φ_r, computed alike for every channel, and
enters the population as

    x_c = Σ_r φ_r(c) · (m_r ⊙ g_c) + b_c

with m_r shared and (g_c, b_c) the channel's own embedding (`Units`). Pooling over channels knows
neither their number nor their order, so one model reads recordings with any number of units. Since
x_c is bilinear, a pool never has to hold it: it works on φ, m, g and b (`Population`), which are
smaller by the width of the model.

Source: unit embeddings, Azabou et al. 2023 (POYO), arXiv:2310.16046.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int, Shaped
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from neurofmx.batches import Cells, EventBatch, SignalBatch
from neurofmx.config import Params
from neurofmx.sequence import TokenizedSequence
from neurofmx.tokenizers.units import Units


class Embedded(NamedTuple):
    """What is known of channels.

    Attributes:
        gain, bias: Their embeddings, as `Population` has them.
        mix: How they enter a few mixtures, of tokenizers that read those.
    """

    gain: Float[Tensor, "batch channel width"]
    bias: Float[Tensor, "batch channel width"]
    mix: Float[Tensor, "batch channel source"] | None = None


@dataclass(frozen=True)
class Population:
    """Patches of many channels, before they are pooled.

    Attributes:
        features: φ: what the samples of each channel say.
        mixing: m: how each feature enters the width of the model.
        gain: g: the channel's embedding that scales.
        bias: b: the channel's embedding that is added.
        mask: False for channels that are padding or hidden, in a token or in all.
    """

    features: Float[Tensor, "batch token channel feature"]
    mixing: Float[Tensor, "feature width"]
    gain: Float[Tensor, "batch channel width"]
    bias: Float[Tensor, "batch channel width"]
    mask: Bool[Tensor, "batch _token channel"]

    def weighted(
        self, weight: Float[Tensor, "batch token seed channel"]
    ) -> Float[Tensor, "batch token seed width"]:
        """Σ_c weight_c · x_c, held or not held as x, whichever is smaller."""
        seeds, (channels, features) = weight.shape[2], self.features.shape[2:]
        if channels <= seeds * features:
            return einsum(weight, self.held(), "b t k c, b t c w -> b t k w")
        # Sum over channels first: (b, t, k, r, c) is smaller than (b, t, c, w) by about w / k r.
        # Laid out as it is multiplied, since einsum would copy what is largest here.
        described = rearrange(self.features, "b t c r -> b t 1 r c").contiguous()
        described = rearrange(described * weight[:, :, :, None], "b t k r c -> b (t k r) c")
        mixed = rearrange(described @ self.gain, "b (t k r) w -> b t k r w", k=seeds, r=features)
        biases = einsum(weight, self.bias, "b t k c, b c w -> b t k w")
        return (mixed * self.mixing).sum(3) + biases

    def shown(self) -> "Population":
        """Zeros in place of masked channels: weight 0 does not silence NaN."""
        hidden, never = ~self.mask[..., None], ~self.mask.any(1)[..., None]
        return dataclasses.replace(
            self,
            features=self.features.masked_fill(hidden, 0.0),
            gain=self.gain.masked_fill(never, 0.0),
            bias=self.bias.masked_fill(never, 0.0),
        )

    def held(self) -> Float[Tensor, "batch token channel width"]:
        """x, as the equation above gives it."""
        return (self.features @ self.mixing) * self.gain[:, None] + self.bias[:, None]


class MeanPool(nn.Module):
    """Masked mean over channels: the pooling of a tokenizer that stands alone."""

    def forward(self, population: Population) -> Float[Tensor, "batch token width"]:
        """Mean of x over the channels that the mask keeps; 0 where it keeps none."""
        kept = population.mask.to(population.gain.dtype)
        weight = kept / kept.sum(-1, keepdim=True).clamp(min=1)
        tokens, shown = population.features.shape[1], population.shown()
        return shown.weighted(weight.expand(-1, tokens, -1)[:, :, None])[:, :, 0]


class Tokenizer(nn.Module):
    """Samples of many channels → one token per patch of time.

    Args:
        config: Its settings.
        pool: Aggregates over channels; the model gives its `PopT`.
    """

    class Config(Params):
        """Settings that every tokenizer has.

        Attributes:
            kind: Row of `TOKENIZERS`.
            width: Features of a token.
            patch: Samples per token.
            dt: Duration of a sample (s).
            n_channels: Units that the vocabulary has from the start, ("", 0), ("", 1), …: those of
                an array that comes without ids.
            grid: Shape that the channels have in space, row by row; [] where they have none.
        """

        kind: str = ""
        width: PositiveInt = 768
        patch: PositiveInt = 1
        dt: PositiveFloat = 1.0
        n_channels: NonNegativeInt = 96
        grid: list[PositiveInt] = []

    config: Config
    linear: ClassVar[bool] = False  # whether tokens are linear in what each of many units did

    def __init__(self, config: Config | None = None, pool: nn.Module | None = None):
        super().__init__()
        self.config = config = config or self.Config()
        self.pool = pool or MeanPool()
        self.mixing = nn.Parameter(torch.empty(self.n_features, config.width))
        nn.init.normal_(self.mixing, std=self.n_features**-0.5)
        self.units = Units(config.width, [("", channel) for channel in range(config.n_channels)])

    @property
    def n_features(self) -> int:
        """How many features `describe` gives of a channel in a token."""
        raise NotImplementedError("each tokenizer has its own")

    @property
    def cell(self) -> int:
        """Samples of a cell, which the heads predict."""
        return self.config.patch

    @property
    def apart(self) -> bool:
        """Whether each channel has cells of its own."""
        return True

    @property
    def history(self) -> int:
        """Tokens before its own that `describe` reads to describe one."""
        return 0

    def prepare(self, values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """What an array needs that did not come through the loader, which has prepared its own."""
        return values

    def cells(self, signal: SignalBatch) -> Cells:
        """The samples of each channel in each token's time; the last token is padded."""
        seen = signal.mask[..., None] & signal.channel_mask[:, None]
        values = signal.values.masked_fill(~seen, 0.0)  # a product would keep NaN
        return Cells(*(cut(x, self.config.patch) for x in (values, seen)))

    def describe(
        self, cells: Cells, before: int = 0
    ) -> Float[Tensor, "batch token channel feature"]:
        """φ: what a channel's samples say, whichever channel it is; causal in the tokens.

        Args:
            before: Cells at the start that are read, but not described.
        """
        raise NotImplementedError("each tokenizer has its own")

    def embeddings(self, signal: SignalBatch | EventBatch) -> Embedded:
        """What is known of each channel of the cells, whatever it does."""
        return Embedded(*self.units(signal.channel_ids, signal.regions, signal.positions))

    def tokenize(
        self,
        signal: SignalBatch | EventBatch,
        hidden: Bool[Tensor, "batch _token channel"] | None = None,
    ) -> TokenizedSequence:
        """Tokens of one signal of a batch.

        Args:
            signal: As the loader gives it; anything where a mask is false changes nothing.
            hidden: Cells that no token may know of.
        """
        assert isinstance(signal, SignalBatch), "only spikes are tokenized per event"
        tokens, valid = self.pooled(self.cells(signal), self.embeddings(signal), hidden)
        duration = torch.tensor(self.config.patch * signal.dt, dtype=torch.float64)
        return TokenizedSequence(tokens, signal.t0, duration, valid)

    def pooled(
        self,
        cells: Cells,
        embeddings: Embedded,
        hidden: Bool[Tensor, "batch _token channel"] | None = None,
        before: int = 0,
    ) -> tuple[Float[Tensor, "batch token width"], Bool[Tensor, "batch token"]]:
        """Tokens, and which of them are valid: also those of which every cell is hidden.

        Args:
            embeddings: Of each channel of the cells.
            hidden: As in `tokenize`.
            before: As in `describe`.
        """
        seen = cells.seen[:, before:].any(dim=3)
        shown, valid = seen.any(dim=1, keepdim=True), seen.any(dim=2, keepdim=True)
        if hidden is not None:
            shown = shown & ~hidden
            # Later tokens look back, so it goes before anything is described.
            gone = hidden[..., None]
            values = cells.values.masked_fill(gone, 0.0)
            cells = dataclasses.replace(cells, values=values, seen=cells.seen & ~gone)
        gain, bias, _ = embeddings
        population = Population(self.describe(cells, before), self.mixing, gain, bias, shown)
        tokens = self.pool(population) + self.joint(cells, embeddings, before)
        return tokens * valid, valid[..., 0]

    def joint(
        self, cells: Cells, embeddings: Embedded, before: int = 0
    ) -> Float[Tensor, "batch token width"] | float:
        """What is added for what channels do together; causal in the tokens."""
        return 0.0

    def forward(
        self,
        values: Float[Tensor, "batch time channel"],
        channel_ids: Int[Tensor, "batch channel"] | None = None,
        channel_mask: Bool[Tensor, "batch channel"] | None = None,
        mask: Bool[Tensor, "batch time"] | None = None,
        t0: Float[Tensor, " batch"] | None = None,
    ) -> TokenizedSequence:
        """Tokens of arrays that did not come through the loader.

        Args:
            values: Samples.
            channel_ids: Rows of the vocabulary; without them channels 1, 2, … in order.
            channel_mask: False for channels that are padding.
            mask: False for samples that are gaps or padding.
            t0: Start of each window (s).

        Raises:
            ValueError: There are more channels than rows in the vocabulary.
        """
        (batch, time, channels), device = values.shape, values.device
        every = torch.ones(batch, time, channels, dtype=torch.bool, device=device)
        return self.tokenize(
            SignalBatch(
                values=self.prepare(values),
                t0=torch.zeros(batch, dtype=torch.float64, device=device) if t0 is None else t0,
                dt=self.config.dt,
                mask=every[..., 0] if mask is None else mask,
                channel_ids=self.rows(values, channels) if channel_ids is None else channel_ids,
                channel_mask=every[:, 0] if channel_mask is None else channel_mask,
            )
        )

    def rows(self, array: Shaped[Tensor, "batch ..."], n: int) -> Int[Tensor, "batch channel"]:
        """Rows 1, 2, … for the n channels of an array that comes without ids.

        Raises:
            ValueError: There are more channels than rows in the vocabulary.
        """
        if n > len(self.units):
            raise ValueError(
                f"{n} channels but a vocabulary of {len(self.units)}: give channel_ids, "
                f"or a Config with n_channels={n}"
            )
        return torch.arange(1, n + 1, device=array.device).expand(len(array), -1)


def cut(
    x: Shaped[Tensor, "batch time channel"], size: int
) -> Shaped[Tensor, "batch token channel sample"]:
    """Time in pieces of `size` samples; the last one is padded with zeros."""
    padded = F.pad(x, (0, 0, 0, -x.shape[1] % size))
    return rearrange(padded, "b (t s) c -> b t c s", s=size)
