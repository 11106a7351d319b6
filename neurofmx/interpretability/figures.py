"""Pictures of the report, each drawn from a table that a stage wrote."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

COLOURS = {
    "truth": "#9aa5b1",
    "neurofmx": "#1f5fbf",
    "untrained": "#b08bd0",
    "ridge": "#d9822b",
    "ridge_centred": "#e8b37a",
    "logistic": "#d9822b",
    "mean": "#c3cad3",
    "smoothed counts": "#d9822b",
}
BESIDE = "#d9822b"  # of another method
LONGEST = 20.0  # s of a trace that is shown
MOST = 6  # dimensions that are drawn as traces; of more, such as a spectrogram, a picture
LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#1c2733"},
    "margin": {"l": 60, "r": 20, "t": 44, "b": 50},
    "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
}


def html(figure: go.Figure, name: str, height: int) -> str:
    """A figure as a part of a page that holds plotly once."""
    figure.update_layout(LAYOUT, height=height)
    config = {"displayModeBar": False, "responsive": True}
    return figure.to_html(
        full_html=False, include_plotlyjs=False, div_id=f"figure-{name}", config=config
    )


def scores(results: pd.DataFrame, task: str, metric: str) -> go.Figure:
    """A task's score of every recording by method, with intervals; without the shifted null."""
    chosen = results[(results["task"] == task) & (results["metric"] == metric)]
    chosen = chosen[chosen["method"] != "shifted"]
    figure = go.Figure()
    for method, rows in chosen.groupby("method", sort=False):
        spread = {
            "type": "data",
            "symmetric": False,
            "array": rows["high"] - rows["value"],
            "arrayminus": rows["value"] - rows["low"],
            "thickness": 1.2,
            "width": 3,
        }
        figure.add_bar(
            x=rows["recording"],
            y=rows["value"],
            error_y=spread,
            name=method,
            marker_color=COLOURS.get(method),
        )
    lowest = min(0.0, float(chosen["value"].min()))
    highest = max(1.0, 1.1 * float(chosen["value"].max()))  # an error in degrees; scores end at 1
    figure.update_yaxes(title=metric, range=[max(lowest, -1.0) - 0.1, highest])
    return figure


def decoded(
    predictions: pd.DataFrame, recording: str, task: str, methods: Sequence[str]
) -> tuple[go.Figure, int, str]:
    """What was decoded at the start of the test split, the figure's height, and how it is read.

    Args:
        methods: Columns of `predictions` that are drawn over the truth, the first of them ours.
    """
    chosen = predictions[(predictions["recording"] == recording) & (predictions["task"] == task)]
    dims = sorted(chosen["dim"].unique().tolist())
    if len(dims) > MOST:
        height = 200 * (1 + len(methods))
        return pictures(chosen, task, methods), height, "lighter is more, all on one scale"
    said = "shaded: two of the standard deviations that our model gives itself"
    return traces(chosen, task, dims, methods), 140 + 180 * len(dims), said


def pictures(chosen: pd.DataFrame, task: str, methods: Sequence[str]) -> go.Figure:
    """True and decoded values of many dimensions over a stretch of the test split."""
    rows = ["truth", *methods]
    figure = make_subplots(rows=len(rows), shared_xaxes=True, subplot_titles=rows)
    low, high = np.nanquantile(chosen["truth"], (0.01, 0.99))
    for row, method in enumerate(rows, start=1):
        table = chosen.pivot(index="dim", columns="time", values=method)
        shown = table.loc[:, table.columns <= table.columns.min() + LONGEST]
        figure.add_heatmap(
            x=shown.columns,
            y=shown.index,
            z=shown.to_numpy(),
            zmin=low,
            zmax=high,
            colorscale="Viridis",
            showscale=row == 1,
            row=row,
            col=1,
        )
        figure.update_yaxes(title=task, row=row, col=1)
    figure.update_xaxes(title="time (s)", row=len(rows), col=1)
    return figure


