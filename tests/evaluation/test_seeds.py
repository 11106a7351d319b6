"""What moves with the seed is told from what moves with the recording."""

import numpy as np
import pandas as pd
import pytest

from neurofmx.errors import UserError
from neurofmx.evaluation.seeds import spread_over_seeds


def run(*values, method="neurofmx", metric="r2", task="speed"):
    """A run with a figure for each recording: a, b, c, …"""
    rows = [
        {"dataset": "made", "recording": name, "level": "trial", "task": task, "metric": metric}
        | {"method": method, "value": value}
        for name, value in zip("abcdefghijklmnopqrstuvwxyz", values, strict=False)
    ]
    return pd.DataFrame(rows)


def runs(*tables):
    return {f"seed{i}": table for i, table in enumerate(tables)}


def test_spreads_of_a_table_by_hand():
    # Rows differ by 2, columns by 4, nothing is left: variances 2, 8 and 0.
    (row,) = spread_over_seeds(runs(run(0.0, 4.0), run(2.0, 6.0))).to_dict("records")
    assert row["mean"] == 3.0
    assert row["sd_seed"] == pytest.approx(np.sqrt(2))
    assert row["sd_recording"] == pytest.approx(np.sqrt(8))
    assert row["sd_rest"] == 0.0
    assert (row["seeds"], row["recordings"], row["undefined"]) == (2, 2, 0)
    assert (row["task"], row["metric"], row["method"]) == ("speed", "r2", "neurofmx")


def test_planted_spreads_are_found_and_are_each_method_s_own():
    rng = np.random.default_rng(0)
    recordings = 3 * rng.normal(size=26)
    tables = []
    for seed in 2 * rng.normal(size=40):
        ours = run(*(seed + recordings + 0.1 * rng.normal(size=26)))
        tables.append(pd.concat([ours, run(*recordings, method="ridge")]))
    found = spread_over_seeds(runs(*tables)).set_index("method")
    assert found.loc["neurofmx", "sd_seed"] == pytest.approx(2, rel=0.25)
    assert found.loc["neurofmx", "sd_recording"] == pytest.approx(3, rel=0.3)
    assert found.loc["neurofmx", "sd_rest"] == pytest.approx(0.1, rel=0.1)
    assert found.loc["ridge", ["sd_seed", "sd_rest"]].tolist() == pytest.approx([0, 0], abs=1e-9)
    assert found.loc["ridge", "sd_recording"] == pytest.approx(recordings.std(ddof=1))


def test_an_undefined_recording_is_left_out_of_all_seeds_and_counted():
    tables = runs(run(0.0, 4.0, 9.0), run(2.0, 6.0, np.nan))
    (row,) = spread_over_seeds(tables).to_dict("records")
    assert (row["mean"], row["recordings"], row["undefined"]) == (3.0, 2, 1)
    assert row["sd_seed"] == pytest.approx(np.sqrt(2))


def test_one_recording_has_a_spread_over_seeds_alone():
    (row,) = spread_over_seeds(runs(run(0.0), run(2.0))).to_dict("records")
    assert row["sd_seed"] == pytest.approx(np.sqrt(2))
    assert np.isnan([row["sd_recording"], row["sd_rest"]]).all()


def test_none_that_is_defined_has_no_spread():
    rest = run(1.0, method="ridge")
    tables = [pd.concat([rest.assign(value=v), run(np.nan)]) for v in (0.0, 1.0)]
    row = spread_over_seeds(runs(*tables)).set_index("method").loc["neurofmx"]
    assert row[["mean", "sd_seed", "sd_recording"]].isna().all()
    assert (row["recordings"], row["undefined"]) == (0, 1)


def test_means_over_recordings_and_lesser_figures_play_no_part():
    def table(value):
        other = run(9.0 * value, metric="r2[0]"), run(value, metric="mse")
        return pd.concat([run(value, 1.0), *other, run(value + 100).assign(recording="all")])

    (row,) = spread_over_seeds(runs(table(0.0), table(2.0))).to_dict("records")
    assert row["metric"] == "r2"
    assert (row["mean"], row["recordings"]) == (1.0, 2)


def test_tasks_and_methods_that_one_run_lacks_are_left_out():
    more = pd.concat([run(0.0, 1.0), run(0.0, 1.0, method="gru")])
    assert spread_over_seeds(runs(more, run(0.5, 1.0)))["method"].tolist() == ["neurofmx"]


def test_the_order_of_rows_does_not_matter():
    a, b = run(0.0, 4.0, 5.0), run(2.0, 6.0, 1.0)
    pd.testing.assert_frame_equal(
        spread_over_seeds(runs(a, b)), spread_over_seeds(runs(a, b.iloc[::-1]))
    )


def test_other_recordings_are_refused_by_name():
    with pytest.raises(UserError, match=r"other recordings: seed0 lacks c \(speed\)\. Runs"):
        spread_over_seeds(runs(run(0.0, 1.0), run(0.0, 1.0, 2.0)))


def test_what_is_no_set_of_seeds_is_refused():
    with pytest.raises(UserError, match="needs 2 runs or more, not 1"):
        spread_over_seeds(runs(run(0.0)))
    with pytest.raises(UserError, match="seed0 and seed2 hold the same figures"):
        spread_over_seeds(runs(run(0.0, np.nan), run(1.0, 1.0), run(0.0, np.nan)))
    with pytest.raises(UserError, match="seed1 lacks level, value: give"):
        spread_over_seeds(runs(run(0.0), run(1.0).drop(columns=["level", "value"])))
    with pytest.raises(UserError, match="no main figure is in all"):
        spread_over_seeds(runs(run(0.0), run(1.0, method="gru")))
