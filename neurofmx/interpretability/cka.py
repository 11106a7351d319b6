"""Linear centred kernel alignment: how alike two sets of features lay out the same samples.

    CKA = HSIC(X, Y) / √(HSIC(X, X) · HSIC(Y, Y))

Plain, HSIC = ‖XᵀY‖² of centred features, which grows with their number: of random features wider
than there are samples it nears 1. Debiased, HSIC is the unbiased estimator, 0 on average where X
and Y are independent; it may be negative. With s = ‖x‖² and t = ‖y‖² of each sample, centred,

    n (n − 3) HSIC₁ = ‖XᵀY‖² − n / (n − 2) · Σ s t + Σ s · Σ t / ((n − 1)(n − 2))

Sources: Kornblith et al. 2019, arXiv:1905.00414; Song et al. 2012, JMLR 13, equation 5; Nguyen et
al. 2021, arXiv:2010.15327.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray


def linear_cka(
    x: Float[ndarray, "sample width"], y: Float[ndarray, "sample other"], debiased: bool = True
) -> float:
    """Linear CKA of two sets of features of the same samples.

    Args:
        debiased: By the unbiased estimator of HSIC; else the plain one.

    Raises:
        ValueError: Too few samples, or features that never change.
    """
    n = len(x)
    if n < (4 if debiased else 2):
        raise ValueError(f"CKA needs {4 if debiased else 2} samples; there are {n}")
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    hsic = _debiased if debiased else _plain
    of_x, of_y = hsic(x, x), hsic(y, y)
    if not (of_x > 0 and of_y > 0):
        raise ValueError(
            f"CKA of {n} samples is undefined: the features never change"
            + (", or agree with themselves no more than noise does" if debiased else "")
        )
    return hsic(x, y) / float(np.sqrt(of_x * of_y))


def _plain(x: Float[ndarray, "sample width"], y: Float[ndarray, "sample other"]) -> float:
    return float(((x.T @ y) ** 2).sum())


def _debiased(x: Float[ndarray, "sample width"], y: Float[ndarray, "sample other"]) -> float:
    n, s, t = len(x), (x**2).sum(axis=1), (y**2).sum(axis=1)
    return float(_plain(x, y) - n / (n - 2) * (s @ t) + s.sum() * t.sum() / ((n - 1) * (n - 2)))
