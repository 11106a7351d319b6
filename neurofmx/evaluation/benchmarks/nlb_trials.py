"""Trials as the Neural Latents Benchmark cuts them, and the truth that it scores against.

A trial begins at the first bin of the session's grid at or after its alignment, so that counts are
those of the benchmark bin for bin. Spikes are counted where they were observed and are NaN
elsewhere. Velocity is the 1 kHz trace, gaps bridged by lines, through the benchmark's filter.

Source: Pei et al. 2021, Neural Latents Benchmark '21, arXiv:2109.04463; nlb_tools,
`make_tensors.py` (windows, lags, kernels) and `nwb_interface.py` (grid, filter).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.signal import decimate, oaconvolve
from scipy.signal.windows import gaussian

from neurofmx.errors import DataError, UserError
from neurofmx.signal.bins import bin_events
from neurofmx.types import Events, Intervals, Recording, Samples

FORWARD = 0.2  # s that are predicted after a trial's end
FINE = 1e-3  # s; bin in which PSTHs are smoothed, and sample of velocity
MICRO = 1e6  # grids are laid in whole microseconds
ROUNDING = 5e-10  # s; a spike that a float puts this little before its bin's edge lies on it


@dataclass(frozen=True)
class Layout:
    """How a data set is cut.

    Attributes:
        align: Column of trials that 0 is at.
        start, stop: Of a trial, after that (s).
        velocity: Signal that is decoded; None: none is.
        lag: Of velocity after spikes (s).
        conditions: Columns whose values together are a condition of the PSTH; none: no PSTH.
        kernel: Standard deviation of the PSTH's smoothing (s).
        groups: Column whose values have velocity decoders of their own.
        begins: Column before whose time nothing counts.
        outlier: Column that is true of trials which no PSTH takes.
    """

    align: str
    start: float
    stop: float
    velocity: str | None = "hand_vel"
    lag: float = 0.0
    conditions: tuple[str, ...] = ()
    kernel: float = 0.05
    groups: str | None = None
    begins: str | None = None
    outlier: str | None = None


_READY = ("is_eye", "theta", "is_short", "ts")


def _maze(lag: float, kernel: float) -> Layout:
    types = ("trial_type", "trial_version")
    return Layout("move_onset_time", -0.25, 0.45, lag=lag, conditions=types, kernel=kernel)


LAYOUTS: dict[str, Layout] = {
    "mc_maze": _maze(lag=0.1, kernel=0.07),
    "mc_maze_large": _maze(lag=0.12, kernel=0.05),
    "mc_maze_medium": _maze(lag=0.12, kernel=0.05),
    "mc_maze_small": _maze(lag=0.12, kernel=0.05),
    "mc_rtt": Layout("start_time", 0.0, 0.6, "finger_vel", 0.14),
    "area2_bump": Layout(
        "move_onset_time",
        -0.1,
        0.5,
        lag=-0.02,
        conditions=("cond_dir", "ctr_hold_bump"),
        kernel=0.04,
        groups="ctr_hold_bump",
    ),
    "dmfc_rsg": Layout(
        "go_time",
        -1.5,
        0.0,
        velocity=None,
        conditions=_READY,
        kernel=0.07,
        begins="set_time",
        outlier="is_outlier",
    ),
}


def layout_of(card: str) -> tuple[str, Layout]:
    """The benchmark's name of a card's data set, and how it is cut.

    Raises:
        UserError: It is none of the benchmark's.
    """
    name = card.removeprefix("nlb_")
    if not card.startswith("nlb_") or name not in LAYOUTS:
        known = ", ".join(f"nlb_{key}" for key in LAYOUTS)
        raise UserError(f"card {card!r} is no data set of NLB; those are {known}")
    return name, LAYOUTS[name]


@dataclass(frozen=True)
class Trials:
    """Some trials, all equally long.

    Attributes:
        table: A row of the trials' table each.
        start: Of the first bin (s).
        n_bins: In a trial.
        width: Of a bin (s).
        begins: Nothing counts before (s).
    """

    table: pd.DataFrame
    start: Float[ndarray, " trial"]
    n_bins: int
    width: float
    begins: Float[ndarray, " trial"]

    def __len__(self) -> int:
        return len(self.start)

    @property
    def duration(self) -> float:
        """Of a trial (s)."""
        return self.n_bins * self.width

    def only(self, row: int) -> "Trials":
        """One of them."""
        some = self.start[[row]], self.begins[[row]]
        return Trials(self.table.iloc[[row]], some[0], self.n_bins, self.width, some[1])

    @property
    def ahead(self) -> "Trials":
        """The bins that follow each trial and are predicted from it."""
        n = round(FORWARD / self.width)
        return Trials(self.table, self.start + self.duration, n, self.width, self.begins)


def trials_of(
    recording: Recording, layout: Layout, splits: tuple[str, ...], width: float
) -> Trials:
    """Trials of the benchmark's own parts, those without an alignment left out.

    Args:
        splits: Values of the column `split`.
        width: Of a bin (s).

    Raises:
        DataError: A column is missing, or no trial is of these parts.
    """
    trials = recording.signals["trials"]
    assert isinstance(trials, Intervals)
    table = trials.columns.assign(start_time=trials.start, stop_time=trials.stop)
    needed = ["split", layout.align, *layout.conditions, layout.begins, layout.groups]
    if missing := sorted({name for name in needed if name and name not in table}):
        raise DataError(
            f"recording {recording.id}: its trials lack {', '.join(missing)}, which NLB cuts by; "
            f"they have {', '.join(table)}"
        )
    rows = table["split"].isin(splits) & table[layout.align].notna()
    if not rows.any():
        there = ", ".join(sorted(table["split"].astype(str).unique()))
        raise DataError(f"recording {recording.id}: no trial of {', '.join(splits)}, but {there}")
    table = table[rows].reset_index(drop=True)
    wanted = np.round((table[layout.align].to_numpy(float) + layout.start) * MICRO).astype(int)
    step = round(width * MICRO)
    start = -(-wanted // step) * step / MICRO
    begins = table[layout.begins].to_numpy(float) if layout.begins else np.full(len(start), -np.inf)
    return Trials(table, start, round((layout.stop - layout.start) / width), width, begins)


def counts_of(
    recording: Recording, signal: str, trials: Trials
) -> Float[ndarray, "trial time unit"]:
    """Spikes of each unit per bin; NaN where none were observed."""
    events = recording.signals[signal]
    assert isinstance(events, Events)
    times, units = events.times + ROUNDING, len(events.units)
    found = np.empty((len(trials), trials.n_bins, units))
    for row, start in enumerate(trials.start):
        lo, hi = np.searchsorted(times, (start, start + trials.duration))
        some = times[lo:hi], events.index[lo:hi]
        found[row] = bin_events(*some, units, start, trials.width, trials.n_bins)
    found[~observed(recording, trials)] = np.nan
    return found


def observed(recording: Recording, trials: Trials) -> Bool[ndarray, "trial time"]:
    """Whether each bin's start was observed, and counts."""
    at = trials.start[:, None] + np.arange(trials.n_bins) * trials.width
    counted, at = at >= trials.begins[:, None] - ROUNDING, np.round(at / FINE)
    spans = recording.signals.get("observed")
    if not isinstance(spans, Intervals):
        return counted
    first = np.ceil(np.round(spans.start / FINE, 6))
    stop = np.floor(np.round(spans.stop / FINE, 6))
    last = np.searchsorted(first, at, side="right") - 1
    return counted & (last >= 0) & (at < stop[last])


