"""Masked modelling: hide some of what was recorded, and tell it from the rest.

What may be hidden is a cell: the samples of a channel in a token's time. The rows differ in which
cells they hide together, and so in what the hidden ones have to be told from:

    masked              channels and times at random: from both
    masked_time         stretches of time, all channels: from before and after
    masked_unit         channels, for the whole window: from the rest of the population
    masked_region       a region, whole: from the other regions
    masked_in_region    all other regions, and some channels of one: from within the region
    masked_forward      all that comes after some time: from the past
    masked_adaptive     channels, the better the model tells them the more often
    encoding            all neural signals: from what the body does and the world shows
    decoding            all signals of body and world: from the neural ones
    crossing            one signal, whole: from the others
    codes               as `masked`, but asked for the code of a cell's samples

Where several are trained, each window is hidden from by one of them, drawn anew each time, so that
one pass serves all. A mean over what is asked has the same expectation as if each had every window.

Source: masked autoencoding, He et al. 2021, arXiv:2111.06377; for populations of neurons, Ye &
Pandarinath 2021 (NDT), arXiv:2108.01210; the patterns of units, regions and time, Zhang et al. 2024
(MtM), arXiv:2407.14668; between modalities, Zhang et al. 2025 (NEDS), arXiv:2504.08201.
"""

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from neurofmx.batches import Batch, HeadName, ModelOutput
from neurofmx.objectives.base import Groups, Objective, summed
from neurofmx.objectives.deviance import deviance
from neurofmx.objectives.draws import Draws

CellMask = Bool[Tensor, "batch token channel"]


class Masking(Objective):
    """Hides cells and asks for them.

    Source: the module's.
    """

    class Config(Objective.Config):
        """Options.

        Attributes:
            huber: Deviations of a trace from which on its loss grows linearly.
        """

        huber: float = Field(math.inf, gt=0)

    heads: ClassVar[Sequence[HeadName]] = ("reconstruct",)
    config: Config
    name: ClassVar[str]

    @abstractmethod
    def hide(self, batch: Batch, draws: Draws) -> dict[str, tuple[CellMask, CellMask]]:
        """Of some signals, the cells that are hidden and those of them that are asked for."""

    def prepare(self, batch: Batch, draws: Draws) -> Batch:
        """Hide from every window."""
        return take_turns({self.name: self}, batch, draws)

    @property
    def groups(self) -> list[str]:
        """A signal each."""
        return list(self.signals)

    def asked(self, batch: Batch) -> Groups:
        """Samples of the cells that are asked for, where something was recorded."""
        return {name: self._wanted(name, batch).sum() for name in batch.asked.get(self.name, {})}

    def total(self, output: ModelOutput, batch: Batch) -> Groups:
        """Their deviances."""
        found = {}
        for name in batch.asked.get(self.name, {}):
            told, cells = output.heads[f"reconstruct.{name}"], batch.cells[name]
            loss = deviance(told, cells, huber=self.config.huber)
            found[name] = summed(loss, self._wanted(name, batch))
        return found

    def _wanted(self, name: str, batch: Batch) -> Bool[Tensor, "batch token channel sample"]:
        return batch.asked[self.name][name][..., None] & batch.cells[name].seen


class Masked(Masking):
    """Channels of a window, whole, and tokens over all channels, both at random.

    Source: He et al. 2021, arXiv:2111.06377; Ye & Pandarinath 2021 (NDT), arXiv:2108.01210.
    """

    class Config(Masking.Config):
        """Options.

        Attributes:
            channels, times: Shares that are hidden.
        """

        channels: float = Field(0.1, ge=0, lt=1)
        times: float = Field(0.1, ge=0, lt=1)

    config: Config
    name = "masked"

    def hide(self, batch: Batch, draws: Draws) -> dict[str, tuple[CellMask, CellMask]]:
        """The same cells are hidden and asked for."""
        found = {}
        for name, cells in batch.cells.items():
            _, tokens, channels, _ = cells.seen.shape
            by_channel = draws.uniform(f"channel {name}", channels) < self.config.channels
            by_time = draws.uniform(f"time {name}", tokens) < self.config.times
            found[name] = both(by_channel[:, None] | by_time[..., None])
        return found


