"""Several series of an NWB file that make up one signal.

A pose is a container with a series per keypoint (ndx-pose's `PoseEstimation`, or plain spatial
series side by side), and so are the muscles of an EMG or the fingers of a hand. What an extension
adds is told by the names of its neurodata types, so it need not be installed.
"""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Shaped
from numpy import ndarray
from pynwb import NWBFile, ProcessingModule, TimeSeries
from pynwb.core import NWBDataInterface

from neurofmx.data.arrays import Plain, Rows
from neurofmx.errors import DataError
from neurofmx.types import Samples

AXES = ("x", "y", "z")
ELLIPSE = ("area", "width", "height", "angle")  # of ndx-ellipse-eye-tracking, beside the centre


class Beside(Rows):
    """Columns of several arrays side by side.

    Args:
        parts: Each time × channel, equally long.
    """

    def __init__(self, parts: list[Any]):
        self.parts = parts
        self.shape = (parts[0].shape[0], sum(part.shape[1] for part in parts))
        self.dtype = np.result_type(*(part.dtype for part in parts))

    def __getitem__(self, rows: Any) -> Shaped[ndarray, "time channel"]:
        return np.concatenate([part[rows] for part in self.parts], axis=1, dtype=self.dtype)


def members(stream: Any) -> dict[str, TimeSeries]:
    """The series of a container that has several, by name; none for anything else."""
    whole = isinstance(stream, NWBFile | ProcessingModule | TimeSeries)
    if whole or not isinstance(stream, NWBDataInterface):
        return {}
    series = {child.name: child for child in stream.children if isinstance(child, TimeSeries)}
    return dict(sorted(series.items())) if len(series) > 1 else {}


def together(parts: dict[str, Samples], container: Any, path: str) -> Samples:
    """One signal of several that were sampled together.

    Its channels are named `<series>` or, for places, `<series>_x`; where the container has
    confidences, the mean of each series' is in column `confidence`.

    Raises:
        DataError: They differ in unit or in times.
    """
    (name, first), *others = parts.items()
    for other, samples in others:
        if samples.unit != first.unit:
            raise DataError(f"{other} is in {samples.unit!r}, {name} in {first.unit!r}; name one")
        if len(samples) != len(first) or not np.array_equal(samples.clock, first.clock):
            raise DataError(f"{other} and {name} were not sampled together; name one of them")
    tables = [_channels(key, part, members(container)[key]) for key, part in parts.items()]
    channels = pd.concat(tables, ignore_index=True)
    channels["id"] = np.arange(len(channels))
    values = Beside([part.values for part in parts.values()])
    clock = (first.rate, first.t0, first.times)
    return Samples(values, first.unit, *clock, None, channels, first.modality, path)


def is_ellipse(series: TimeSeries) -> bool:
    """True for an ellipse over time, as it is fitted to a pupil."""
    return type(series).__name__ == "EllipseSeries"


def ellipse(series: TimeSeries) -> tuple[Rows, pd.DataFrame]:
    """Centre, area, axes and angle of an ellipse, and a row for each of these channels.

    The unit is that of the centre; the area is in its square, the angle in rad.
    """
    columns = [Plain(getattr(series, name)) for name in ELLIPSE]
    names = [*AXES[: series.data.shape[1]], *ELLIPSE]
    values = Beside([Plain(series.data), *columns])
    return values, pd.DataFrame({"id": np.arange(len(names)), "name": names})


def _channels(name: str, samples: Samples, series: TimeSeries) -> pd.DataFrame:
    n = samples.values.shape[1]
    own = samples.channels.get("name", pd.Series(AXES[:n] if n <= len(AXES) else range(n)))
    names = [name] if n == 1 else [f"{name}_{column}" for column in own]
    table = pd.DataFrame({"id": range(n), "name": names})
    confidence = getattr(series, "confidence", None)
    if confidence is not None:
        table["confidence"] = float(np.nanmean(np.asarray(confidence[:], np.float64)))
    return table
