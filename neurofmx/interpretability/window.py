"""A picture of one window of the shards: what the model is shown, and what it is asked."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from numpy import ndarray
from plotly.subplots import make_subplots

from neurofmx.data.shards import Sample, Shards
from neurofmx.interpretability.figures import LAYOUT
from neurofmx.interpretability.signals import BLUE, GREY, ORANGE

FEW = 8  # channels that are drawn as traces; more become a heat map
MOST = 1000  # rows or columns of a heat map, beyond which every n-th is drawn
FRAMES = 10  # of a video, side by side
DIMS = (BLUE, ORANGE, "#3a9d6b", "#b08bd0", "#c2506b", "#7b8794")  # of a target
AXES = ("channels", "bands", "pixels", "voxels")  # by the number of axes of a grid
MISSING = "#dde3ea"


class Panel(NamedTuple):
    """What is drawn in one row of the figure; heights are in pixels."""

    title: str
    height: int
    draw: Callable[[go.Figure, int], None]


def draw(sample: Sample, shards: Shards) -> go.Figure:
    """Every signal of a window, and below them what its tasks ask, over the same time.

    Few channels are traces, each in units of its spread; more are a heat map, of counts as they
    are and of others in units of their train windows. Events are ticks, video is frames, sound is
    its spectrum. Where nothing was recorded is grey.
    """
    panels = [_signal(name, sample, shards) for name in shards.signals if _holds(sample, name)]
    panels += [_task(name, task, sample) for name, task in shards.tasks.items()]
    height = sum(panel.height + 50 for panel in panels) + 100
    figure = make_subplots(
        len(panels), 1, shared_xaxes=True, row_heights=[panel.height for panel in panels],
        subplot_titles=[panel.title for panel in panels], vertical_spacing=50 / height,
    )  # fmt: skip
    for row, panel in enumerate(panels, start=1):
        panel.draw(figure, row)
    start, stop = sample.info["start"], sample.info["stop"]
    figure.update_xaxes(range=[0, stop - start])
    figure.update_xaxes(title="time after the start of the window (s)", row=len(panels), col=1)
    figure.update_layout(LAYOUT, height=height, showlegend=False)
    where = f"{sample.info['recording']}, {start:.3f} to {stop:.3f} s"
    return figure.update_layout(
        title=f"{sample.key} ({sample.info['split']}) of {where}",
        margin={"l": 80, "r": 20, "t": 90, "b": 60},
    )


def _holds(sample: Sample, name: str) -> bool:
    return f"{name}.values" in sample.arrays or f"{name}.events" in sample.arrays


def _signal(name: str, sample: Sample, shards: Shards) -> Panel:
    about = shards.signals[name]
    if about["dt"] is None:
        times = sample.arrays[f"{name}.events"]
        title = f"{name}: {about['modality']}, {len(times)} events, a token each"
        return Panel(title, 200, partial(_ticks, times, sample.arrays[f"{name}.units"]))
    values, dt = _values(sample, name), sample.info["dt"][name]
    shape = " × ".join(map(str, about["grid"] or values.shape[1:]))
    token = f"a token per {about['patch'] * dt:.3g} s"
    axes = AXES[len(about["grid"])]
    title = f"{name}: {about['modality']}, {shape} {axes} at {1 / dt:.6g} Hz, {token}"
    if len(about["grid"]) == 2:
        return Panel(title, 150, partial(_frames, values, dt, about["grid"]))
    if values.shape[1] <= FEW:
        return Panel(title, 60 + 20 * values.shape[1], partial(_traces, values, dt))
    if about["stabilise"]:
        return Panel(title, 200, partial(_map, values, dt, "Blues", None))
    table = shards.channels
    mine = (table["recording"] == sample.info["recording"]) & (table["signal"] == name)
    size = table[mine].sort_values("channel")
    values = (values - size["mean"].to_numpy()) / size["scale"].to_numpy()
    labels = size["label"].tolist() if axes == "bands" else None
    return Panel(title, 200, partial(_map, values, dt, "RdBu_r", labels))


def _task(name: str, task: dict[str, Any], sample: Sample) -> Panel:
    target, times, asked = (sample.arrays[f"{name}.{r}"] for r in ("target", "times", "asked"))
    title = f"{name}: {task['kind']}, {asked.sum()} of {len(asked)} times are asked"
    if "classes" in task:
        classes = [task["classes"][k] for k in target[:, 0].astype(int)]
        answers = [label if seen else "" for label, seen in zip(classes, asked, strict=True)]
        return Panel(title, 40, partial(_labels, times, answers))
    return Panel(title, 120, partial(_targets, times, target, asked))


def _values(sample: Sample, name: str) -> Float[ndarray, "time channel"]:
    """NaN where nothing was recorded."""
    values = sample.arrays[f"{name}.values"].astype(np.float32)
    mask = sample.arrays.get(f"{name}.mask")
    if mask is not None:
        values[~mask] = np.nan
    return values


def _ticks(times: ndarray, units: ndarray, figure: go.Figure, row: int) -> None:
    marker = {"symbol": "line-ns-open", "size": 5, "color": BLUE}
    figure.add_scattergl(x=times, y=units, mode="markers", marker=marker, row=row, col=1)
    figure.update_yaxes(title="unit", row=row, col=1)


def _traces(values: ndarray, dt: float, figure: go.Figure, row: int) -> None:
    """Channels above each other, each in units of its spread."""
    _shade(values, dt, figure, row)
    seen = values[np.isfinite(values).all(axis=1)]
    centre, spread = (seen.mean(axis=0), seen.std(axis=0)) if len(seen) else (0.0, 1.0)
    values = (values - centre) / np.where(spread > 0, spread, 1.0)
    for channel, trace in enumerate(values.T):
        figure.add_scatter(
            x=(np.arange(len(trace)) + 0.5) * dt, y=trace + 5 * channel, mode="lines",
            line={"width": 1, "color": BLUE}, row=row, col=1,
        )  # fmt: skip
    places = 5 * np.arange(values.shape[1])
    figure.update_yaxes(
        title="channel", tickvals=places, ticktext=places // 5, zeroline=False, row=row, col=1
    )


def _map(
    values: ndarray, dt: float, colours: str, labels: list | None, figure: go.Figure, row: int
) -> None:
    """Channels as rows; diverging colours are of ± 3 train deviations."""
    _shade(values, dt, figure, row)
    every, each = (-(-size // MOST) for size in values.shape)
    channels = np.arange(0, values.shape[1], each)
    counts = colours == "Blues"
    figure.add_heatmap(
        z=values[::every, ::each].T, x=(np.arange(len(values))[::every] + every / 2) * dt,
        y=channels if labels is None else [labels[k] for k in channels],
        colorscale=colours, showscale=False, zmin=0 if counts else -3, zmax=None if counts else 3,
        row=row, col=1,
    )  # fmt: skip
    figure.update_yaxes(title="channel" if labels is None else "", row=row, col=1)


def _frames(values: ndarray, dt: float, grid: list[int], figure: go.Figure, row: int) -> None:
    """Frames side by side, each over the stretch in whose middle it was taken."""
    _shade(values, dt, figure, row)
    count = min(FRAMES, len(values))
    chosen = ((np.arange(count) + 0.5) * len(values) / count).astype(int)
    frames = values[chosen].reshape(count, *grid)
    frames = np.pad(frames, ((0, 0), (0, 0), (0, 1)), constant_values=np.nan)  # a line between
    strip = np.concatenate(list(frames), axis=1)
    figure.add_heatmap(
        z=strip, x=(np.arange(strip.shape[1]) + 0.5) * len(values) * dt / strip.shape[1],
        colorscale="Greys_r", showscale=False, row=row, col=1,
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", title="row", row=row, col=1)


def _targets(times: ndarray, target: ndarray, asked: ndarray, figure: go.Figure, row: int) -> None:
    """The whole target in grey, coloured where it is asked."""
    for dim, values in enumerate(target.T):
        colour = DIMS[dim % len(DIMS)]
        figure.add_scatter(x=times, y=values, mode="lines", line_color=GREY, row=row, col=1)
        figure.add_scatter(
            x=times[asked], y=values[asked], mode="markers", marker={"size": 4, "color": colour},
            name=f"[{dim}]", row=row, col=1,
        )  # fmt: skip


def _labels(times: ndarray, answers: list[str], figure: go.Figure, row: int) -> None:
    """The class at the time for which it is asked, or a dot where none is."""
    figure.add_scatter(
        x=times, y=np.zeros(len(times)), text=answers, mode="markers+text",
        textposition="middle left", marker={"size": 7, "color": ORANGE}, cliponaxis=False,
        row=row, col=1,
    )  # fmt: skip
    figure.update_yaxes(visible=False, row=row, col=1)


def _shade(values: ndarray, dt: float, figure: go.Figure, row: int) -> None:
    """Grey behind stretches in which nothing was recorded."""
    missing = np.isnan(values).all(axis=1).astype(int)
    edges = np.flatnonzero(np.diff(missing, prepend=0, append=0)).reshape(-1, 2) * dt
    for start, stop in edges:
        figure.add_vrect(
            x0=start, x1=stop, fillcolor=MISSING, line_width=0, layer="below", row=row, col=1,
            exclude_empty_subplots=False,
        )  # fmt: skip
