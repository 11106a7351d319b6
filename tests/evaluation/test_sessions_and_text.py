"""Held to the evaluator of the `falcon-challenge` package."""

import numpy as np
import pytest

from neurofmx.evaluation.metrics.sessions import falcon_r2
from neurofmx.evaluation.metrics.text import cer, falcon_words, wer

TRUTH = ["the>quick>brown>fox~", "jumps,over?>it"]
ANSWER = ["the>quik>brown>fox~>", "jump>over?>it"]


@pytest.fixture(scope="module")
def falcon():
    return pytest.importorskip("falcon_challenge.evaluator").FalconEvaluator


def test_error_rates_of_hand_counted_sentences():
    truth, answer = ["a cat sat", "no"], ["a hat sat on", "no"]
    assert wer(answer, truth) == pytest.approx(2 / 4)  # cat → hat, and a word too many
    assert cer(answer, truth) == pytest.approx(4 / 11)  # c → h, and three characters too many
    assert wer(["x y z"], ["a"]) == 3.0  # not clipped


def test_what_cannot_be_scored_raises():
    with pytest.raises(ValueError, match="1 answers to 2 sentences"):
        cer(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="something meant"):
        wer(["a"], [" "])


def test_error_rates_are_those_of_falcon(falcon):
    codes = np.zeros((len(TRUTH), 30), int)
    for row, sentence in zip(codes, TRUTH, strict=True):
        row[: len(sentence)] = [ord(c) for c in sentence]
    theirs = falcon.compute_metrics_edit_distance([[ANSWER]], [[codes]], None)
    assert cer(ANSWER, TRUTH) == pytest.approx(theirs["CER"], rel=1e-12)
    assert wer(ANSWER, TRUTH, falcon_words) == pytest.approx(theirs["WER"], rel=1e-12)


def sessions():
    rng = np.random.default_rng(0)
    truths = {name: rng.normal(size=(n, 2)) * [1.0, 7.0] for name, n in (("S0", 50), ("S1", 80))}
    return {name: (y, y + rng.normal(size=y.shape)) for name, y in truths.items()}


def test_r2_over_sessions_is_that_of_falcon(falcon):
    given = sessions()
    truth, answer = (np.concatenate(part) for part in zip(*given.values(), strict=True))
    mask, lengths = np.ones(len(truth), bool), {name: [len(y)] for name, (y, _) in given.items()}
    theirs = falcon.compute_metrics_regression(answer, truth, mask, lengths)
    ours = falcon_r2(given)
    assert ours.mean == pytest.approx(theirs["R2 Mean"], rel=1e-10)
    assert ours.sd == pytest.approx(theirs["R2 Std."], rel=1e-10)
    assert ours.by_session["S0"] != ours.by_session["S1"]


def test_no_session_has_no_mean():
    with pytest.raises(ValueError, match="needs a session"):
        falcon_r2({})
