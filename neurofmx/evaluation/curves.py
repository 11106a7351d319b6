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
FLOOR = -0.25  # of an axis of R²: what is far worse than the mean would hide what is better


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
    shots, told = sorted(set(table["shots"]) - {0}), set()
    for number, (_, rows) in enumerate(panels, start=1):
        for method, own in rows.groupby("method", sort=False):
            values = own.groupby("shots")["value"]
            mean, (low, high) = values.mean(), (values.quantile(q) for q in QUANTILES)
            spread = {"type": "data", "symmetric": False, "thickness": 1}
            spread |= {"array": high - mean, "arrayminus": mean - low}
            drawn: dict[str, Any] = {"x": mean.index, "y": mean, "error_y": spread}
            drawn |= {"mode": "lines+markers", "line": {"color": colours[method]}}
            if method == ZERO_SHOT:  # the same at every number of shots
                drawn = {"x": shots, "y": [mean.iloc[0]] * len(shots), "mode": "lines"}
                drawn["line"] = {"color": colours[method], "dash": "dot"}
            figure.add_scatter(
                **drawn,
                name=method,
                legendgroup=method,
                showlegend=method not in told,
                row=number,
                col=1,
            )
            told.add(method)
        metric, means = rows["metric"].iloc[0], rows.groupby(["method", "shots"])["value"].mean()
        figure.update_yaxes(title=metric, row=number, col=1)
        lost = means[means < FLOOR] if metric == "r2" else means[:0]
        if len(lost):
            figure.update_yaxes(range=[FLOOR, 1.0], row=number, col=1)
            said = [f"{method} at {shots} shots: {x:.2f}" for (method, shots), x in lost.items()]
            below = {"text": "below: " + ", ".join(said), "showarrow": False, "y": FLOOR, "x": 0}
            below |= {"yanchor": "bottom", "xanchor": "left", "xref": "x domain"}
            figure.add_annotation(**below, row=number, col=1)
        ticks = {"tickvals": shots, "ticktext": shots}
        figure.update_xaxes(title="labelled shots", type="log", row=number, col=1, **ticks)
    figure.update_layout(template="plotly_white", height=360 * len(panels))
    return figure


_PALETTE = ["#1f5fbf", "#d9822b", "#5aa469", "#b08bd0", "#c0504d", "#4bacc6", "#8c6d31", "#7f8c8d"]


def _write(table: pd.DataFrame, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    table.to_csv(temporary, index=False, float_format="%.6g")
    os.replace(temporary, path)