def traces(
    chosen: pd.DataFrame, task: str, dims: Sequence[int], methods: Sequence[str]
) -> go.Figure:
    """True and decoded traces over a stretch of the test split, ours with two deviations."""
    figure = make_subplots(rows=len(dims), shared_xaxes=True, vertical_spacing=0.06)
    for row, dim in enumerate(dims, start=1):
        part = with_gaps(chosen[chosen["dim"] == dim].sort_values("time"))
        for method in ("truth", *reversed(methods)):
            figure.add_scatter(
                x=part["time"],
                y=part[method],
                name=method,
                legendgroup=method,
                showlegend=row == 1,
                line={
                    "color": COLOURS.get(method, BESIDE),
                    "width": 3 if method == "truth" else 1.6,
                },
                row=row,
                col=1,
            )
        outline = band(part)
        figure.add_scatter(
            x=outline["time"],
            y=outline["value"],
            fill="toself",
            fillcolor="rgba(31, 95, 191, 0.15)",
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
            row=row,
            col=1,
        )
        figure.update_yaxes(title=f"{task}[{dim}]", row=row, col=1)
    figure.update_xaxes(title="time (s)", row=len(dims), col=1)
    return figure


def band(part: pd.DataFrame) -> pd.DataFrame:
    """Outline of two deviations about ours, closed around each stretch: filled to the next line,
    the band would be drawn across the gaps.
    """
    said = part["neurofmx"].notna()
    outlines = []
    for _, stretch in part[said].groupby((~said).cumsum()[said]):
        time, ours, spread = (
            stretch[name].to_numpy() for name in ("time", "neurofmx", "deviation")
        )
        edges = np.r_[ours + 2 * spread, (ours - 2 * spread)[::-1], np.nan]
        outlines.append(pd.DataFrame({"time": np.r_[time, time[::-1], np.nan], "value": edges}))
    return pd.concat(outlines, ignore_index=True)


def with_gaps(part: pd.DataFrame) -> pd.DataFrame:
    """The first `LONGEST` seconds of queries, an empty row where there are none in between."""
    step = np.diff(part["time"])
    usual = float(np.median(step)) if len(step) else 0.0
    queried = np.r_[0.0, np.minimum(step, usual).cumsum()]
    part = part[queried <= LONGEST].reset_index(drop=True)
    gaps = np.flatnonzero(np.diff(part["time"]) > 1.5 * usual)
    empty = pd.DataFrame({"time": part["time"].to_numpy()[gaps] + usual}, index=gaps + 0.5)
    return pd.concat([part, empty]).sort_index().reset_index(drop=True)


def confusion(
    predictions: pd.DataFrame, task: str, classes: Sequence[str], methods: Sequence[str]
) -> go.Figure:
    """Share of each true class that was called each class, by each method."""
    chosen = predictions[predictions["task"] == task]
    figure = make_subplots(cols=len(methods), subplot_titles=methods, horizontal_spacing=0.16)
    for column, method in enumerate(methods, start=1):
        counts = np.zeros((len(classes), len(classes)))
        told = chosen.dropna(subset=[method])
        np.add.at(counts, (told["truth"].astype(int), told[method].astype(int)), 1)
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        figure.add_heatmap(
            z=share,
            x=list(classes),
            y=list(classes),
            text=counts.astype(int),
            texttemplate="%{text}",
            colorscale="Blues",
            zmin=0,
            zmax=1,
            showscale=False,
            row=1,
            col=column,
        )
        figure.update_xaxes(title="decoded", type="category", row=1, col=column)
    figure.update_yaxes(type="category", autorange="reversed")
    figure.update_yaxes(title="true", row=1, col=1)
    return figure


