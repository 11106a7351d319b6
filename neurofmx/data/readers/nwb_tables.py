"""Tables of NWB files as data frames: units, electrodes, trials, and a row for each channel."""

import re

import numpy as np
import pandas as pd
from hdmf.common import DynamicTable, DynamicTableRegion, VectorData, VectorIndex
from numpy import ndarray
from pynwb import TimeSeries
from pynwb.misc import Units

from neurofmx.data.unit_metrics import amplitude_cutoff
from neurofmx.types import POSITION, REGION

PROBE = "probe"  # a column that means the same in every data set, as `REGION` and `POSITION` do
METRES = {"um": 1e-6, "mm": 1e-3, "m": 1.0}
NOWHERE = (0.0, -1.0)  # what files write as x, y and z of an electrode whose place is not known
AMPLITUDES = ("spike_amplitudes", "spike_amplitudes_uV")  # as Allen's and IBL's files have them


def table_of(table: DynamicTable) -> pd.DataFrame:
    """The columns of a table that hold one plain value per row, and `id`.

    A reference to a row of another table becomes the number of that row.
    """
    columns = {"id": np.asarray(table.id.data[:])}
    ragged = {column.target for column in table.columns if isinstance(column, VectorIndex)}
    for column in table.columns:
        if isinstance(column, VectorIndex) or column in ragged:
            continue
        values = _plain(column)
        if values is not None:
            columns[column.name] = values
    return pd.DataFrame(columns, index=range(len(table)))


def units_table(units: Units, unit: str = "um") -> pd.DataFrame:
    """A row per unit; its region and place are those of the first electrode it is listed with.

    Args:
        unit: Of the electrodes' places.
    """
    table = table_of(units)
    if "location" in table:
        table[REGION] = table["location"]
    listed = units["electrodes"] if "electrodes" in units.colnames else None
    if listed is None:
        return table
    ragged = isinstance(listed, VectorIndex)
    electrodes = listed.target if ragged else listed
    rows = np.asarray(electrodes.data[:], np.int64)
    if ragged:
        ends = np.asarray(listed.data[:], np.int64)
        firsts = np.r_[0, ends[:-1]]
        if (firsts == ends).any():  # a unit without an electrode
            return table
        rows = rows[firsts]
    found = places(table_of(electrodes.table), unit)
    return table.assign(**{name: found[name][rows] for name in found if name not in table})


def places(electrodes: pd.DataFrame, unit: str = "um") -> dict[str, ndarray]:
    """Region and position (m) of electrodes, as far as known, by the names that are used here."""
    found = {REGION: electrodes["location"].to_numpy()} if "location" in electrodes else {}
    if not set("xyz") <= set(electrodes):
        return found
    stored = electrodes[list("xyz")].to_numpy(np.float64)
    nowhere = np.any([(stored == mark).all(axis=1) for mark in NOWHERE], axis=0)
    position = np.where(nowhere[:, None], np.nan, stored * METRES[unit])
    return found | dict(zip(POSITION, position.T, strict=True))


def with_cutoffs(table: pd.DataFrame, units: Units) -> pd.DataFrame:
    """The table of units with `amplitude_cutoff`, where the file has each spike's amplitude."""
    name = next((name for name in AMPLITUDES if name in units.colnames), None)
    if name is None or "amplitude_cutoff" in table:
        return table
    amplitudes = np.abs(np.asarray(units[name].target.data[:], np.float64))
    parts = np.split(amplitudes, np.asarray(units[name].data[:], np.int64)[:-1])
    cutoffs = [amplitude_cutoff(part[np.isfinite(part)]) for part in parts]
    return table.assign(amplitude_cutoff=cutoffs)


def channels_of(series: TimeSeries, n: int, unit: str = "um") -> pd.DataFrame:
    """One row per column: electrodes, cells or units where the file names them.

    Args:
        unit: Of the electrodes' places; what a table of cells calls x and y may be pixels.
    """
    electrodes, rois = getattr(series, "electrodes", None), getattr(series, "rois", None)
    region = electrodes or rois
    units = series.get_ancestor("NWBFile").units
    names = re.search(r"columns=\[(.*?)\]", series.comments or "")  # as NLB's files have it
    if isinstance(region, DynamicTableRegion) and len(region.data) == n:
        table = table_of(region.table)
        if region is electrodes:
            table = table.assign(**places(table, unit))
        elif "location" in table:
            table[REGION] = table["location"]
        table = table.iloc[np.asarray(region.data[:])]
    elif units is not None and len(units) == n and "binned" in (series.name + series.description):
        table = units_table(units, unit)
    else:
        table = pd.DataFrame({"id": np.arange(n)})
        if names and names[1].count(",") == n - 1:
            table["name"] = [name.strip() for name in names[1].split(",")]
    return table.reset_index(drop=True)


def _plain(column: VectorData) -> ndarray | None:
    data = column.data
    if len(getattr(data, "shape", (0,))) != 1:
        return None
    values = np.asarray(data[:])
    if values.dtype.kind in "biuf":
        return values
    texts = [v.decode() if isinstance(v, bytes) else v for v in values.tolist()]
    return np.array(texts, dtype=object) if all(isinstance(t, str) for t in texts) else None
