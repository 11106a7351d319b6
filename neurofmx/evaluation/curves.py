"""Few-shot curves kept and drawn: a table that grows row by row, and a page.

curves.csv     a row per recording, task, method, number of shots, draw and seed
curves.html    their means over draws and seeds, with the 10 % and 90 % quantiles
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from neurofmx.evaluation.few_shot import COLUMNS, ZERO_SHOT, FewShotEvaluator

EVERY = 15.0  # s between two writings of the table
QUANTILES = (0.1, 0.9)


def curves(
    evaluator: FewShotEvaluator,
    recordings: list[str],
    folder: Path,
    say: Callable[[str], None] = lambda text: None,
) -> pd.DataFrame:
    """Compute what `folder` lacks, and leave the table and the page in it.

    A run that was stopped goes on where it was: rows are written as they come.

    Args:
        say: Called with a line now and then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "curves.csv"
    done = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=list(COLUMNS))
    rows, written = done.to_dict("records"), time.monotonic()

    def tell(row: dict[str, Any]) -> None:
        nonlocal written
        rows.append(row)
        if time.monotonic() - written > EVERY:
            written = time.monotonic()
            _write(pd.DataFrame(rows, columns=list(COLUMNS)), path)
            say(
                f"{row['recording']}  {row['method']}, {row['shots']} shots, draw {row['draw']}: "
                f"{row['task']} {row['metric']} {row['value']:.3f}"
            )

    table = evaluator.evaluate(recordings, done, tell)
    _write(table, path)
    picture(table).write_html(folder / "curves.html", include_plotlyjs=True)
    return table


def picture(table: pd.DataFrame) -> go.Figure:
    """A panel for each task and recording: score over shots, a line per method."""
    panels = list(table.groupby(["task", "recording"], sort=False))
    titles = [f"{task}, {recording}" for (task, recording), _ in panels]
    figure = make_subplots(len(panels), 1, subplot_titles=titles)
    colours = dict(zip(sorted(table["method"].unique()), _PALETTE * 3, strict=False))
    for number, (_, rows) in enumerate(panels, start=1):
        for method, own in rows.groupby("method", sort=False):
            values = own.groupby("shots")["value"]
            mean, (low, high) = values.mean(), (values.quantile(q) for q in QUANTILES)
            at = {"row": number, "col": 1}
            shown = {"name": method, "legendgroup": method, "showlegend": number == 1}
            if method == ZERO_SHOT:
                figure.add_hline(y=mean.iloc[0], line={"dash": "dot", "width": 1}, **at)
                figure.add_annotation(
                    x=1, xref="x domain", y=mean.iloc[0], text="zero shot", showarrow=False, **at
                )
                continue
            figure.add_scatter(
                x=mean.index, y=mean, mode="lines+markers", line={"color": colours[method]},
                error_y={"type": "data", "symmetric": False, "array": high - mean,
                         "arrayminus": mean - low, "thickness": 1}, **shown, **at,
            )  # fmt: skip
        figure.update_yaxes(title=rows["metric"].iloc[0], row=number, col=1)
        figure.update_xaxes(title="labelled shots", type="log", row=number, col=1)
    figure.update_layout(template="plotly_white", height=360 * len(panels))
    return figure


_PALETTE = ["#1f5fbf", "#d9822b", "#5aa469", "#b08bd0", "#c0504d", "#4bacc6", "#8c6d31", "#7f8c8d"]


def _write(table: pd.DataFrame, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    table.to_csv(temporary, index=False, float_format="%.6g")
    os.replace(temporary, path)
