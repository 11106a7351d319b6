import numpy as np
import pytest

from neurofmx.interpretability.cka import linear_cka


def slow_cka(x, y):
    """Song et al. 2012, equation 5, written with the kernels themselves."""

    def hsic(k, other):
        n, ones = len(k), np.ones(len(k))
        k, other = k - np.diag(np.diag(k)), other - np.diag(np.diag(other))
        product = (ones @ k @ ones) * (ones @ other @ ones) / ((n - 1) * (n - 2))
        return np.trace(k @ other) + product - 2 / (n - 2) * (ones @ k @ other @ ones)

    k, other = x @ x.T, y @ y.T
    return hsic(k, other) / np.sqrt(hsic(k, k) * hsic(other, other))


def test_cka_is_that_of_the_kernels():
    rng = np.random.default_rng(0)
    x = rng.normal(3.0, 1.0, (12, 5))
    y = x[:, :2] + rng.normal(size=(12, 2))
    assert linear_cka(x, y) == pytest.approx(slow_cka(x, y))
    # Plain, by hand: centred, (1, 0, −1) and (1, −2, 1) are orthogonal, (1, 0, −1) and (1, 1, −2)
    # have the cosine 3 / √12, whose square it is.
    a, b, c = (np.array([v]).T for v in ([1.0, 0.0, -1.0], [1.0, -2.0, 1.0], [1.0, 1.0, -2.0]))
    assert linear_cka(a, b, debiased=False) == pytest.approx(0, abs=1e-12)
    assert linear_cka(a, c, debiased=False) == pytest.approx(9 / 12)


def test_cka_sees_neither_rotation_nor_offset_nor_scale():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 6))
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    for debiased in (True, False):
        assert linear_cka(x, 3 * x @ turn + 5, debiased) == pytest.approx(1.0)


def test_wide_random_features_look_alike_unless_the_bias_is_taken_out():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 30, 500))
    assert linear_cka(x, y, debiased=False) > 0.9
    assert abs(linear_cka(x, y)) < 0.1


def test_cka_of_features_that_never_change_is_undefined():
    with pytest.raises(ValueError, match="never change"):
        linear_cka(np.ones((6, 2)), np.arange(12.0).reshape(6, 2), debiased=False)
    with pytest.raises(ValueError, match="needs 4 samples"):
        linear_cka(np.ones((3, 2)), np.ones((3, 2)))
