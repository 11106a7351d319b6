"""Two tables of results are held against each other row by row."""

import numpy as np
import pandas as pd
import pytest

from neurofmx.errors import UserError
from neurofmx.evaluation.revisions import compare, movement, outcomes


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


def test_tables_of_an_older_version_are_refused_by_the_column_that_they_lack():
    with pytest.raises(UserError, match="lacks level, low"):
        compare(table(x=(1, 0, 2)).drop(columns=["level", "low"]), table(x=(1, 0, 2)))


def test_less_is_better_of_errors_alone():
    a, b = table(up=(0.5, 0.4, 0.6), down=(0.5, 0.4, 0.6)), table(up=(2, 1, 3), down=(0.1, 0, 0.2))
    for metric, expected in {
        "r2": ["better", "worse"],
        "r2[0]": ["better", "worse"],
        "bits_per_spike": ["better", "worse"],
        "mse": ["worse", "better"],
        "circular_error[1]": ["worse", "better"],
    }.items():
        found = compare(a.assign(metric=metric), b.assign(metric=metric)).table
        assert found["recording"].tolist() == ["up", "down"]
        assert outcomes(found).tolist() == expected


def test_what_moved_is_told_in_a_few_lines():
    nan = np.nan
    a = table(up=(0.5, 0.4, 0.6), down=(0.5, 0.4, 0.6), near=(0.5, 0.4, 0.6), bare=(0.5, nan, nan))
    b = table(up=(0.9, 0.8, 1), down=(0.1, 0, 0.2), near=(0.55, 0.4, 0.6), bare=(0.6, nan, nan))
    other = {"method": "ridge"}
    a = pd.concat([a, a.assign(**other), table(gone=(1, 0, 2))])
    b = pd.concat([b, b[:1].assign(**other), a[1:4].assign(**other), b.assign(metric="mse")])

    assert movement(a, b, "neurofmx", ["r2"]) == [
        "Figures of neurofmx since the results before: 1 better, 1 worse, 1 moved that have no "
        "interval, 1 the same or within intervals.",
        "  up (trial)  t  r2: 0.500 → 0.900, better",
        "  down (trial)  t  r2: 0.500 → 0.100, worse",
        "  bare (trial)  t  r2: 0.500 → 0.600, no interval",
        "Of 4 figures of other methods 1 moved.",
        "1 figures are gone, 4 are new.",
    ]
    assert len(movement(a, b, "neurofmx", ["mse"])) == 3  # r2 is counted, but has no line


def test_one_line_says_that_nothing_moved():
    a, b = table(x=(0.5, 0.4, 0.6), y=(1, 0, 2)), table(x=(0.55, 0.4, 0.6), y=(1, 0, 2))
    assert movement(a, b, "neurofmx", ["r2"]) == [
        "Nothing moved: 2 figures of neurofmx are as before, or within intervals."
    ]


def test_an_undefined_figure_is_no_move():
    a, b = table(x=(np.nan, np.nan, np.nan)), table(x=(np.nan, np.nan, np.nan))
    assert movement(a, b, "neurofmx", ["r2"]) == [
        "Nothing moved: 1 figures of neurofmx are as before, or within intervals."
    ]
