"""Learning from a stream: new windows as they come, with what was learnt before held on to.

The stream of a recording comes in chunks of time. A chunk is first told, then learnt from, so what
was unexplained of it is of data that the model had never seen. Two things hold on to the old:

    replay    a share of each step's windows is drawn from the recordings before
    EWC       L + λ/2 Σ_i F_i (θ_i − θ*_i)²,   F_i = mean over old windows of (∂L/∂θ_i)²

with θ* the weights that the stream found. F is divided by its mean, so that λ does not depend on
the size of the model. Forgetting is what is more unexplained of the old recordings' valid windows
after the stream than before it.

Source: replay, Rolnick et al. 2019, arXiv:1811.11682; EWC, Kirkpatrick et al. 2017,
arXiv:1612.00796, eq. 3; forgetting, Lopez-Paz & Ranzato 2017, arXiv:1706.08840; told before learnt,
Dawid 1984, doi:10.2307/2981683.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Integer
from numpy import ndarray
from pydantic import Field
from torch import Tensor

from neurofmx.config import Params
from neurofmx.data.collate import Collator
from neurofmx.data.order import random_state, window_seeds
from neurofmx.data.plan import in_order
from neurofmx.data.pool import Windows
from neurofmx.models import NeuroFMX
from neurofmx.objectives import OBJECTIVES
from neurofmx.objectives.draws import Draws
from neurofmx.training.curriculum import Curriculum
from neurofmx.training.engines import EngineParams, LocalEngine
from neurofmx.training.lesson import Lesson
from neurofmx.training.looks import left_unexplained
from neurofmx.training.optim import OptimizerParams

Positions = Integer[ndarray, " window"]


class OnlineParams(Params):
    """How a stream is learnt from.

    Attributes:
        chunk: Time that is learnt from at once (s).
        passes: Times that each chunk is seen.
        batch_size: Windows of a step at most, replayed ones included.
        replay: Share of a step's windows that come from the recordings before.
        ewc: λ.
        fisher: Old windows from which F is estimated.
        optimizer: How weights move; the rate stays the same.
        objectives: Weight of each row of `OBJECTIVES`.
    """

    chunk: float = Field(30.0, gt=0)
    passes: int = Field(4, ge=1)
    batch_size: int = Field(32, ge=2)
    replay: float = Field(0.5, ge=0, lt=1)
    ewc: float = Field(1.0, ge=0)
    fisher: int = Field(64, ge=1)
    optimizer: OptimizerParams = OptimizerParams(lr=3e-3, schedule="constant", warmup=0.0)
    objectives: dict[str, float] = {"decode": 1.0, "masked": 0.1, "forecast": 0.1}


# Whether each way holds on by replay, and whether by EWC.
WAYS: dict[str, tuple[bool, bool]] = {
    "plain": (False, False),
    "replay": (True, False),
    "ewc": (False, True),
    "replay_ewc": (True, True),
}


@dataclass(frozen=True)
class Row:
    """Where a stream stands after a chunk.

    Attributes:
        way: Row of `WAYS`.
        chunk: Its number; 0 is before the first.
        time: End of it in the recording (s).
        windows: That were learnt from.
        told: What was unexplained of it before it was learnt; NaN before the first.
        old: What is unexplained of the valid windows of the recordings before.
        new: What is unexplained of the valid windows of the recording itself.
    """

    way: str
    chunk: int
    time: float
    windows: int
    told: float
    old: float
    new: float


class Stream:
    """A recording that comes as a stream to a model that knows others.

    Args:
        model: Knows the channels of all; it stays as it is.
        shards: Windows.
        old: Recordings that it was trained on.
        new: The recording that comes.
        params: How it is learnt from.
        seed: Of all that is drawn.
    """

    def __init__(
        self,
        model: NeuroFMX,
        shards: Windows,
        old: list[str],
        new: str,
        params: OnlineParams,
        seed: int,
    ):
        self.model, self.params, self.seed = model, params, seed
        self.collate = Collator(shards, model.rows, model.config.signals, tasks=model.tasks)
        self.memory = shards.positions("train", old)
        size = params.batch_size
        self.valid = [in_order(shards, shards.positions("valid", r), size) for r in (old, [new])]
        train = shards.positions("train", [new])
        starts = shards.index["start"].to_numpy()[train]
        order = np.argsort(starts, kind="stable")
        number = ((starts[order] - starts.min()) // params.chunk).astype(int)
        chunks = np.split(train[order], np.flatnonzero(np.diff(number)) + 1)
        stops = shards.index["stop"].to_numpy()
        self.chunks = [(float(stops[chunk].max()), chunk) for chunk in chunks]

    def learn(
        self, way: str, tell: Callable[[Row], None] = lambda row: None
    ) -> tuple[NeuroFMX, list[Row]]:
        """Go through the stream.

        Args:
            way: Row of `WAYS`.
            tell: Called after each chunk.

        Returns:
            The model after it, and where it stood after each chunk.
        """
        replays, holds = WAYS[way]
        model = copy.deepcopy(self.model).requires_grad_(True)
        self.engine = self._engine(model)
        anchor = self._anchor() if holds else None
        rows = [self._row(way, 0, float("nan"), np.empty(0, int), float("nan"))]
        tell(rows[0])
        step = 0
        for number, (time, chunk) in enumerate(self.chunks, start=1):
            told = self._left(in_order_of(chunk, self.params.batch_size))
            for windows in self._steps(chunk, number, self.params.replay if replays else 0.0):
                self._step(step, windows, anchor)
                step += 1
            rows.append(self._row(way, number, time, chunk, told))
            tell(rows[-1])
        return model.eval(), rows

    def _engine(self, model: NeuroFMX) -> LocalEngine:
        weights = self.params.objectives
        self.curriculum = Curriculum([], 1, weights)
        self.curriculum.measure([10**9])
        names = list(model.config.tasks), list(model.config.signals)
        asked = {name: OBJECTIVES[name](*names) for name in self.curriculum.names}
        return LocalEngine(Lesson(model, asked), EngineParams(), self.params.optimizer, 10**9)

    def _steps(self, chunk: Positions, number: int, replay: float) -> Iterator[Positions]:
        """The windows of each step of a chunk: its own in a new order each pass, and old ones."""
        state = random_state(self.seed, number)
        old = round(replay * self.params.batch_size)
        size = self.params.batch_size - old
        for _ in range(self.params.passes):
            order = chunk[state.permutation(len(chunk))]
            for own in np.split(order, range(size, len(order), size)):
                drawn = state.choice(self.memory, old) if old else self.memory[:0]
                yield np.concatenate([own, drawn])

    def _step(self, step: int, windows: Positions, anchor: "Anchor | None") -> None:
        loss = self._loss(step, windows)
        if anchor is not None:
            loss = loss + 0.5 * self.params.ewc * anchor.distance()
        self.engine.backward(loss, last=True)
        self.engine.step(step)

    def _loss(self, step: int, windows: Positions) -> Tensor:
        torch.manual_seed(int(window_seeds(self.seed, step, [0])[0]))
        lesson, device = self.engine.lesson, self.engine.device
        lesson.train()
        seeds = torch.from_numpy(window_seeds(self.seed, step, windows)).to(device)
        lot = self.curriculum.at(0)
        batch = lesson.prepare(self.collate(windows).to(device), Draws(seeds), lot)
        return self.engine.run(batch, lesson.asked(batch, lot), lot, 1.0)[0]

    def _anchor(self) -> "Anchor":
        """The weights as they are, and how much the old recordings hold on to each."""
        own = [p for p in self.engine.lesson.parameters() if p.requires_grad]
        fisher = [torch.zeros_like(p) for p in own]
        chosen = random_state(self.seed).choice(self.memory, self.params.fisher)
        for number, window in enumerate(chosen):
            self.engine.forget()
            self._loss(number, np.array([window])).backward()
            for f, p in zip(fisher, own, strict=True):
                if p.grad is not None:
                    f += p.grad.square() / len(chosen)
        self.engine.forget()
        mean = sum(f.sum() for f in fisher) / sum(f.numel() for f in fisher)
        fisher = [f / mean for f in fisher]
        return Anchor(own, [p.detach().clone() for p in own], fisher)

    def _left(self, steps: list[Positions]) -> float:
        return left_unexplained(self.engine, self.collate, steps)

    def _row(self, way: str, number: int, time: float, chunk: Positions, told: float) -> Row:
        old, new = (self._left(valid) for valid in self.valid)
        return Row(way, number, time, len(chunk), told, old, new)


@dataclass(frozen=True)
class Anchor:
    """Weights that are to stay near what they were."""

    own: Sequence[Tensor]
    then: Sequence[Tensor]
    fisher: Sequence[Tensor]

    def distance(self) -> Tensor:
        """Σ F (θ − θ*)²."""
        parts = zip(self.own, self.then, self.fisher, strict=True)
        return torch.stack([(f * (p - t).square()).sum() for p, t, f in parts]).sum()


def in_order_of(positions: Positions, size: int) -> list[Positions]:
    """Windows as they stand, in batches."""
    return np.split(positions, range(size, len(positions), size))