def velocity_of(
    recording: Recording, signal: str, trials: Trials, lag: float
) -> Float[ndarray, "trial time dim"]:
    """Velocity `lag` after each bin, through the benchmark's anti-aliasing filter.

    Args:
        recording: As ingest left it, with the trace at 1 kHz.
    """
    samples = recording.signals[signal]
    assert isinstance(samples, Samples)
    place = np.round(samples.clock / FINE).astype(int)
    trace = np.full((place.max() + 1, samples.values.shape[1]), np.nan)
    trace[place] = samples.values[:]
    k = round(trials.width / FINE)
    gone = np.isnan(trace[::k])
    whole = pd.DataFrame(trace).interpolate(limit_direction="both").to_numpy()
    slow = decimate(whole, k, n=500, ftype="fir", axis=0)
    slow[gone] = np.nan
    first = np.round((trials.start + lag) / trials.width).astype(int)
    rows = first[:, None] + np.arange(trials.n_bins)
    outside = (rows < 0) | (rows >= len(slow))
    found = slow[rows.clip(0, len(slow) - 1)]
    found[outside] = np.nan
    return found


def conditions_of(trials: Trials, layout: Layout) -> list[tuple]:
    """The condition of each trial; of one that no PSTH takes, an empty one."""
    columns = trials.table[list(layout.conditions)]
    keys = [tuple(row) for row in columns.itertuples(index=False)]
    whole = columns.notna().all(axis=1).to_numpy()
    if layout.outlier in trials.table:
        whole &= ~trials.table[layout.outlier].astype(bool).to_numpy()
    return [key if known else () for key, known in zip(keys, whole, strict=True)]


