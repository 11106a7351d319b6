"""Chunks of runs of bins, which are what a network is shown at once."""

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Int
from numpy import ndarray


def lay(
    runs: Int[ndarray, "run 2"], length: int, starts: Callable[[int], Iterable[int]]
) -> Int[ndarray, "chunk bin"]:
    """Chunks of `length` bins at `starts` of runs of so many bins; −1 where a run has ended."""
    chunks = []
    for first, end in runs:
        for start in starts(end - first) if end - first > length else (0,):
            bins = np.arange(max(first, first + start), min(end, first + start + length))
            chunks.append(np.pad(bins, (0, length - len(bins)), constant_values=-1))
    return np.stack(chunks)


def anew(
    runs: Int[ndarray, "run 2"], length: int, rng: np.random.Generator
) -> Int[ndarray, "chunk bin"]:
    """Every bin once, in chunks that begin elsewhere each time, in another order."""
    chunks = lay(runs, length, lambda n: range(-int(rng.integers(length)), n, length))
    return chunks[rng.permutation(len(chunks))]


def overlapping(runs: Int[ndarray, "run 2"], length: int) -> Int[ndarray, "chunk bin"]:
    """Chunks of which each half overlaps another."""
    hop = max(1, length // 2)
    return lay(runs, length, lambda n: [*range(0, n - length, hop), n - length])


def placed(
    chunks: Int[ndarray, "chunk place"], n: int, best: int
) -> tuple[Int[ndarray, " bin"], Int[ndarray, " bin"]]:
    """For each of `n` bins the chunk, and the place in it, where the bin lies nearest to `best`."""
    chunk, place = np.nonzero(chunks >= 0)
    order = np.argsort(-np.abs(place - best), kind="stable")  # the nearest is written last
    at = np.zeros((2, n), int)
    at[:, chunks[chunk[order], place[order]]] = chunk[order], place[order]
    return at[0], at[1]
