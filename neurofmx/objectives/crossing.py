"""Masks of whole signals: what one modality says of another."""

from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from neurofmx.batches import Batch
from neurofmx.objectives.base import present
from neurofmx.objectives.draws import Draws
from neurofmx.objectives.masked import CellMask, Masking, both


class Encoding(Masking):
    """All neural signals of a window that has others too, told from those.

    Source: Zhang et al. 2025 (NEDS), arXiv:2504.08201.
    """

    name = "encoding"
    neural: ClassVar[bool] = True

    def hide(self, batch: Batch, draws: Draws) -> dict[str, tuple[CellMask, CellMask]]:
        """Events are hidden too."""
        here = present(batch)
        kind = {name: name in batch.neural for name in here}
        others = [x for name, x in here.items() if kind[name] != self.neural]
        own = [name for name in here if kind[name] == self.neural]
        if not others or not own:
            return {}
        told = torch.stack(others).any(0)
        return {name: _whole(batch, name, here[name] & told) for name in own}


class Decoding(Encoding):
    """All signals of body and world of a window that has neural ones too, told from those.

    Behaviour that is a task and not an input is asked for by `decode`.

    Source: Zhang et al. 2025 (NEDS), arXiv:2504.08201.
    """

    name = "decoding"
    neural = False


class Crossing(Masking):
    """One signal of a window, whole, told from its others.

    Source: Zhang et al. 2025 (NEDS), arXiv:2504.08201; Mizrahi et al. 2023 (4M), arXiv:2312.06647.
    """

    name = "crossing"

    def hide(self, batch: Batch, draws: Draws) -> dict[str, tuple[CellMask, CellMask]]:
        """Each signal that the window has alike likely; nothing where it has only one."""
        here = present(batch)
        if not here:
            return {}
        has = torch.stack(list(here.values()), 1)
        luck = draws.uniform("crossing", len(here)).where(has, -1.0).argmax(1)
        several = has.sum(1) > 1
        return {
            name: _whole(batch, name, several & (luck == number))
            for number, name in enumerate(here)
        }


def _whole(batch: Batch, name: str, windows: Bool[Tensor, " batch"]) -> tuple[CellMask, CellMask]:
    """A signal hidden from some windows; of events, which have no cells, all units."""
    if name in batch.cells:
        _, tokens, channels, _ = batch.cells[name].seen.shape
        return both(windows[:, None, None].expand(-1, tokens, channels))
    units = batch.events[name].channel_mask.shape[1]
    away = windows[:, None, None].expand(-1, 1, units)
    return away, torch.zeros_like(away)
