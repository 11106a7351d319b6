"""Lists of events: stretches of time and instants, each with a label and further columns."""

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from neurofmx.errors import DataError
from neurofmx.types import Events, Intervals


def read_marks(
    start: Float[ndarray, " mark"],
    stop: Float[ndarray, " mark"],
    columns: pd.DataFrame,
    label: str,
    modality: str,
    path: str,
) -> Events | Intervals:
    """Marks as the signal that a card asks for, in order of their start.

    Args:
        start, stop: Seconds; an instant stops where it starts.
        label: Column that names the source of a pulse.
        modality: `trials` takes the marks that last, `pulses` the start of every mark.

    Raises:
        DataError: A time is missing, no mark lasts, or the modality is neither of the two.
    """
    wrong = np.flatnonzero(~np.isfinite(start) | (stop < start))
    if len(wrong):
        k = wrong[0]
        raise DataError(f"mark {k} lasts from {start[k]} to {stop[k]} s; mend it in the file")
    order = np.argsort(start, kind="stable")
    if modality == "pulses":
        labels = columns[label].astype(str).where(columns[label].notna(), "")
        index, names = pd.factorize(labels.iloc[order], sort=True)
        units = pd.DataFrame({"id": np.arange(len(names)), label: names.to_numpy(object)})
        return Events(start[order], index, units, "pulses", path)
    if modality != "trials":
        raise DataError(f"is a list of events, which holds no {modality}; mend the card")
    order = order[stop[order] > start[order]]
    if not len(order):
        raise DataError("holds instants only; its modality is `pulses`, mend the card")
    table = columns.iloc[order].reset_index(drop=True)
    if "id" not in table:
        table.insert(0, "id", np.arange(len(table)))
    return Intervals(start[order], stop[order], table, "trials", path)


def guess_marks(start: Float[ndarray, " mark"], stop: Float[ndarray, " mark"]) -> str:
    """`trials` where a mark lasts, else `pulses`."""
    return "trials" if bool((stop > start).any()) else "pulses"