def psths(
    recording: Recording, signals: tuple[str, ...], trials: Trials, layout: Layout
) -> dict[tuple, Float[ndarray, "time unit"]]:
    """Mean smoothed count per bin of each condition, units of all signals side by side.

    Trials are averaged by the bins from the one at or after their alignment, as the benchmark does:
    where a trial does not begin a whole number of bins before it, some trials have a bin more in
    front than others, and the last bin is cut off. Bins that were not observed in every trial that
    has them are NaN.
    """
    found: dict[tuple, list] = {}
    first = np.ceil(np.round(trials.table[layout.align].to_numpy(float) / trials.width, 6))
    lead = np.round(trials.start / trials.width - first).astype(int).tolist()
    for row, key in enumerate(conditions_of(trials, layout)):
        if key:
            one = trials.only(row)
            smooth = [_smoothed(recording, name, one, layout.kernel) for name in signals]
            found.setdefault(key, []).append((lead[row], np.concatenate(smooth, axis=1)))
    return {key: _mean(found[key]) for key in sorted(found)}


def _mean(trials: list[tuple[int, Float[ndarray, "time unit"]]]) -> Float[ndarray, "time unit"]:
    """Of trials that begin at some bins, over the first bins that any has, as many as in one."""
    begin, n = min(first for first, _ in trials), len(trials[0][1])
    last = max(first for first, _ in trials)
    total = np.zeros((last - begin + n, trials[0][1].shape[1]))
    count = np.zeros((len(total), 1))
    for first, counts in trials:
        rows = slice(first - begin, first - begin + n)
        total[rows] += counts
        count[rows] += 1
    return (total / count)[:n]


def _smoothed(
    recording: Recording, signal: str, trial: Trials, kernel: float
) -> Float[ndarray, "time unit"]:
    """A trial's counts, smoothed in bins of 1 ms with what lies around it, and summed to bins."""
    sd = kernel / FINE
    window = gaussian(int(6 * sd), sd, sym=True)
    margin, k = len(window), round(trial.width / FINE)
    n = trial.n_bins * k + 2 * margin
    start = np.round(trial.start - margin * FINE, 6)
    fine = Trials(trial.table, start, n, FINE, trial.begins)
    counts = counts_of(recording, signal, fine)[0]
    seen = ~np.isnan(counts)
    smooth = oaconvolve(np.nan_to_num(counts), (window / window.sum())[:, None], "same", axes=0)
    smooth = np.where(seen, smooth.clip(0), np.nan)[margin:-margin]
    return smooth.reshape(trial.n_bins, k, -1).sum(axis=1)


def index_of(trials: Trials, layout: Layout, known: list[tuple]) -> list[Int[ndarray, " _"]]:
    """Rows of the trials of each condition."""
    keys = conditions_of(trials, layout)
    return [np.array([i for i, key in enumerate(keys) if key == one], int) for one in known]
