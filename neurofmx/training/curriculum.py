"""The curriculum: phases are data, and each goes over into the next.

A phase says which windows are drawn, how many of a window's signals are shown at once, and what is
asked. Over its blend, a share of its steps at the beginning, the weights of its objectives grow
from those of the phase before, and a window is drawn to be shown as that phase would have shown it
with a probability that falls from 1 to 0.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from pydantic import Field, model_validator
from torch import Tensor

from neurofmx.batches import Batch
from neurofmx.config import Params
from neurofmx.data.mixture import Phase
from neurofmx.objectives import OBJECTIVES
from neurofmx.objectives.draws import Draws


class CurriculumPhase(Params):
    """A part of training.

    Attributes:
        name: What it is called in logs.
        share: Of the run's epochs, in any unit.
        at_once: Signals of a window that the model is shown, others drawn anew each time; None:
            all that it has. 1 is unimodal training, 2 pairwise.
        objectives: Weight of each row of `OBJECTIVES`; those not named keep their weight of
            `fit.objectives`.
        blend: Share of the phase over which it takes over from the one before.
        weights, until, signals: Which windows are drawn; see `neurofmx.data.mixture.Phase`.
    """

    name: str = "all"
    share: float = Field(1.0, gt=0)
    at_once: int | None = Field(None, ge=1)
    objectives: dict[str, float] = {}
    blend: float = Field(0.0, ge=0, le=1)
    weights: dict[str, float] | None = None
    until: dict[str, float] | None = None
    signals: list[str] | None = None

    @model_validator(mode="after")
    def _usable(self) -> "CurriculumPhase":
        self.windows(1)  # which holds weights, until and signals to their rules
        return self

    def windows(self, epochs: int) -> Phase:
        """As the loader takes it."""
        return Phase(epochs=epochs, weights=self.weights, until=self.until, signals=self.signals)


@dataclass(frozen=True)
class Lot:
    """What holds of one step.

    Attributes:
        phase: Name of the phase.
        objectives: Weight of each.
        at_once: Of the phase, and of the one before.
        old: Probability that a window is shown as the phase before would have.
    """

    phase: str
    objectives: dict[str, float]
    at_once: tuple[int | None, int | None]
    old: float

    @property
    def live(self) -> list[str]:
        """Objectives that the step asks."""
        return [name for name, weight in self.objectives.items() if weight > 0]


class Curriculum:
    """The phases of a run, by step.

    Args:
        phases: In order; none is one of everything.
        epochs: Of the run.
        objectives: Weights where a phase does not name its own.
        weights: Of data sets, where a phase neither weighs them itself nor keeps to some signals.
    """

    def __init__(
        self,
        phases: Sequence[CurriculumPhase],
        epochs: int,
        objectives: dict[str, float],
        weights: dict[str, float] | None = None,
    ):
        given = list(phases) or [CurriculumPhase()]
        if weights is not None:
            own = {"weights": weights}
            given = [p if p.weights or p.signals else p.model_copy(update=own) for p in given]
        self.phases = given
        ends = [0, *itertools.accumulate(phase.share for phase in given)]
        at = [round(epochs * end / ends[-1]) for end in ends]
        # A run of fewer epochs than phases leaves the first ones out.
        self.parts = [
            (phase, stop - start)
            for phase, start, stop in zip(given, at[:-1], at[1:], strict=True)
            if stop > start
        ]
        self.objectives = objectives
        self._ends: list[int] = []

    @property
    def windows(self) -> list[Phase]:
        """As the loader takes them."""
        return [phase.windows(epochs) for phase, epochs in self.parts]

    @property
    def names(self) -> list[str]:
        """Objectives that some phase asks, in the order of the table."""
        asked = {n for phase, _ in self.parts for n, w in self._weights(phase).items() if w > 0}
        return [name for name in OBJECTIVES if name in asked]

    @property
    def named(self) -> list[str]:
        """As `names`, of all phases, also those that so few epochs leave out."""
        weights = [self.objectives, *(phase.objectives for phase in self.phases)]
        return [name for name in OBJECTIVES if any(w.get(name, 0.0) > 0 for w in weights)]

    def measure(self, steps: Sequence[int]) -> None:
        """Take the steps of each phase, which a plan of its windows knows."""
        self._ends = list(itertools.accumulate(steps))

    def at(self, step: int) -> Lot:
        """What holds of a step."""
        number = next(k for k, end in enumerate(self._ends) if step < end)
        begin = self._ends[number - 1] if number else 0
        phase = self.parts[number][0]
        before = self.parts[number - 1][0] if number else phase
        blend = phase.blend * (self._ends[number] - begin)
        done = 1.0 if step - begin >= blend else (step - begin) / blend
        now, then = self._weights(phase), self._weights(before)
        weights = {n: done * now[n] + (1 - done) * then[n] for n in self.names}
        return Lot(phase.name, weights, (phase.at_once, before.at_once), 1 - done)

    def _weights(self, phase: CurriculumPhase) -> dict[str, float]:
        return dict.fromkeys(OBJECTIVES, 0.0) | self.objectives | phase.objectives


def shown(batch: Batch, lot: Lot, draws: Draws) -> Batch:
    """The batch with only so many signals of each window as the phase shows at once."""
    if lot.at_once == (None, None):
        return batch
    here = {name: s.mask.any(1) & s.channel_mask.any(1) for name, s in batch.signals.items()}
    here |= {name: events.channel_mask.any(1) for name, events in batch.events.items()}
    has = torch.stack(list(here.values()), 1)
    most = [has.shape[1] if n is None else n for n in lot.at_once]
    limit = torch.where(draws.uniform("phase") < lot.old, most[1], most[0])
    luck = draws.uniform("shown", has.shape[1]).where(has, 2.0)
    place = luck.argsort(1).argsort(1)
    keep = dict(zip(here, (has & (place < limit[:, None])).unbind(1), strict=True))
    return dataclasses.replace(
        batch,
        signals={name: _kept(signal, keep[name]) for name, signal in batch.signals.items()},
        events={name: _kept(events, keep[name]) for name, events in batch.events.items()},
    )


def _kept(signal: Any, windows: Bool[Tensor, " batch"]) -> Any:
    """A signal with nothing left in the other windows."""
    masks = {n: getattr(signal, n) & windows[:, None] for n in ("mask", "channel_mask")}
    return dataclasses.replace(signal, **masks)
