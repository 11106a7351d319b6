"""Two tables of results are held against each other row by row."""

import numpy as np
import pandas as pd
import pytest

from neurofmx.errors import UserError
from neurofmx.evaluation.revisions import compare


def table(**values):
    """A figure for each recording: (value, low, high)."""
    rows = [
        {"dataset": "made", "recording": recording, "level": "trial", "task": "t"}
        | {"metric": "r2", "method": "neurofmx", "value": value, "low": low, "high": high}
        for recording, (value, low, high) in values.items()
    ]
    return pd.DataFrame(rows)


def test_figures_are_sorted_by_how_far_they_moved_and_judged_by_their_intervals():
    nan = np.nan
    a = table(same=(0.5, 0.4, 0.6), up=(0.5, 0.4, 0.6), down=(0.5, 0.4, 0.6), bare=(0.5, nan, nan))
    b = table(same=(0.5, 0.4, 0.6), up=(0.9, 0.8, 0.95), down=(0.45, 0.3, 0.55), bare=(0.6, 0.5, 1))

    found = compare(a, b).table

    assert found["recording"].tolist() == ["up", "bare", "down", "same"]
    assert found["verdict"].tolist() == ["apart", "unknown", "within", "equal"]
    assert found["difference"].tolist() == pytest.approx([0.4, 0.1, -0.05, 0.0])


def test_what_one_of_them_lacks_is_counted():
    found = compare(table(x=(1, 0, 2), y=(1, 0, 2)), table(x=(1, 0, 2), z=(1, 0, 2), w=(1, 0, 2)))
    assert (len(found.table), found.only_a, found.only_b) == (1, 1, 2)


def test_tables_of_different_data_sets_are_refused():
    with pytest.raises(UserError, match="no figure is in both: one has made, the other other"):
        compare(table(x=(1, 0, 2)), table(x=(1, 0, 2)).assign(dataset="other"))
