import numpy as np
import pytest
from scipy import stats

from neurofmx.evaluation.paired import rank_biserial, sign_flip, wilcoxon

RNG = np.random.default_rng


def test_five_recordings_that_all_gain_reach_one_in_sixteen():
    gain = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    assert wilcoxon(gain) == pytest.approx(2 / 2**5)
    assert sign_flip(gain, RNG(0)) == pytest.approx(2 / 2**5)
    assert rank_biserial(gain) == 1.0
    assert rank_biserial(-gain) == -1.0


def test_effect_by_hand():
    assert rank_biserial(np.array([3.0, -1.0, 2.0])) == pytest.approx((3 + 2 - 1) / 6)
    assert rank_biserial(np.array([1.0, -1.0, 0.0])) == 0.0  # ties share a rank, 0 is left out


def test_exact_where_few_and_scipys_where_many():
    difference = RNG(1).normal(0.3, 1.0, 9)
    assert wilcoxon(difference) == pytest.approx(stats.wilcoxon(difference).pvalue)  # scipy's table
    flips = np.array(np.meshgrid(*[[1, -1]] * 9)).reshape(9, -1).T
    beyond = np.abs((flips * difference).mean(axis=1)) >= np.abs(difference.mean()) - 1e-12
    assert sign_flip(difference, RNG(0)) == pytest.approx(beyond.mean())
    tied = np.array([1.0, 1.0, 1.0, -1.0])  # W+ is 7.5 or more, or 2.5 or less, in 10 of 16
    assert wilcoxon(tied) == pytest.approx(10 / 16)
    many = RNG(2).normal(0.2, 1.0, 40)
    assert wilcoxon(many) == pytest.approx(stats.wilcoxon(many).pvalue)
    assert sign_flip(many, RNG(0)) == pytest.approx(stats.ttest_1samp(many, 0).pvalue, abs=0.02)


def test_no_difference_is_no_evidence():
    same = np.zeros(4)
    assert (wilcoxon(same), sign_flip(same, RNG(0)), rank_biserial(same)) == (1.0, 1.0, 0.0)


def test_p_is_uniform_without_an_effect():
    rng = RNG(3)
    p = np.array([wilcoxon(rng.normal(size=9)) for _ in range(400)])
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize("test", [wilcoxon, rank_biserial, lambda d: sign_flip(d, RNG(0))])
def test_one_recording_and_an_undefined_difference_raise(test):
    with pytest.raises(ValueError, match="needs 2 recordings; there is 1"):
        test(np.array([1.0]))
    with pytest.raises(ValueError, match="1 of 2 differences are undefined"):
        test(np.array([1.0, np.nan]))
