"""Tables over recordings, made from scores whose values are known."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control

from neurofmx.evaluation import METRICS
from neurofmx.evaluation.comparisons import NULLS, TESTS, Answered, null_tests, paired_tests
from neurofmx.evaluation.table import OVERALL, Score, figures, overall

N, BLOCKS = 400, 20


def answered(recording, noise, dims=1, seed=0):
    rng = np.random.default_rng([seed, recording])
    truth = rng.normal(size=(N, dims))
    return truth, truth + noise * rng.normal(size=truth.shape)


def score(recording, method, noise, metric="r2", level="trial", seed=0):
    by_block = METRICS[metric].by_block(*answered(recording, noise, 2, seed), np.arange(N) % BLOCKS)
    name, animal = f"recording-{recording}", f"animal-{recording // 2}"
    return Score(name, animal, "speed", metric, method, level, by_block, 1.0, 10 * recording)


@pytest.fixture(scope="module")
def found():
    noise = {"neurofmx": 0.3, "ridge": 0.6, "twin": 0.3}
    return [score(r, m, n, x) for r in range(6) for m, n in noise.items() for x in ("r2", "mse")]


def test_rows_over_all_recordings_hold_their_mean(found):
    single, together = pd.DataFrame(figures(found, 200, 0)), pd.DataFrame(overall(found, 200, 0))
    assert (together["recording"] == OVERALL).all()
    assert len(together) == 3 * 2
    of = single.set_index(["metric", "method"]).sort_index()
    for row in together.itertuples():
        assert row.value == pytest.approx(of.loc[(row.metric, row.method), "value"].mean())
        assert row.low < row.value < row.high
        assert (row.seconds, row.parameters) == (6.0, 50)


def test_levels_are_kept_apart_and_one_recording_is_no_mean():
    given = [score(r, "neurofmx", 0.3, level="trial") for r in range(3)]
    given += [score(3, "neurofmx", 0.3, level="animal")]
    rows = overall(given, 200, 0)
    assert [row["level"] for row in rows] == ["trial"]
    assert paired_tests(given, "neurofmx", 200, 0).empty


def test_ours_is_tested_against_each_other_method(found):
    table = paired_tests(found, "neurofmx", 500, 0)
    assert list(table.columns) == list(TESTS)
    rows = table.set_index(["metric", "method"])
    ridge, twin, error = (
        rows.loc[("r2", "ridge")],
        rows.loc[("r2", "twin")],
        rows.loc[("mse", "ridge")],
    )

    assert ridge["n"] == 6
    assert ridge["difference"] == pytest.approx(0.36 - 0.09, abs=0.03)
    assert 0 < ridge["low"] < ridge["difference"] < ridge["high"]
    assert (ridge["p"], ridge["p_sign_flip"], ridge["effect"]) == (2 / 2**6, 2 / 2**6, 1.0)
    assert error["difference"] < 0  # of an error less is better
    assert error["effect"] == -1.0
    assert (twin["difference"], twin["low"], twin["high"], twin["p"]) == (0, 0, 0, 1)
    np.testing.assert_allclose(table["q"], false_discovery_control(table["p"]))


def test_a_recording_that_one_method_lacks_or_leaves_undefined_is_no_pair(found):
    truth = np.ones((N, 2))
    by_block = METRICS["r2"].by_block(truth, truth, np.arange(N) % BLOCKS)
    flat = Score("recording-9", "a", "speed", "r2", "ridge", "trial", by_block, 1.0, 1)
    extra = [flat, score(9, "neurofmx", 0.3), score(8, "neurofmx", 0.3)]
    more = paired_tests([*found, *extra], "neurofmx", 200, 0).set_index(["metric", "method"])
    assert more.loc[("r2", "ridge"), "n"] == 6


def test_pairing_takes_out_what_recordings_share():
    """Recordings differ by far more than methods do; the interval of the difference is narrow."""
    hard = [0.2, 0.5, 1.0, 1.5, 2.0, 3.0]
    given = [score(r, "neurofmx", n) for r, n in enumerate(hard)]
    given += [score(r, "ridge", 1.02 * n) for r, n in enumerate(hard)]
    test = paired_tests(given, "neurofmx", 500, 0).iloc[0]
    mean = next(row for row in overall(given, 500, 0) if row["method"] == "ridge")
    assert test["high"] - test["low"] < 0.1 * (mean["high"] - mean["low"])


def answers(recording, kind, truth, prediction):
    return Answered(f"recording-{recording}", "speed", kind, "trial", truth, prediction)


def test_nulls_find_a_decoder_and_leave_chance_alone():
    good = [answers(r, "regression", *answered(r, 0.5)) for r in range(4)]
    chance = [answers(r, "regression", *answered(r, 50.0)) for r in range(4)]
    table, other = null_tests(good), null_tests(chance)
    assert list(table.columns) == list(NULLS)
    assert table["null"].value_counts().to_dict() == {"linear_shift": 4, "pseudo_session": 4}
    by = table.groupby("null")
    assert (by["n"].first() == [198, 3]).all()
    assert (by["p"].max() == [1 / 100, 1 / 4]).all()
    assert (table["value"] > table["null_high"]).all()
    assert (other["q"] > 0.05).all()


def test_of_an_error_the_null_is_larger():
    rng = np.random.default_rng(0)
    truth = rng.uniform(-np.pi, np.pi, (100, 1))
    table = null_tests([answers(0, "circular", truth, truth + 0.1 * rng.normal(size=truth.shape))])
    row = table.iloc[0]
    assert len(table) == 1  # alone: no pseudo-sessions
    assert (row["metric"], row["n"], row["p"]) == ("circular_error", 50, 1 / 26)
    assert row["value"] < 10 < row["null_high"]


def test_what_is_too_short_has_no_null():
    truth = np.zeros((3, 1))
    assert null_tests([answers(0, "regression", truth, truth)]).empty
