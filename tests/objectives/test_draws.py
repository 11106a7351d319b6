"""Random numbers of windows: the published hash, alike distributed, and nobody's neighbours'."""

import numpy as np
import pytest
import torch
from scipy import stats

from neurofmx.objectives.draws import Draws

MANY = 200_000
WORD = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def draws(*seeds):
    return Draws(torch.tensor(seeds))


def alike_often(numbers, cells):
    """Of a χ² test that all whole numbers below `cells` are."""
    return stats.chisquare(np.bincount(numbers, minlength=cells)).pvalue


def mixed(z):
    """SplitMix64's finaliser in Python's whole numbers."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return z ^ (z >> 31)


def test_the_reference_gives_the_published_numbers_of_splitmix64():
    """Of the seed 1234567: the test vector of its C code (Vigna 2015)."""
    found = [mixed((1234567 + k * GOLDEN) & WORD) for k in (1, 2, 3)]
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_numbers_are_those_of_the_reference_on_every_device(device):
    seeds, crc = [0, 1, 2**63 - 1, -5], 0x352441C2  # CRC-32 of "abc", as its catalogues have it
    found = Draws(torch.tensor(seeds, device=device)).uniform("abc", 2, 3)
    for seed, window in zip(seeds, found.tolist(), strict=True):
        start = mixed((mixed(seed & WORD) + crc) & WORD)
        for i in range(2):
            row = mixed((start + (i + 1) * GOLDEN) & WORD)
            place = [mixed((row + (j + 1) * GOLDEN) & WORD) for j in range(3)]
            assert window[i] == [(z >> 11) / 2**53 for z in place]


def test_a_window_draws_the_same_whatever_its_neighbours_and_its_place():
    alone = draws(7).uniform("x", 5)
    assert torch.equal(draws(7, 1, 2).uniform("x", 5)[:1], alone)
    assert torch.equal(draws(3, 1, 2, 7).uniform("x", 5)[3:], alone)


def test_a_window_draws_the_same_however_far_it_is_padded():
    few, many = draws(7, 8).normal("x", 3, 4), draws(7, 8).normal("x", 9, 5)
    assert torch.equal(many[:, :3, :4], few)


def test_numbers_of_a_window_are_uniform():
    found = draws(3).uniform("x", MANY)[0].numpy()
    assert found.min() >= 0
    assert found.max() < 1
    assert alike_often((found * 1000).astype(int), 1000) > 0.01
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_first_numbers_of_windows_with_neighbouring_seeds_are_uniform():
    found = Draws(torch.arange(MANY)).uniform("x")
    assert alike_often((found * 1000).long(), 1000) > 0.01


def test_normal_numbers_have_its_moments_and_tails():
    found = draws(4).normal("noise", 5, MANY).flatten().numpy().astype(float)
    n = len(found)
    assert abs(found.mean()) < 4 / n**0.5
    assert abs(found.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs(stats.skew(found)) < 4 * (6 / n) ** 0.5
    assert abs(stats.kurtosis(found)) < 4 * (24 / n) ** 0.5
    for far in (2, 3, 4):
        expected = stats.norm.sf(far)
        for side in (found > far, found < -far):
            assert side.mean() == pytest.approx(expected, abs=4 * (expected / n) ** 0.5)
    assert stats.kstest(found, "norm").pvalue > 0.01


@pytest.mark.parametrize("below", [2, 7, 30])
def test_whole_numbers_are_chosen_alike_often(below):
    found = Draws(torch.arange(MANY)).chosen("which", torch.full((MANY,), below))
    assert found.max() == below - 1
    assert alike_often(found, below) > 0.01


def test_each_place_is_chosen_below_a_number_of_its_own():
    number = torch.tensor([[0, 1, 5], [3, 0, 1]]).repeat(1000, 1)
    found = Draws(torch.arange(2000)).chosen("which", number)
    assert (found >= 0).all()
    assert (found[number == 0] == 0).all()
    assert ((found < number) | (number == 0)).all()
    assert found.amax(0).tolist() == [2, 0, 4]


def correlated(a, b):
    """Correlation in standard errors."""
    return abs(np.corrcoef(a.flatten(), b.flatten())[0, 1]) * a.numel() ** 0.5


def test_streams_of_different_names_are_independent():
    some = Draws(torch.arange(1000))
    assert correlated(some.uniform("channel x", 200), some.uniform("channel y", 200)) < 4
    assert correlated(some.uniform("a", 200), some.uniform("b", 200)) < 4


def test_windows_and_places_beside_each_other_are_independent():
    found = Draws(torch.arange(200)).uniform("x", 30, 30)
    assert correlated(found[1:], found[:-1]) < 4
    assert correlated(found[:, 1:], found[:, :-1]) < 4
    assert correlated(found[:, :, 1:], found[:, :, :-1]) < 4
    upper = torch.triu_indices(30, 30, 1)
    assert correlated(found[:, *upper], found[:, *upper.flip(0)]) < 4  # nor is it symmetric
