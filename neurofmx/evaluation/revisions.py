"""What has changed between two tables of results, figure by figure."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from neurofmx.errors import UserError

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

    The verdict is `equal`, `apart` where the intervals do not meet, `within` where they do, and
    `unknown` where one has no interval. Intervals hold the spread over time in the test split and
    not over training seeds, so `apart` is no proof that a change was for better or worse.

    Raises:
        UserError: No figure is in both.
    """
    columns = [*KEY, "value", "low", "high"]
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


def _verdicts(both: pd.DataFrame) -> np.ndarray:
    bounds = both[["low_a", "high_a", "low_b", "high_b"]].to_numpy()
    low_a, high_a, low_b, high_b = bounds.T
    with np.errstate(invalid="ignore"):
        apart = (high_a < low_b) | (high_b < low_a)
    known = np.isfinite(bounds).all(axis=1)
    moved = both["difference"].to_numpy() != 0
    return np.select([~moved, ~known, apart], ["equal", "unknown", "apart"], default="within")


def _said(table: pd.DataFrame) -> str:
    return ", ".join(sorted(table["dataset"].astype(str).unique())) or "nothing"
