"""The plan of a run: which windows each step takes, in every epoch, on every rank.

A step is planned whole before it is shared among ranks, so that neither the number of ranks nor
that of workers changes which windows it takes, or how many steps there are.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Integer, UInt32
from numpy import ndarray

from neurofmx.data.mixture import Phase, mixed, shares
from neurofmx.data.order import Packing, random_state, shuffled
from neurofmx.data.pool import Windows, by_dataset, holding
from neurofmx.errors import UserError

Parts = dict[str, Integer[ndarray, " _"]]


@dataclass(frozen=True)
class Epoch:
    """The windows of an epoch in order, and where each of its steps begins."""

    order: UInt32[ndarray, " window"]
    edges: Int[ndarray, " edge"]

    def __len__(self) -> int:
        return len(self.edges) - 1

    def __getitem__(self, step: int) -> UInt32[ndarray, " _"]:
        """Windows of a step, over all ranks."""
        return self.order[self.edges[step] : self.edges[step + 1]]


class Plan:
    """Which windows make up each step of a run: a pure function of its arguments.

    An epoch is planned when it begins, in a tenth of a microsecond per window. How many steps it
    has is known before, but where weights and tokens meet: there all epochs are gone through once.

    Args:
        shards: Where the windows lie.
        positions: Windows to train on, in ascending order.
        seed: Of every order.
        phases: One after the other.
        batch_size: Windows of a step at most, over all ranks.
        tokens_per_step: Instead of it, tokens of a step at most, over all ranks; those of signals
            that a phase leaves out are counted too.
        sets_per_step: Data sets that a step is made of where phases weigh several, as far as it
            can be; a step holds room for every signal of each in all its windows.

    Raises:
        UserError: There is nothing to train on, a window does not fit in a step, or a phase names
            what is not there.
    """

    def __init__(
        self,
        shards: Windows,
        positions: Integer[ndarray, " window"],
        seed: int,
        phases: Sequence[Phase] = (Phase(),),
        batch_size: int | None = None,
        tokens_per_step: int | None = None,
        sets_per_step: int = 1,
    ):
        if (batch_size is None) == (tokens_per_step is None):
            raise ValueError("a plan needs batch_size or tokens_per_step, and not both")
        self.shards, self.index_hash = shards, shards.index_hash
        self.seed, self.phases, self._sets = seed, list(phases), sets_per_step
        self.setting = "batch_size" if tokens_per_step is None else "loader.tokens_per_step"
        self._ends = np.cumsum([phase.epochs for phase in phases])
        parts = by_dataset(shards, positions.astype(np.uint32))
        self._parts = [_taken(shards, phase, parts) for phase in phases]
        self._packings = [_packing(shards, p, batch_size, tokens_per_step) for p in self._parts]
        self._totals: dict[int, int] = {}
        what = [self.index_hash, seed, batch_size, tokens_per_step, sets_per_step, *self.phases]
        digest = hashlib.sha256("|".join(map(str, what)).encode())
        for part in parts.values():
            digest.update(part.data)
        self.hash = digest.hexdigest()

    @property
    def epochs(self) -> int:
        """Epochs of all phases."""
        return int(self._ends[-1])

    def __len__(self) -> int:
        """Steps of all epochs."""
        return sum(map(self.steps, range(self.epochs)))

    def phase(self, epoch: int) -> int:
        """Number of the phase that an epoch belongs to."""
        return int(np.searchsorted(self._ends, epoch, side="right"))

    def steps(self, epoch: int) -> int:
        """Steps of an epoch."""
        return self._packings[self.phase(epoch)].steps(self._total(epoch))

    def epoch(self, epoch: int) -> Epoch:
        """The order of an epoch, cut into steps."""
        order = self._order(epoch)
        return Epoch(order, self._packings[self.phase(epoch)].edges(order))

    def share(
        self, epoch: int, windows: UInt32[ndarray, " _"], rank: int, world: int
    ) -> UInt32[ndarray, " _"]:
        """Those of a step's windows that one rank takes."""
        return windows[self._packings[self.phase(epoch)].deal(windows, world) == rank]

    def check(self, world: int) -> None:
        """See that every step of every epoch has a window for each rank, in whatever order.

        Raises:
            UserError: One may not; says what to set.
        """
        for epoch in sorted(set(map(self._alike, range(self.epochs)))):
            packing, total = self._packings[self.phase(epoch)], self._total(epoch)
            windows = sum(map(len, self._parts[self.phase(epoch)].values()))
            if windows < world:
                raise UserError(f"{windows} windows are too few for {world} ranks: start fewer")
            if not packing.suffices(total, world):
                raise UserError(
                    f"{self.setting} is {packing.budget * packing.unit}, with which a step may "
                    f"have fewer windows than there are ranks ({world}): set it to at least "
                    f"{packing.least(total, world) * packing.unit}, or start fewer ranks"
                )

    def _alike(self, epoch: int) -> int:
        """The first epoch that has the same windows as this one, in another order."""
        number = self.phase(epoch)
        same = self.phases[number].weights is None or self._packings[number].tokens is None
        return int(self._ends[number]) - self.phases[number].epochs if same else epoch

    def _total(self, epoch: int) -> int:
        """Weight of an epoch's windows."""
        epoch, number = self._alike(epoch), self.phase(epoch)
        if epoch not in self._totals:
            whole = self.phases[number].weights is None
            windows = self._parts[number].values() if whole else [self._order(epoch)]
            self._totals[epoch] = sum(map(self._packings[number].total, windows))
        return self._totals[epoch]

    def _order(self, epoch: int) -> UInt32[ndarray, " window"]:
        number = self.phase(epoch)
        phase, parts = self.phases[number], self._parts[number]
        windows, entropy = list(parts.values()), (self.seed, epoch, self.index_hash)
        if phase.weights is None:
            # Of millions a copy that is not needed would be felt.
            whole = windows[0] if len(windows) == 1 else np.concatenate(windows)
            return shuffled(whole, random_state(*entropy))
        begin = shares(phase.weights, list(parts))
        end = shares(phase.until or phase.weights, list(parts))
        done = epoch - (int(self._ends[number]) - phase.epochs)
        at = [begin + (end - begin) * k / phase.epochs for k in (done, done + 1)]
        return mixed(windows, *at, *entropy, run=self._in_a_row(number))

    def _in_a_row(self, number: int) -> int:
        """Windows of one data set that follow each other in a phase."""
        if len(self._parts[number]) == 1:
            return 1
        packing = self._packings[number]
        return max(1, packing.budget // packing.largest // self._sets)


def in_order(
    shards: Windows,
    positions: Integer[ndarray, " window"],
    batch_size: int | None = None,
    tokens_per_step: int | None = None,
) -> list[Integer[ndarray, " _"]]:
    """The windows of each step where they are taken as they stand: to look at, not to train on."""
    if len(positions) == 0:
        return []
    packing = _packing(shards, {"": positions}, batch_size, tokens_per_step)
    return np.split(positions, packing.edges(positions)[1:-1])


def _taken(shards: Windows, phase: Phase, parts: Parts) -> Parts:
    """The windows that a phase takes, of each data set that has a share in it."""
    _known("data sets", {*(phase.weights or ()), *(phase.until or ())}, parts)
    _known("signals", phase.signals or (), shards.signals)
    if phase.weights is not None:
        given = [phase.weights, phase.until or {}]
        parts = {n: p for n, p in parts.items() if any(w.get(n, 0.0) > 0 for w in given)}
    if phase.signals is not None:
        has = holding(shards, phase.signals)
        parts = {name: part[has[part]] for name, part in parts.items()}
    empty = [name for name, part in parts.items() if len(part) == 0]
    if empty and (phase.weights is not None or len(empty) == len(parts)):
        of = f" that holds one of {', '.join(phase.signals)}" if phase.signals else ""
        raise UserError(f"{', '.join(empty)} has no window to train on{of}")
    return parts


def _known(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise UserError(
            f"phases name {what} that are not there: {', '.join(unknown)}; choose from "
            f"{', '.join(known)}"
        )


def _packing(
    shards: Windows, parts: Parts, batch_size: int | None, tokens_per_step: int | None
) -> Packing:
    """Windows that all have as many tokens are counted, which fills steps to the brim."""
    if batch_size is not None:
        return Packing(batch_size)
    assert tokens_per_step is not None, "one of the two is given"
    windows = np.concatenate(list(parts.values()))
    tokens = shards.tokens[windows]
    largest, least = int(tokens.max()), int(tokens.min())
    if largest > tokens_per_step:
        key = shards.keys([int(windows[tokens.argmax()])])[0]
        raise UserError(
            f"loader.tokens_per_step is {tokens_per_step}, but window {key!r} alone has {largest} "
            f"tokens: set it to at least {2 * largest}, or cut shorter windows in the card"
        )
    if largest == least:
        return Packing(tokens_per_step // largest, unit=largest)
    return Packing(tokens_per_step, largest, shards.tokens)
