"""Tables of NWB files as data frames: units, electrodes, trials, and a row for each channel."""

import re

import numpy as np
import pandas as pd
from hdmf.common import DynamicTable, DynamicTableRegion, VectorData, VectorIndex
from numpy import ndarray
from pynwb import TimeSeries
from pynwb.misc import Units

from neurofmx.data.unit_metrics import amplitude_cutoff

REGION, PROBE = "region", "probe"  # columns that mean the same in every data set
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


def units_table(units: Units) -> pd.DataFrame:
    """A row per unit; its region is that of the first electrode it is listed with."""
    table = _named(table_of(units))
    listed = units["electrodes"] if "electrodes" in units.colnames else None
    if REGION in table or listed is None:
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
    places = table_of(electrodes.table)
    return table.assign(**{REGION: places["location"].to_numpy()[rows]})


def with_cutoffs(table: pd.DataFrame, units: Units) -> pd.DataFrame:
    """The table of units with `amplitude_cutoff`, where the file has each spike's amplitude."""
    name = next((name for name in AMPLITUDES if name in units.colnames), None)
    if name is None or "amplitude_cutoff" in table:
        return table
    amplitudes = np.abs(np.asarray(units[name].target.data[:], np.float64))
    parts = np.split(amplitudes, np.asarray(units[name].data[:], np.int64)[:-1])
    cutoffs = [amplitude_cutoff(part[np.isfinite(part)]) for part in parts]
    return table.assign(amplitude_cutoff=cutoffs)


def channels_of(series: TimeSeries, n: int) -> pd.DataFrame:
    """One row per column: electrodes, cells or units where the file names them."""
    region = getattr(series, "electrodes", None) or getattr(series, "rois", None)
    units = series.get_ancestor("NWBFile").units
    names = re.search(r"columns=\[(.*?)\]", series.comments or "")  # as NLB's files have it
    if isinstance(region, DynamicTableRegion) and len(region.data) == n:
        table = _named(table_of(region.table).iloc[np.asarray(region.data[:])])
    elif units is not None and len(units) == n and "binned" in (series.name + series.description):
        table = units_table(units)
    else:
        table = pd.DataFrame({"id": np.arange(n)})
        if names and names[1].count(",") == n - 1:
            table["name"] = [name.strip() for name in names[1].split(",")]
    return table.reset_index(drop=True)


def _named(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**{REGION: table["location"]}) if "location" in table else table


def _plain(column: VectorData) -> ndarray | None:
    data = column.data
    if len(getattr(data, "shape", (0,))) != 1:
        return None
    values = np.asarray(data[:])
    if values.dtype.kind in "biuf":
        return values
    texts = [v.decode() if isinstance(v, bytes) else v for v in values.tolist()]
    return np.array(texts, dtype=object) if all(isinstance(t, str) for t in texts) else None
