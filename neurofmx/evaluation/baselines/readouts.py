"""Linear readouts: ridge on lagged inputs, logistic regression on a window's features, the mean.

Source: ridge, Hoerl & Kennard 1970, doi:10.1080/00401706.1970.10488634; linear decoders of lagged
counts as the field's baseline, Glaser et al. 2020, arXiv:1708.00909; logistic regression, Cox 1958.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.signal import welch

from neurofmx.data.tasks import SampledTask
from neurofmx.evaluation import design, linear
from neurofmx.evaluation.baselines.base import BaselineParams, Prediction, Problem
from neurofmx.types import Intervals

HIGHEST_BAND = 45.0  # Hz; below mains hum
BAND_RESOLUTION = 1.0  # Hz


def ridge(problem: Problem, params: BaselineParams) -> Prediction:
    """Ridge on the present and past bins of every input (the Wiener filter of the field)."""
    return _ridge(problem, params, lambda n: range(n))


def ridge_centred(problem: Problem, params: BaselineParams) -> Prediction:
    """Ridge on as many bins, half of them after the instant: what a window shows the model too."""
    return _ridge(problem, params, lambda n: sorted(range(-(n // 2), n - n // 2), key=abs))


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


def _ridge(
    problem: Problem, params: BaselineParams, offsets: Callable[[int], Sequence[int]]
) -> Prediction:
    spec = problem.card.tasks[problem.task]
    assert isinstance(spec, SampledTask)
    grid = design.Grid.of(problem.recording.signals[spec.signal])
    rows, y = _unique_rows(problem, grid)
    signals = design.inputs_at(problem.recording, problem.card, grid)
    channels = sum(values.shape[1] for values in signals)
    fitting = [n for n in params.lags if n * channels <= params.max_columns] or [1]
    best: tuple = (-np.inf,)
    for width in params.smoothing:
        values = design.standardised(design.smooth(signals, width * grid.rate), rows["train"])
        for within, stretch in _stretches(problem, grid).items():
            make = _Lagged(values, offsets(max(fitting)), stretch, rows)
            columns = [n * channels for n in fitting]
            lines = linear.ridge_paths(make("train"), y["train"], params.alphas, columns)
            shown = make("valid")
            for (alpha, d), line in lines.items():
                score = linear.mean_r2(y["valid"], line(shown))
                if score > best[0]:
                    chosen = {"alpha": alpha, "lags": d // channels, "smoothing": width}
                    best = (score, make, d, chosen | {"lags_within": within, "valid_r2": score})
    _, make, d, chosen = best
    both = np.concatenate([make("train")[:, :d], make("valid")[:, :d]])
    line = linear.ridge_paths(both, linear.joined(y), [chosen["alpha"]], [d])[chosen["alpha"], d]
    values = problem.decoded(line(make("test")))
    return Prediction(values, line.weight.size + line.intercept.size, chosen)


@dataclass(frozen=True)
class _Lagged:
    values: Float[ndarray, "bin channel"]
    offsets: Sequence[int]
    stretch: Any
    rows: dict[str, Any]

    def __call__(self, split: str) -> Float[ndarray, "row column"]:
        return design.lagged(self.values, self.rows[split], self.offsets, self.stretch)


def _unique_rows(problem: Problem, grid: design.Grid) -> tuple[dict[str, Any], dict[str, Any]]:
    """Bin and coded truth of each query; train windows overlap: there an instant is kept once."""
    rows, truth = {}, {}
    for split, queries in problem.queries.items():
        bins = np.round((queries.time - grid.t0) * grid.rate).astype(int)
        kept = np.arange(len(bins)) if split == "test" else np.unique(bins, return_index=True)[1]
        rows[split], truth[split] = bins[kept], problem.code(queries.truth[kept])
    return rows, truth


def _stretches(problem: Problem, grid: design.Grid) -> dict[str, Any]:
    """Whether lags may cross the edges that windows must not; where there are none, they may."""
    stretches = {"recording": design.stretch_of(grid, None)}
    within = problem.card.windows.within
    if within:
        table = problem.recording.signals[within]
        assert isinstance(table, Intervals)
        stretches[within] = design.stretch_of(grid, table)
    return stretches


def window_features(problem: Problem, split: str) -> Float[ndarray, "query feature"]:
    """Of each query's window, channel by channel: log band power of traces, mean of anything else
    that is sampled, number of events.
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
                traces = about["tokenizer"] == "continuous"
                parts.append(_log_power(seen, 1 / about["dt"]) if traces else seen.mean(axis=0))
        described.append(np.concatenate(parts))
    return np.stack(described)[problem.queries[split].window]


def _log_power(values: Float[ndarray, "time channel"], rate: float) -> Float[ndarray, " feature"]:
    """Log power (Welch) of each channel in bands `BAND_RESOLUTION` wide, up to `HIGHEST_BAND`."""
    n = round(rate / BAND_RESOLUTION)
    segment = min(n, len(values))
    frequency, power = welch(values, rate, nperseg=segment, nfft=n, axis=0)
    bands = (frequency > 0) & (frequency <= min(HIGHEST_BAND, rate / 2))
    return np.log(power[bands] + np.finfo(float).tiny).ravel()
