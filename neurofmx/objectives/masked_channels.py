"""Masks by what a channel is: its brain region, or how well the model already tells it."""

import zlib
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from neurofmx.batches import Batch, Cells, ModelOutput
from neurofmx.errors import UserError
from neurofmx.objectives.base import Groups
from neurofmx.objectives.deviance import deviance
from neurofmx.objectives.draws import Draws
from neurofmx.objectives.masked import CellMask, Masking, both
from neurofmx.objectives.ranks import summed_over_ranks

SLOTS = 2**16  # of running deviances


class MaskedRegion(Masking):
    """A brain region, told from the others; nothing where a window knows fewer than two.

    Source: inter-region masking, Zhang et al. 2024 (MtM), arXiv:2407.14668.
    """

    name = "masked_region"

    def hide(self, batch: Batch, draws: Draws) -> dict[str, tuple[CellMask, CellMask]]:
        """All channels of one region that the window has, each region alike likely."""
        found = {}
        for name, cells in batch.cells.items():
            inside, _ = self._region(name, cells, draws)
            found[name] = both(inside[:, None].expand(-1, cells.seen.shape[1], -1))
        return found

    def _region(
        self, name: str, cells: Cells, draws: Draws
    ) -> tuple[Bool[Tensor, "batch channel"], Bool[Tensor, "batch channel"]]:
        """Channels inside a region of each window that is drawn, and those in the others."""
        present = cells.seen.any(3).any(1)
        regions = _own(cells.regions, name, self.name)
        known = present & (regions > 0)
        number = int(regions.max()) + 1 if regions.numel() else 1
        has = torch.zeros(len(known), number, dtype=torch.bool, device=known.device)
        has.scatter_(1, regions.where(known, 0), True)
        has[:, 0] = False
        drawn = draws.uniform(f"region {name}", number).where(has, -1.0).argmax(1)
        several = (has.sum(1) > 1)[:, None]
        inside = known & (regions == drawn[:, None]) & several
        return inside, present & ~inside & several


class MaskedInRegion(MaskedRegion):
    """Some channels of a brain region, told from the rest of it: every other region is hidden too.

    Source: intra-region masking, Zhang et al. 2024 (MtM), arXiv:2407.14668.
    """

    class Config(MaskedRegion.Config):
        """Options.

        Attributes:
            share: Of the region's channels, on average.
        """

        share: float = Field(0.3, ge=0, lt=1)

    config: Config
    name = "masked_in_region"

    def hide(self, batch: Batch, draws: Draws) -> dict[str, tuple[CellMask, CellMask]]:
        """Only the region's own are asked for."""
        found = {}
        for name, cells in batch.cells.items():
            inside, outside = self._region(name, cells, draws)
            own = inside & (draws.uniform(f"inside {name}", inside.shape[1]) < self.config.share)
            tokens = cells.seen.shape[1]
            away, wanted = (x[:, None].expand(-1, tokens, -1) for x in (own | outside, own))
            found[name] = (away, wanted)
        return found


class MaskedAdaptive(Masking):
    """Channels, the better the model tells them the more often: what it knows has no more to teach.

    It keeps a running deviance d of each channel and hides it with the odds exp(−d / temperature)
    against the mean over the window's channels.

    Source: masks that follow the loss, Wang et al. 2023 (hard patches mining), arXiv:2304.05919,
    turned round: hidden is what others need no longer be shown.
    """

    class Config(Masking.Config):
        """Options.

        Attributes:
            share: Of the channels, on average.
            temperature: Deviance by which one channel has to be told better than another to be
                hidden e times as often.
            memory: Share of the running deviance that a step keeps.
        """

        share: float = Field(0.3, ge=0, lt=1)
        temperature: float = Field(0.25, gt=0)
        memory: float = Field(0.9, ge=0, lt=1)

    config: Config
    name = "masked_adaptive"

    deviances: Tensor
    fresh: Tensor

    def __init__(
        self,
        tasks: Sequence[str] = (),
        signals: Sequence[str] = (),
        config: Masking.Config | None = None,
    ):
        super().__init__(tasks, signals, config)
        # By a hash of signal and row: of two channels that fall together each takes from the other.
        self.register_buffer("deviances", torch.ones(SLOTS))
        self.register_buffer("fresh", torch.zeros(2, SLOTS), persistent=False)  # sums and numbers

    def hide(self, batch: Batch, draws: Draws) -> dict[str, tuple[CellMask, CellMask]]:
        """A channel with p = share · odds / mean odds, at most 0.9."""
        found = {}
        for name, cells in batch.cells.items():
            present = cells.seen.any(3).any(1)
            log_odds = -self.deviances[self._slots(name, cells)] / self.config.temperature
            # Over their sum, by softmax: exp alone is 0 where all are told badly.
            odds = log_odds.masked_fill(~present, torch.finfo(log_odds.dtype).min).softmax(1)
            mean = 1 / present.sum(1, keepdim=True).clamp(min=1)
            chance = (self.config.share * odds / mean).clamp(max=0.9)
            away = draws.uniform(f"adaptive {name}", present.shape[1]) < chance
            found[name] = both(away[:, None].expand(-1, cells.seen.shape[1], -1))
        return found

    def total(self, output: ModelOutput, batch: Batch) -> Groups:
        """As every masking; in training the deviance of each channel is taken down."""
        if self.training:
            for name in batch.asked.get(self.name, {}):
                cells, wanted = batch.cells[name], self._wanted(name, batch)
                told = output.heads[f"reconstruct.{name}"].detach()
                loss = torch.where(wanted, deviance(told, cells, huber=self.config.huber), 0.0)
                slots = self._slots(name, cells).flatten()
                for row, x in enumerate((loss, wanted)):
                    self.fresh[row].index_add_(0, slots, x.float().sum((1, 3)).flatten())
        return super().total(output, batch)

    def learn(self) -> None:
        """Move the running deviances of the channels that were asked for, over all ranks."""
        total, number = summed_over_ranks(self.fresh)
        memory = self.config.memory
        moved = memory * self.deviances + (1 - memory) * total / number.clamp(min=1)
        self.deviances.copy_(moved.where(number > 0, self.deviances))
        self.fresh.zero_()

    def _slots(self, name: str, cells: Cells) -> Int[Tensor, "batch channel"]:
        return (zlib.crc32(name.encode()) + _own(cells.channel_ids, name, self.name)) % SLOTS


def _own(ids: Int[Tensor, "batch channel"] | None, signal: str, objective: str) -> Tensor:
    """What a signal's cells know of their channels.

    Raises:
        UserError: Several channels share a cell.
    """
    if ids is None:
        raise UserError(
            f"the objective {objective} needs a cell for each channel, but those of {signal!r} are "
            "shared (by tiles of an image, or the option `units`): give it the weight 0, or leave "
            "the signal's channels apart (model.tokenizers)"
        )
    return ids
