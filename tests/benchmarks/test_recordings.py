"""The table of README, from tables of results that are made up."""

import importlib

import numpy as np
import pandas as pd
import pytest
from sources import ROOT

from neurofmx.project import OVERALL

COMMON = {"task": "t", "metric": "r2", "level": "trial"}


def results(recordings, metric="r2", **told):
    """`method=(value, low, high)`, of each of the recordings alike."""
    figures = (dict(zip(("value", "low", "high"), t, strict=True)) for t in told.values())
    rows = [{"method": m} | f for m, f in zip(told, figures, strict=True)]
    common = COMMON | {"metric": metric}
    return pd.DataFrame([common | {"recording": r} | row for r in recordings for row in rows])


NONE = float("nan")


@pytest.fixture
def recordings(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("recordings")


@pytest.mark.parametrize(
    ("metric", "ours", "other", "expected"),
    [
        ("r2", (0.5, 0.4, 0.6), 0.6, True),
        ("r2", (0.5, 0.4, 0.6), 0.61, False),
        ("r2", (0.5, 0.4, 0.6), 0.1, True),
        ("circular_error", (10.0, 8.0, 12.0), 8.0, True),
        ("circular_error", (10.0, 8.0, 12.0), 7.0, False),
        ("r2", (0.5, NONE, NONE), 0.55, False),
        ("r2", (0.5, NONE, NONE), 0.5, True),
    ],
)
def test_the_best_other_is_reached_by_the_interval(recordings, metric, ours, other, expected):
    told = {"neurofmx": ours, "ridge": (other, 0, 0), "untrained": (99.0, 0, 0), "mean": (0, 0, 0)}
    table = results(["a"], metric, **told)
    assert recordings.reached(table) == {("t", "trial (1)", metric): expected}


def test_of_several_recordings_the_interval_of_their_mean_decides(recordings):
    each = results(["a", "b"], neurofmx=(0.9, 0.9, 0.9), ridge=(0.5, 0.5, 0.5))
    both = results([OVERALL], neurofmx=(0.4, 0.3, 0.45), ridge=(0.5, 0.5, 0.5))
    assert recordings.reached(pd.concat([each, both])) == {("t", "trial (2)", "r2"): False}


@pytest.mark.parametrize("mean", [0.1, NONE])
def test_rows_of_others_are_kept_where_the_same_is_asked(recordings, mean):
    def told(**methods):
        return results(["a", "b"], **{m: (v, v, v) for m, v in methods.items()})

    before, now = told(mean=mean, neurofmx=0.5, gru=0.6), told(mean=mean, neurofmx=0.7)
    found = recordings.kept_of_others(before, now[now["recording"] == "a"])
    assert list(found.columns) == list(before.columns)
    assert found["method"].tolist() == ["mean", "neurofmx", "gru"]
    np.testing.assert_equal(found["value"].to_numpy(), [mean, 0.7, 0.6])
    with pytest.raises(SystemExit, match="without --ours"):
        recordings.kept_of_others(before, told(mean=0.11, neurofmx=0.7))