def training(history: pd.DataFrame) -> go.Figure:
    """Losses over the steps of pretraining."""
    figure = go.Figure()
    for name in [column for column in history if column not in ("step", "phase")]:
        strong = name == "valid"
        figure.add_scatter(
            x=history["step"],
            y=history[name],
            name=f"{name} (held out)" if strong else name,
            line={"width": 3 if strong else 1.4, "dash": "solid" if strong else "dot"},
        )
    for phase, rows in history.groupby("phase", sort=False):
        if phase != history["phase"].iloc[0]:
            # It began behind the last look of the phase before.
            begin = history["step"][history["step"] < rows["step"].min()].max()
            figure.add_vline(x=begin, line={"width": 1, "dash": "dash", "color": "#9aa5b1"})
        figure.add_annotation(
            x=rows["step"].mean(), y=0, yref="paper", yanchor="bottom", text=phase, showarrow=False
        )
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="loss")
    return figure


WAYS = {
    "plain": "#9aa5b1",
    "replay": "#d9822b",
    "ewc": "#b08bd0",
    "replay_ewc": "#1f5fbf",
}


def stream(forgetting: pd.DataFrame, recording: str) -> go.Figure:
    """What is unexplained of the new and of the old after each chunk of a stream, by way."""
    figure = make_subplots(cols=2, shared_yaxes=True)
    chosen = forgetting[forgetting["recording"] == recording]
    for way, rows in chosen.groupby("way", sort=False):
        for column, of in enumerate(("new", "old"), start=1):
            figure.add_scatter(
                x=rows["chunk"],
                y=rows[of],
                name=way,
                legendgroup=way,
                showlegend=column == 1,
                line={"color": WAYS[str(way)], "width": 3 if way == "replay_ewc" else 1.8},
                row=1,
                col=column,
            )
    for column, of in enumerate(("the new recording", "those before"), start=1):
        title = f"chunks learnt from · valid windows of {of}"
        figure.update_xaxes(title=title, row=1, col=column)
    figure.update_yaxes(title="unexplained", rangemode="tozero", row=1, col=1)
    return figure


def tuning(scores: pd.DataFrame, curves: pd.DataFrame, kind: str, count: int = 8) -> go.Figure:
    """The best-tuned units or features: the curve of train, and test with its standard error."""
    keys = ["recording", "task", "dim", "unit"]
    best = scores[scores["kind"] == kind].nlargest(count, "r2")
    best = best.drop_duplicates(["recording", "unit"])
    columns = 4
    rows = -(-len(best) // columns)
    titles = [
        f"{row.recording} · {kind} {row.unit}<br>R² {row.r2:.2f} · null {row.null:.2f} · "
        f"q {row.q:.3f}"
        for row in best.itertuples()
    ]
    figure = make_subplots(rows, columns, subplot_titles=titles, vertical_spacing=0.28)
    for place, (_, row) in enumerate(best.iterrows()):
        same = (curves[keys] == row[keys]).all(axis=1) & (curves["kind"] == kind)
        curve, at = curves[same], {"row": place // columns + 1, "col": place % columns + 1}
        error = {"type": "data", "array": curve["error"], "thickness": 1, "width": 2}
        for split, bars in (("train", None), ("test", error)):
            colour = COLOURS["truth" if split == "train" else "neurofmx"]
            x, y = curve["centre"], curve[split]
            figure.add_scatter(
                x=x, y=y, error_y=bars, name=split, line_color=colour, showlegend=False, **at
            )
        figure.update_xaxes(title=f"{row['task']}[{row['dim']}]", **at)
    figure.update_annotations(font_size=11)
    figure.update_xaxes(title_font_size=11, title_standoff=4)
    return figure


def planted(table: pd.DataFrame) -> go.Figure:
    """R² of each planted latent by what it is read from: the mean and each recording."""
    figure = go.Figure()
    for source, rows in table.groupby("source", sort=False):
        mean = rows.groupby("latent")["r2"].mean()
        names = [f"z{k + 1}" for k in mean.index]
        colour = COLOURS.get(source)
        figure.add_bar(x=names, y=mean, name=source, marker_color=colour)
    figure.add_hline(y=0.8, line_dash="dot", line_color="#7b8794")
    figure.update_yaxes(title="held-out R²", range=[min(0.0, float(table["r2"].min())), 1])
    return figure
