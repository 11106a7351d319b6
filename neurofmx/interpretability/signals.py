"""Pictures of what align did: how well a clock was fitted, and all signals beside each other."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from neurofmx.signal.clocks import ClockFit
from neurofmx.signal.frames import Frames
from neurofmx.types import Events, Intervals, Recording, Samples, Signal

BLUE, ORANGE, GREY = "#1f5fbf", "#d9822b", "#9aa5b1"
MOST_CHANNELS = 6  # of a signal that are drawn
MOST_POINTS = 4000  # of a line or a cloud


def clock(fit: ClockFit, frames: dict[str, tuple[np.ndarray, Frames]]) -> go.Figure:
    """Pulses as they were stamped, the fitted line and what it leaves; then frames and jitter.

    Args:
        fit: Of the device's clock.
        frames: Per signal of frames, their stamps (device's clock, s) and what was recovered.
    """
    titles = ["pulses as stamped, and the fitted clock", "pulses: what the fit leaves"]
    titles += [f"{name}: stamps about the recovered frames" for name in frames]
    figure = make_subplots(len(titles), 1, subplot_titles=titles, shared_xaxes=True)
    lead = fit.reference - fit.device
    line = fit.clock(fit.device) - fit.device
    _dots(figure, 1, fit.device, 1e3 * (lead - lead.mean()), fit.used, "pulse")
    at = _thinned(len(line))
    figure.add_scatter(
        x=fit.device[at], y=1e3 * (line - lead.mean())[at], row=1, col=1, name="fit",
        line_color=ORANGE,
    )  # fmt: skip
    _dots(figure, 2, fit.device, 1e6 * fit.residual, fit.used, "pulse")
    figure.update_yaxes(title="lead (ms)", row=1, col=1)
    figure.update_yaxes(title="µs", row=2, col=1)
    for row, (stamps, found) in enumerate(frames.values(), start=3):
        seen = np.ones(len(stamps), bool)
        _dots(figure, row, stamps, 1e3 * (stamps - found.times), seen, "frame")
        figure.update_yaxes(title="ms", row=row, col=1)
    figure.update_xaxes(title="device's clock (s)", row=len(titles), col=1)
    return figure.update_layout(showlegend=False)


def window(recording: Recording, span: tuple[float, float]) -> go.Figure:
    """Every signal of a stretch of a recording, each with its own samples, one above the other.

    Args:
        span: Of the stretch (s).
    """
    signals = {n: s for n, s in recording.signals.items() if len(s)}
    figure = make_subplots(
        len(signals), 1, subplot_titles=[_title(*item) for item in signals.items()],
        shared_xaxes=True, vertical_spacing=0.3 / (len(signals) + 1),
    )  # fmt: skip
    for row, signal in enumerate(signals.values(), start=1):
        if isinstance(signal, Samples):
            _traces(figure, row, signal)
        elif isinstance(signal, Events):
            figure.add_scatter(
                x=signal.times, y=signal.index, mode="markers", row=row, col=1,
                marker={"symbol": "line-ns-open", "size": 5, "color": BLUE},
            )  # fmt: skip
        else:
            _spans(figure, row, signal)
        figure.update_yaxes(showticklabels=isinstance(signal, Events), row=row, col=1)
    figure.update_xaxes(range=span)
    figure.update_xaxes(title="recording's clock (s)", row=len(signals), col=1)
    return figure.update_layout(showlegend=False)


def _traces(figure: go.Figure, row: int, signal: Samples) -> None:
    """Channels above each other, each in units of its spread; a gap is a gap."""
    values = np.array(signal.values[:, :MOST_CHANNELS], np.float64)
    if signal.mask is not None:
        values[~signal.mask] = np.nan
    spread = np.nanstd(values, axis=0) if np.isfinite(values).any() else 1.0
    values = (values - np.nanmean(values, axis=0)) / np.where(spread > 0, spread, 1.0)
    mode = "lines+markers" if len(signal) < 200 else "lines"
    for channel in range(values.shape[1]):
        figure.add_scatter(
            x=signal.clock, y=values[:, channel] + 4 * channel, mode=mode, row=row, col=1,
            line={"width": 1, "color": BLUE}, marker_size=3,
        )  # fmt: skip


def _spans(figure: go.Figure, row: int, signal: Intervals) -> None:
    for k, (start, stop) in enumerate(zip(signal.start, signal.stop, strict=True)):
        figure.add_scatter(
            x=[start, stop], y=[k % 2] * 2, mode="lines", line={"width": 8, "color": GREY},
            row=row, col=1,
        )  # fmt: skip


def _dots(
    figure: go.Figure, row: int, x: np.ndarray, y: np.ndarray, used: np.ndarray, name: str
) -> None:
    at = _thinned(len(x))
    colours = np.where(used, BLUE, GREY)[at]
    figure.add_scatter(
        x=x[at], y=y[at], mode="markers", marker={"size": 3, "color": colours}, name=name,
        row=row, col=1,
    )  # fmt: skip


def _thinned(n: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(n, MOST_POINTS)).astype(int))


def _title(name: str, signal: Signal) -> str:
    rate = f", {signal.rate:.6g} Hz" if isinstance(signal, Samples) and signal.rate else ""
    return f"{name} ({signal.modality}{rate})"
