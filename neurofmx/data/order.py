"""Order and packing: which windows make up a step, a pure function of what it is given.

An epoch's windows lie in shuffled order, one behind the other, each as long as its weight wᵢ: 1, or
its tokens. With T = Σ wᵢ and S steps, step k takes the windows that begin in [k, k + 1) · T / S. So
every window is taken once and steps weigh nearly the same: with m the largest weight, at least
⌊T/S⌋ − m + 1 and at most ⌈T/S⌉ + m − 1. S is the least number that keeps the latter within the
budget whatever the order, so that epochs of the same windows have the same number of steps.

`RandomState` draws, since its stream never changes between versions of numpy (NEP 19).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, Int32, Integer, UInt32
from numpy import ndarray

GOLDEN = 0x9E3779B97F4A7C15  # 2⁶⁴ / φ, odd


def random_state(*entropy: int | str) -> np.random.RandomState:
    """A stream of random numbers for these numbers and hexadecimal hashes."""
    words: list[int] = []
    for part in entropy:
        number = int(part, 16) if isinstance(part, str) else part
        size = max(1, -(-number.bit_length() // 32))
        # The length goes first, so that no two lists of entropy give the same words.
        words += [size, *((number >> 32 * k) & 0xFFFFFFFF for k in range(size))]
    return np.random.RandomState(np.array(words, np.uint32))


def shuffled(
    positions: Integer[ndarray, " window"], state: np.random.RandomState
) -> UInt32[ndarray, " window"]:
    """The positions, each below 2³², in an order drawn from `state`.

    They are sorted by random keys of 32 bits, which takes a fraction of what moving them about in
    memory one by one does. Of n keys about n² / 2³³ pairs are equal, and stay in ascending order.
    """
    words = state.randint(2**32, size=len(positions), dtype=np.uint64)
    words <<= np.uint64(32)
    words |= positions.astype(np.uint32, copy=False)
    words.sort()  # no two are equal, so every way of sorting gives the same
    return words.astype(np.uint32)  # the lower half


@dataclass(frozen=True)
class Packing:
    """How windows in their order are cut into steps, and a step is shared among ranks.

    Attributes:
        budget: What a step may weigh.
        largest: Weight of the heaviest window.
        tokens: Weight of each window by position; None: each weighs 1.
        unit: What a weight of 1 stands for, in what the user's budget is given in.
    """

    budget: int
    largest: int = 1
    tokens: Int32[ndarray, " _"] | None = None
    unit: int = 1

    def weights(self, windows: Integer[ndarray, " window"]) -> Int32[ndarray, " window"]:
        """Weight of each window."""
        return np.ones(len(windows), np.int32) if self.tokens is None else self.tokens[windows]

    def total(self, windows: Integer[ndarray, " window"]) -> int:
        """Weight of all windows."""
        return len(windows) if self.tokens is None else int(self.weights(windows).sum(dtype=int))

    def steps(self, total: int) -> int:
        """Steps for windows that weigh `total`."""
        assert self.largest <= self.budget, "a Plan refuses it"
        return 1 if total <= self.budget else -(-total // (self.budget - self.largest + 1))

    def least(self, total: int, world: int) -> int:
        """The least budget with which every step has a window for each rank."""
        steps = max(1, total // (world * self.largest))
        return total if steps == 1 else -(-total // steps) + self.largest - 1

    def suffices(self, total: int, world: int) -> bool:
        """True where every step, whatever the order, has a window for each rank."""
        steps = self.steps(total)
        return steps == 1 or total // steps >= world * self.largest

    def edges(self, windows: Integer[ndarray, " window"]) -> Int[ndarray, " edge"]:
        """First window of each step, and at last the number of windows."""
        if self.tokens is None:
            steps = self.steps(len(windows))
            return -(-np.arange(steps + 1) * len(windows) // steps)
        ends = np.cumsum(self.weights(windows), dtype=np.int64)
        steps = self.steps(int(ends[-1]))
        begins = -(-np.arange(1, steps) * ends[-1] // steps)
        # A window begins where the one before it ends.
        return np.concatenate([[0], np.searchsorted(ends, begins) + 1, [len(windows)]])

    def deal(self, windows: Integer[ndarray, " window"], world: int) -> Int[ndarray, " window"]:
        """Rank of each window of a step: in order of weight, to and fro over the ranks.

        Ranks get the same number of windows, give or take one, and nearly the same weight.
        """
        turn, seat = np.divmod(np.arange(len(windows)), world)
        ranks = np.empty(len(windows), np.int64)
        heaviest = np.argsort(-self.weights(windows), kind="stable")
        ranks[heaviest] = np.where(turn % 2 == 0, seat, world - 1 - seat)
        return ranks


def window_seeds(seed: int, epoch: int, windows: Any) -> Int[ndarray, " window"]:
    """A seed for each window by (seed, epoch, position), whatever else is in its batch.

    Source: the finaliser of SplitMix64, Steele et al. 2014, doi:10.1145/2660193.2660195.
    """
    start = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    z = start + np.asarray(windows, np.uint64) * np.uint64(GOLDEN)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)
