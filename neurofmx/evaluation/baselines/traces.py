"""Traces of a window in bands, and their covariances: what spatial methods read.

A covariance is shrunk toward a multiple of the identity (oracle approximating shrinkage, Chen,
Wiesel, Eldar & Hero 2010, doi:10.1109/TSP.2010.2053029), so that it can be inverted whatever the
length of the window. Filters see the window alone, forward and backward.
"""

import re
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.signal import butter, sosfiltfilt

from neurofmx.evaluation.baselines.base import Problem
from neurofmx.evaluation.baselines.choosing import needs_two_classes

TRACES = ("eeg", "ecog", "lfp", "emg", "intracellular")
HERTZ = re.compile(r"(\d+(?:\.\d+)?) ?Hz", re.IGNORECASE)
HALF_WIDTH = 1.0  # Hz; about a flicker's frequency, Kalunga et al. 2016
CYCLES = 2.0  # of a band's width that a window must last
Bank = tuple[tuple[float, float], ...]


def needs_traces(problem: Problem) -> str | None:
    """Why there is no covariance between channels."""
    names = _names(problem)
    if not names:
        return f"no input is a trace of {', '.join(TRACES)}"
    if len({problem.shards.signals[name]["dt"] for name in names}) > 1:
        return f"traces of several rates: {', '.join(names)}"
    if not find_spec("pyriemann"):
        return "pyriemann is not installed: pip install 'neurofmx[baselines]'"
    return needs_two_classes(problem)


def frequencies(problem: Problem) -> dict[int, float]:
    """Of the classes whose names are a frequency, such as 13Hz: which (Hz)."""
    named = [HERTZ.fullmatch(name) for name in problem.shards.tasks[problem.task]["classes"]]
    return {k: float(found[1]) for k, found in enumerate(named) if found}


def rate_of(problem: Problem) -> float:
    """Rate of the traces (Hz)."""
    return 1.0 / problem.shards.signals[_names(problem)[0]]["dt"]


def usable(problem: Problem, banks: dict[str, Bank]) -> dict[str, Bank]:
    """Banks whose bands fit the rate and the length of windows, and those of the classes."""
    shortest = min(len(x) for s in problem.positions for x in windows(problem, s)) / rate_of(
        problem
    )
    flicker = sorted(frequencies(problem).values())
    if flicker:
        own = {"classes": flicker, "harmonics": [*flicker, *(2 * f for f in flicker)]}
        banks = banks | {
            name: tuple((f - HALF_WIDTH, f + HALF_WIDTH) for f in each)
            for name, each in own.items()
        }
    highest = 0.95 * rate_of(problem) / 2
    return {
        name: bank
        for name, bank in banks.items()
        if all(high <= highest and (high - low) * shortest >= CYCLES for low, high in bank)
    }


def windows(problem: Problem, split: str) -> list[Float[ndarray, "_time channel"]]:
    """Traces of each query's window, all side by side, about their mean; gaps are left out."""
    found = []
    for position in problem.positions[split]:
        sample = problem.shards[position]
        found.append(_traces(problem, sample.arrays, sample.info["recording"]))
    return [found[window] for window in problem.queries[split].window]


def in_bands(
    traces: Float[ndarray, "time channel"], rate: float, bank: Bank
) -> Float[ndarray, "band time channel"]:
    """The traces in each band; as they are where a bank has none."""
    if not bank:
        return traces[None]
    sections = [butter(4, band, "bandpass", fs=rate, output="sos") for band in bank]
    return np.stack([sosfiltfilt(each, traces, axis=0, padlen=_pad(traces)) for each in sections])


def covariances(
    problem: Problem, bank: Bank
) -> tuple[
    Float[ndarray, "known band channel channel"], Float[ndarray, "asked band channel channel"]
]:
    """Of the queries of train and valid, and of test."""
    rate = rate_of(problem)
    found = {
        split: [shrunk(in_bands(x, rate, bank)) for x in windows(problem, split)]
        for split in problem.positions
    }
    return np.stack(found["train"] + found["valid"]), np.stack(found["test"])


def shrunk(x: Float[ndarray, "*any time channel"]) -> Float[ndarray, "*any channel channel"]:
    """Covariance about the mean, shrunk: equation 23 of Chen et al."""
    x = x - x.mean(axis=-2, keepdims=True)
    n, width = x.shape[-2:]
    plain = np.swapaxes(x, -1, -2) @ x / n
    size = np.trace(plain, axis1=-2, axis2=-1)[..., None, None] / width
    square = (plain**2).mean(axis=(-2, -1), keepdims=True)
    told = (n + 1) * (square - size**2 / width)
    share = np.minimum(
        1.0, np.divide(square + size**2, told, out=np.ones_like(told), where=told > 0)
    )
    floor = np.finfo(float).tiny ** 0.5  # a window of silence
    return (1 - share) * plain + (share * size + floor) * np.eye(width)


def _pad(traces: ndarray) -> int:
    return min(27, len(traces) - 1)  # 27 is what scipy takes of a filter of this order


def _names(problem: Problem) -> list[str]:
    """Traces that every recording of the problem has."""
    known = sorted(problem.shards.signals.items())
    return [
        n for n, about in known if about["modality"] in TRACES and n in problem.recording.signals
    ]


def _traces(problem: Problem, arrays: dict[str, Any], recording: str) -> ndarray:
    parts, seen = [], None
    for name in _names(problem):
        columns = problem.channels.get((recording, name), slice(None))
        parts.append(arrays[f"{name}.values"][:, columns].astype(float))
        mask = arrays.get(f"{name}.mask")
        if mask is not None:
            seen = mask if seen is None else seen & mask
    values = np.hstack(parts)
    # Of a window in which hardly anything was recorded the zeros stay, so that it has an answer.
    kept = values if seen is None or seen.sum() < 2 else values[seen]
    return kept - kept.mean(axis=0)