class MaskedTime(Masking):
    """Stretches of time, over all channels; as many as give the share.

    Source: Zhang et al. 2024 (MtM), arXiv:2407.14668; stretches as in Joshi et al. 2020 (SpanBERT),
    arXiv:1907.10529.
    """

    class Config(Masking.Config):
        """Options.

        Attributes:
            share: Of the tokens, on average.
            stretch: Tokens of a stretch.
        """

        share: float = Field(0.3, ge=0, lt=1)
        stretch: int = Field(3, ge=1)

    config: Config
    name = "masked_time"

    def hide(self, batch: Batch, draws: Draws) -> dict[str, tuple[CellMask, CellMask]]:
        """A stretch begins at each place, also before the window, with the same probability."""
        found, span = {}, self.config.stretch
        begins = 1 - (1 - self.config.share) ** (1 / span)  # a token is free of `span` of them
        for name, cells in batch.cells.items():
            _, tokens, channels, _ = cells.seen.shape
            start = draws.uniform(f"stretch {name}", tokens + span - 1) < begins
            away = start.unfold(1, span, 1).any(2)
            found[name] = both(away[..., None].expand(-1, -1, channels))
        return found


class MaskedUnit(Masking):
    """Channels for the whole window: co-smoothing.

    Source: Pei et al. 2021 (NLB), arXiv:2109.04463; Zhang et al. 2024 (MtM), arXiv:2407.14668.
    """

    class Config(Masking.Config):
        """Options.

        Attributes:
            share: Of the channels, on average.
        """

        share: float = Field(0.3, ge=0, lt=1)

    config: Config
    name = "masked_unit"

    def hide(self, batch: Batch, draws: Draws) -> dict[str, tuple[CellMask, CellMask]]:
        """Each channel by itself."""
        found = {}
        for name, cells in batch.cells.items():
            _, tokens, channels, _ = cells.seen.shape
            away = draws.uniform(f"unit {name}", channels) < self.config.share
            found[name] = both(away[:, None].expand(-1, tokens, -1))
        return found


class MaskedForward(Masking):
    """Everything after some time of the window, told from what came before.

    Source: causal masking, Zhang et al. 2024 (MtM), arXiv:2407.14668.
    """

    class Config(Masking.Config):
        """Options.

        Attributes:
            least, most: Share of the window's tokens that is hidden, at its end.
        """

        least: float = Field(0.1, gt=0, lt=1)
        most: float = Field(0.5, gt=0, lt=1)

    config: Config
    name = "masked_forward"

    def hide(self, batch: Batch, draws: Draws) -> dict[str, tuple[CellMask, CellMask]]:
        """From the same share of the window on in all signals, so that none gives it away."""
        least, most = self.config.least, max(self.config.least, self.config.most)
        share, found = least + (most - least) * draws.uniform("from"), {}
        for name, cells in batch.cells.items():
            _, tokens, channels, _ = cells.seen.shape
            valid = cells.seen.flatten(2).any(2)
            length = (valid * torch.arange(1, tokens + 1, device=valid.device)).amax(1)
            place = torch.arange(tokens, device=valid.device)
            away = place >= torch.ceil((1 - share) * length)[:, None]
            found[name] = both(away[..., None].expand(-1, -1, channels))
        return found


def both(away: CellMask) -> tuple[CellMask, CellMask]:
    """Hidden and asked for are the same."""
    return away, away


def take_turns(maskings: Mapping[str, Masking], batch: Batch, draws: Draws) -> Batch:
    """Each window hidden from by one of those that find something in it, drawn from its seed."""
    found = {name: masking.hide(batch, draws) for name, masking in maskings.items()}
    none = torch.zeros_like(draws.seeds, dtype=torch.bool)
    able = torch.stack([_asks(batch, masks, none) for masks in found.values()], 1)
    luck = draws.uniform("turn", len(maskings)).where(able, -1.0)
    turn, hidden, asked = luck.argmax(1), dict(batch.hidden), dict(batch.asked)
    for number, (objective, masks) in enumerate(found.items()):
        own, asked[objective] = ((turn == number) & able[:, number])[:, None, None], {}
        for name, (away, wanted) in masks.items():
            hidden[name] = hidden[name] | (away & own) if name in hidden else away & own
            if name in batch.cells:  # events have no samples to ask for
                asked[objective][name] = wanted & own
    return dataclasses.replace(batch, hidden=hidden, asked=asked)


def _asks(
    batch: Batch, masks: Mapping[str, tuple[CellMask, CellMask]], none: Bool[Tensor, " batch"]
) -> Bool[Tensor, " batch"]:
    """Windows that would be asked about something that was recorded; padding is nothing to tell."""
    cells = {name: wanted for name, (_, wanted) in masks.items() if name in batch.cells}
    told = [(x & batch.cells[n].seen.any(3)).flatten(1).any(1) for n, x in cells.items()]
    return torch.stack([none, *told]).any(0)
