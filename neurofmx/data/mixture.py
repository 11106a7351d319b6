"""Mixtures: several data sets in shares that may change, still a pure function of the place.

An epoch of a mixture has as many windows as the data sets that have a share in it, or up to a run
more. Run i, so many windows in a row, takes its data set by the low-discrepancy sequence
uᵢ = (u₀ + i / φ) mod 1: the one in whose share of [0, 1) uᵢ lies. So any stretch of runs holds each
data set within a few of its share. Each data set goes through an order of its own, and through a
new one when it has come to the end: none of its windows is taken a second time in an epoch before
all have been taken.

Source: Weyl's sequence of the golden ratio, Kuipers & Niederreiter 1974, section 2.3.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Integer, UInt32
from numpy import ndarray
from pydantic import Field, model_validator

from neurofmx.config import Params
from neurofmx.data.order import GOLDEN, random_state, shuffled

BLOCK = 2**20  # slots at a time


class Phase(Params):
    """A part of training with one mixture of data sets and signals.

    Attributes:
        epochs: Its length.
        weights: Share of the windows of each data set, in any unit; those not named get none.
            None: every window exactly once an epoch.
        until: Weights at its end; they change linearly from step to step.
        signals: Input signals that the model is given; windows that have none are left out.
            None: all.
    """

    epochs: int = Field(1, ge=1)
    weights: dict[str, float] | None = None
    until: dict[str, float] | None = None
    signals: list[str] | None = None

    @model_validator(mode="after")
    def _usable(self) -> "Phase":
        if self.until is not None and self.weights is None:
            raise ValueError("`until` says where `weights` change to: give both, or neither")
        for name in ("weights", "until"):
            given = getattr(self, name)
            values = [1.0] if given is None else list(given.values())
            if min(values, default=0.0) < 0 or not 0 < sum(values) < math.inf:
                raise ValueError(f"`{name}` needs finite weights ≥ 0, one of them positive")
        if self.signals == []:
            raise ValueError("`signals` names none: leave it empty (null) to give the model all")
        return self


def shares(weights: dict[str, float], names: Sequence[str]) -> Float[ndarray, " dataset"]:
    """Share of each data set."""
    given = np.array([weights.get(name, 0.0) for name in names])
    return given / given.sum()


def mixed(
    parts: Sequence[Integer[ndarray, " _"]],
    begin: Float[ndarray, " dataset"],
    end: Float[ndarray, " dataset"],
    *entropy: int | str,
    run: int = 1,
) -> UInt32[ndarray, " slot"]:
    """The windows of an epoch, in order.

    Args:
        parts: Positions of the windows of each data set.
        begin, end: Share of each data set at the first slot and after the last.
        entropy: What the order is drawn from.
        run: Windows in a row that are of one data set.
    """
    runs = -(-sum(map(len, parts)) // run)
    chosen = choose(runs, begin, end, *entropy).repeat(run)
    order = np.empty(len(chosen), np.uint32)
    for number, part in enumerate(parts):
        slots = np.flatnonzero(chosen == number)
        if len(slots):
            order[slots] = walk(part, len(slots), *entropy, number)
    return order


def choose(
    slots: int,
    begin: Float[ndarray, " dataset"],
    end: Float[ndarray, " dataset"],
    *entropy: int | str,
) -> Int[ndarray, " slot"]:
    """Data set of each slot."""
    # Divided by its own end, a sum is exactly 1 where only empty shares follow, and u stays below.
    first, last = (np.cumsum(x)[:-1] / np.cumsum(x)[-1] for x in (begin, end))
    offset = random_state(*entropy).randint(0, 2**63, dtype=np.uint64)
    chosen = np.zeros(slots, np.int16)
    for start in range(0, slots, BLOCK):
        index = np.arange(start, min(start + BLOCK, slots), dtype=np.uint64)
        u = ((offset + index * np.uint64(GOLDEN)) >> np.uint64(11)) * 2.0**-53
        for a, b in zip(first, last, strict=True):
            chosen[start : start + BLOCK] += u >= a + (b - a) * (index / slots)
    return chosen


def walk(
    part: Integer[ndarray, " window"], length: int, *entropy: int | str
) -> UInt32[ndarray, " slot"]:
    """So many windows of a data set, each lap in an order of its own."""
    state, laps = random_state(*entropy), -(-length // len(part))
    return np.concatenate([shuffled(part, state) for _ in range(laps)])[:length]
