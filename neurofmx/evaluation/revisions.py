"""What has changed between two tables of results, figure by figure."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neurofmx.errors import UserError
from neurofmx.evaluation.metrics import METRICS

KEY = ["dataset", "recording", "level", "task", "metric", "method"]


@dataclass(frozen=True)
class Comparison:
    """Two tables, row by row.

    Attributes:
        table: The columns of `KEY`, then value, low and high of each (`_a`, `_b`), `difference`
            (b − a), and `verdict`.
        only_a, only_b: Figures that one of them alone has.
    """

    table: pd.DataFrame
    only_a: int
    only_b: int


def compare(a: pd.DataFrame, b: pd.DataFrame) -> Comparison:
    """Figures that both have, those that moved most first.

    The verdict is `equal` (or both undefined), `apart` where the intervals do not meet, `within`
    where they do, and `unknown` where one has no interval. Intervals hold the spread over time in
    the test split and not over training seeds, so `apart` is no proof that a change was for better
    or worse.

    Raises:
        UserError: No figure is in both, or a table lacks a column.
    """
    columns = [*KEY, "value", "low", "high"]
    missing = [c for c in columns if c not in a or c not in b]
    if missing:
        raise UserError(f"a table of results lacks {', '.join(missing)}: an older version wrote it")
    both = a[columns].merge(b[columns], on=KEY, suffixes=("_a", "_b"))
    if both.empty:
        raise UserError(
            f"no figure is in both: one has {_said(a)}, the other {_said(b)}; compare runs of the "
            "same data set"
        )
    both["difference"] = both["value_b"] - both["value_a"]
    both["verdict"] = _verdicts(both)
    order = both["difference"].abs().sort_values(ascending=False, kind="stable").index
    found = both.loc[order].reset_index(drop=True)
    return Comparison(found, len(a) - len(both), len(b) - len(both))


def outcomes(table: pd.DataFrame) -> np.ndarray:
    """Of each figure `better` or `worse` where it is apart, else `same`, or `unknown`.

    Args:
        table: Of a `Comparison`.
    """
    less = [m in METRICS and METRICS[m].is_error for m in table["metric"].str.partition("[")[0]]
    gained = (table["difference"].to_numpy() > 0) != np.array(less, bool)
    told = {"apart": np.where(gained, "better", "worse"), "unknown": np.full(len(less), "unknown")}
    conditions = [(table["verdict"] == verdict).to_numpy() for verdict in told]
    return np.select(conditions, list(told.values()), default="same")


def movement(a: pd.DataFrame, b: pd.DataFrame, ours: str, shown: Collection[str]) -> list[str]:
    """In a few lines, which figures of ours moved from `a` to `b`, and whether others did.

    Args:
        ours: Name of our method.
        shown: Metrics whose figures have a line each where they moved.

    Raises:
        UserError: As `compare`.
    """
    found = compare(a, b)
    table = found.table.assign(outcome=outcomes(found.table))
    moved, own = table["outcome"] != "same", table["method"] == ours
    lines = [_counted(ours, table[own])]
    lines += [_told(row) for row in table[own & moved & table["metric"].isin(shown)].itertuples()]
    if (moved & ~own).any():
        lines.append(f"Of {(~own).sum()} figures of other methods {(moved & ~own).sum()} moved.")
    if found.only_a or found.only_b:
        lines.append(f"{found.only_a} figures are gone, {found.only_b} are new.")
    return lines


def _counted(ours: str, table: pd.DataFrame) -> str:
    counts = table["outcome"].value_counts()
    moved = [f"{counts[w]} {w}" for w in ("better", "worse") if w in counts]
    if "unknown" in counts:
        moved.append(f"{counts['unknown']} moved that have no interval")
    if not moved:
        return f"Nothing moved: {len(table)} figures of {ours} are as before, or within intervals."
    same = f"{counts.get('same', 0)} the same or within intervals"
    return f"Figures of {ours} since the results before: {', '.join([*moved, same])}."


def _told(row: Any) -> str:
    said = "no interval" if row.outcome == "unknown" else row.outcome
    place = f"{row.recording} ({row.level})  {row.task}  {row.metric}"
    return f"  {place}: {row.value_a:.3f} → {row.value_b:.3f}, {said}"


def _verdicts(both: pd.DataFrame) -> np.ndarray:
    bounds = both[["low_a", "high_a", "low_b", "high_b"]].to_numpy()
    low_a, high_a, low_b, high_b = bounds.T
    with np.errstate(invalid="ignore"):
        apart = (high_a < low_b) | (high_b < low_a)
    known = np.isfinite(bounds).all(axis=1)
    undefined = both[["value_a", "value_b"]].isna().all(axis=1).to_numpy()
    moved = (both["difference"].to_numpy() != 0) & ~undefined
    return np.select([~moved, ~known, apart], ["equal", "unknown", "apart"], default="within")


def _said(table: pd.DataFrame) -> str:
    return ", ".join(sorted(table["dataset"].astype(str).unique())) or "nothing"
