"""How much of a score's spread is the seed's, how much the data's.

Each seed trains a model that is scored in every recording:

    value[seed, recording] = mean + seed + recording + rest

The mean squares of a two-way analysis of variance without repeats give the three variances: MS of
the rest; (MS_seed − MS_rest) / recordings; (MS_recording − MS_rest) / seeds. One that comes out
negative is 0. Source: Searle, Casella & McCulloch 1992, Variance Components, section 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from neurofmx.errors import UserError
from neurofmx.evaluation.pages import SHOWN
from neurofmx.evaluation.revisions import KEY
from neurofmx.evaluation.table import OVERALL

MIN_RUNS = 2
GROUP = [column for column in KEY if column != "recording"]


@dataclass(frozen=True)
class Variances:
    """Of a score, in the square of its unit.

    Attributes:
        seed: Over seeds, in any recording alike.
        recording: Over recordings, for any seed alike.
        rest: What a seed does in one recording only, and noise.
    """

    seed: float
    recording: float
    rest: float


def seed_variance(values: Float[ndarray, "seed recording"]) -> Variances:
    """Variances of a score over seeds and recordings, each apart from the other.

    Raises:
        ValueError: Fewer than 2 seeds or 2 recordings, or an undefined value.
    """
    seeds, recordings = values.shape
    if min(values.shape) < 2 or not np.isfinite(values).all():
        raise ValueError(
            f"variances over seeds and recordings need 2 of each and all values; there are {seeds} "
            f"seeds, {recordings} recordings and {int((~np.isfinite(values)).sum())} undefined"
        )
    by_seed, by_recording = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    left = values - by_seed - by_recording + values.mean()
    rest = float((left**2).sum()) / ((seeds - 1) * (recordings - 1))
    return Variances(
        max(0.0, float(by_seed.var(ddof=1)) - rest / recordings),
        max(0.0, float(by_recording.var(ddof=1)) - rest / seeds),
        rest,
    )


def spread_over_seeds(runs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """How far each main figure moves with the seed, and how far over recordings.

    Recordings in which a run leaves the figure undefined are left out of it and counted. Of one
    recording `sd_seed` is what is seen there, what a seed does in it alone included, and the other
    deviations are NaN.

    Args:
        runs: Name → results.csv of runs that differ in their seed alone.

    Returns:
        A row for each figure that all runs have: the columns of `GROUP`, `mean` over all, standard
        deviations `sd_seed`, `sd_recording` and `sd_rest` in the figure's unit, `seeds`,
        `recordings` and `undefined` (recordings).

    Raises:
        UserError: There are fewer than 2 runs, two are the same, or they scored other recordings.
    """
    if len(runs) < MIN_RUNS:
        raise UserError(f"a spread over seeds needs {MIN_RUNS} runs or more, not {len(runs)}")
    parts = {name: _main(name, table) for name, table in runs.items()}
    _check_recordings(parts)
    values = pd.concat({name: part["value"] for name, part in parts.items()}, axis=1, join="inner")
    if values.empty:
        raise UserError(f"no main figure is in all of {', '.join(runs)}: compare equal pipelines")
    _check_apart(values)
    rows = [
        dict(zip(GROUP, group, strict=True)) | _spread(part.to_numpy(float).T)
        for group, part in values.groupby(level=GROUP, sort=False)
    ]
    return pd.DataFrame(rows)


def _main(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Main figures of single recordings, by what they are of."""
    missing = [column for column in (*KEY, "value") if column not in table]
    if missing:
        raise UserError(f"{name} lacks {', '.join(missing)}: give a results.csv of evaluate")
    chosen = table["metric"].isin(SHOWN) & (table["recording"] != OVERALL)
    return table[chosen].set_index(KEY)


def _check_recordings(parts: Mapping[str, pd.DataFrame]) -> None:
    scored = {
        name: {f"{r} ({t})" for r, t in part.reset_index()[["recording", "task"]].to_numpy()}
        for name, part in parts.items()
    }
    every = set().union(*scored.values())
    lacking = [
        f"{name} lacks {', '.join(sorted(every - own))}"
        for name, own in scored.items()
        if every - own
    ]
    if lacking:
        raise UserError(
            f"the runs scored other recordings: {'; '.join(lacking)}. Runs are held against each "
            "other that differ in their seed alone"
        )


def _check_apart(values: pd.DataFrame) -> None:
    for i, name in enumerate(values):
        for other in values.columns[:i]:
            if values[name].equals(values[other]):
                raise UserError(
                    f"{other} and {name} hold the same figures: give each seed once, as made by "
                    "`neurofmx run -S seed=1` and so on"
                )


def _spread(values: Float[ndarray, "seed recording"]) -> dict[str, Any]:
    defined = values[:, np.isfinite(values).all(axis=0)]
    seeds, recordings = defined.shape
    deviations = dict.fromkeys(("sd_seed", "sd_recording", "sd_rest"), np.nan)
    if recordings > 1:
        found = seed_variance(defined)
        variances = (found.seed, found.recording, found.rest)
        deviations = dict(zip(deviations, np.sqrt(variances).tolist(), strict=True))
    elif recordings:
        deviations["sd_seed"] = float(defined.std(ddof=1))
    return {
        "mean": float(defined.mean()) if recordings else np.nan,
        **deviations,
        "seeds": seeds,
        "recordings": recordings,
        "undefined": values.shape[1] - recordings,
    }
