"""Logistic regression on a window's features, and the mean.

Source: logistic regression, Cox 1958, doi:10.1111/j.2517-6161.1958.tb00292.x.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.signal import welch

from neurofmx.evaluation import linear
from neurofmx.evaluation.baselines.base import BaselineParams, Prediction, Problem

HIGHEST_BAND = 45.0  # Hz; below mains hum
BAND_RESOLUTION = 1.0  # Hz


def logistic(problem: Problem, params: BaselineParams) -> Prediction:
    """Logistic regression on log band power of traces and mean counts over the window."""
    x = {s: window_features(problem, s) for s in problem.positions}
    y = {s: q.truth[:, 0] for s, q in problem.queries.items()}
    values, chosen = linear.logistic(x, y, problem.n_classes, params.strengths)
    return Prediction(values, (x["train"].shape[1] + 1) * problem.n_classes, chosen)


def mean(problem: Problem, params: BaselineParams) -> Prediction:
    """The train split's mean (direction), or its shares of the classes: what knowing nothing gives.

    Source: of directions, that of the mean unit vector; Mardia & Jupp 2000, section 2.2.
    """
    truth = problem.queries["train"].truth
    if problem.n_classes:
        answer = np.bincount(truth[:, 0].astype(int), minlength=problem.n_classes) / len(truth)
    else:
        answer = problem.decoded(problem.code(truth).mean(axis=0, keepdims=True))[0]
    return Prediction(np.tile(answer, (len(problem.queries["test"]), 1)), len(answer))


def log_power(values: Float[ndarray, "time channel"], rate: float) -> Float[ndarray, " feature"]:
    """Log power (Welch) of each channel in bands `BAND_RESOLUTION` wide, up to `HIGHEST_BAND`."""
    n = round(rate / BAND_RESOLUTION)
    segment = min(n, len(values))
    frequency, power = welch(values, rate, nperseg=segment, nfft=n, axis=0)
    bands = (frequency > 0) & (frequency <= min(HIGHEST_BAND, rate / 2))
    return np.log(power[bands] + np.finfo(float).tiny).ravel()


def window_features(
    problem: Problem, split: str, of_traces: Callable[[ndarray, float], ndarray] = log_power
) -> Float[ndarray, "query feature"]:
    """Of each query's window, channel by channel: log band power of traces, mean of anything else
    that is sampled and of traces below 2 Hz, number of events.

    Args:
        of_traces: What else to make of time × channel and a rate (Hz).
    """
    described = []
    sizes = problem.shards.channels.groupby(["recording", "signal"]).size()
    for position in problem.positions[split]:
        sample, parts = problem.shards[position], []
        arrays, recording = sample.arrays, sample.info["recording"]
        for name, about in sorted(problem.shards.signals.items()):
            columns = problem.channels.get((recording, name), slice(None))
            if problem.channels and (recording, name) not in problem.channels:
                continue
            if f"{name}.events" in arrays:
                counts = np.bincount(arrays[f"{name}.units"], minlength=sizes[recording, name])
                parts.append(counts[columns])
            elif f"{name}.values" in arrays:
                seen = arrays[f"{name}.values"][arrays.get(f"{name}.mask", slice(None))]
                seen = seen[:, columns]
                # One too slow for a single band, such as fMRI, says something by its mean.
                bands = 0.5 / about["dt"] >= BAND_RESOLUTION
                traces = about["tokenizer"] == "continuous" and bands
                parts.append(of_traces(seen, 1 / about["dt"]) if traces else seen.mean(axis=0))
        described.append(np.concatenate(parts))
    return np.stack(described)[problem.queries[split].window]
