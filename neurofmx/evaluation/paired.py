"""Is one method better than another? Paired tests over recordings.

A recording is the unit: its two scores share the data, so their difference d is what is tested.

    W+ = Σ rank |d| over d > 0,  W− over d < 0;  rank-biserial correlation = (W+ − W−) / (W+ + W−)

Sources: Wilcoxon 1945; sign flips, Fisher 1935; Kerby 2014, doi:10.2466/11.IT.3.1.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import permutation_test, rankdata
from scipy.stats import wilcoxon as signed_rank

RESAMPLES = 9999  # sign flips; at most 13 recordings are enumerated


def wilcoxon(difference: Float[ndarray, " recording"]) -> float:
    """Two-sided p of the signed-rank test, exact up to 13 recordings; zeros are left out.

    1 where there is no difference at all.

    Raises:
        ValueError: Fewer than 2 recordings, or a difference that is undefined.
    """
    moved = _checked(difference)
    moved = moved[moved != 0]
    if len(moved) < 2:
        return 1.0  # the sign of one number is a coin's
    if 2 ** len(moved) <= RESAMPLES:  # exact with ties, too, which scipy's tables are not
        return sign_flip(rankdata(np.abs(moved)) * np.sign(moved), np.random.default_rng(0))
    return float(signed_rank(moved).pvalue)


def sign_flip(difference: Float[ndarray, " recording"], rng: np.random.Generator) -> float:
    """Two-sided p of the mean difference, had every sign been a coin's; exact up to 13 recordings.

    Beyond, of `RESAMPLES` random flips, the observed one counted among them.

    Raises:
        ValueError: Fewer than 2 recordings, or a difference that is undefined.
    """
    found = permutation_test(
        (_checked(difference),),
        lambda d, axis: np.mean(d, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=rng,
    )
    return float(found.pvalue)


def rank_biserial(difference: Float[ndarray, " recording"]) -> float:
    """Effect size in [−1, 1]: 1 where every recording is better; 0 where none differs.

    Raises:
        ValueError: Fewer than 2 recordings, or a difference that is undefined.
    """
    moved = _checked(difference)
    moved = moved[moved != 0]
    ranks = rankdata(np.abs(moved))
    return float((ranks * np.sign(moved)).sum() / ranks.sum()) if len(moved) else 0.0


def _checked(difference: Float[ndarray, " recording"]) -> Float[ndarray, " recording"]:
    if len(difference) < 2:
        raise ValueError(f"a paired test needs 2 recordings; there is {len(difference)}")
    if not np.isfinite(difference).all():
        n = int((~np.isfinite(difference)).sum())
        raise ValueError(f"{n} of {len(difference)} differences are undefined; leave these out")
    return difference
