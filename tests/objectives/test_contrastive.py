"""Windows of two signals: aligned ones are told, shuffled ones are not."""

import math

import pytest
import torch
import torch.nn.functional as F

from neurofmx.batches import Batch, Cells, ModelOutput
from neurofmx.objectives.contrastive import (
    TEMPERATURE,
    Contrastive,
    ContrastiveThree,
    ContrastiveTime,
)


def sphere(n=32, width=128, seed=0):
    return F.normalize(torch.randn(n, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def given(n, signals, windows=None, lacks=()):
    """Windows of signals; `lacks` are (signal, window)."""
    cells = {}
    for name in signals:
        seen = torch.ones(n, 3, 1, 1, dtype=torch.bool)
        seen[[window for signal, window in lacks if signal == name]] = False
        cells[name] = Cells(torch.zeros(n, 3, 1, 1), seen)
    return Batch({}, {}, ["r"] * n, windows or list(range(n)), cells=cells)


def loss(windows=None, lacks=(), kind=Contrastive, **points):
    """Of signals whose windows lie at these points."""
    n = len(next(iter(points.values())))
    output = ModelOutput(
        torch.zeros(n, 1, 2), {}, {f"contrastive.{name}": z for name, z in points.items()}
    )
    batch = given(n, points, windows, lacks)
    return kind(signals=list(points)).loss(output, batch).item()


def test_two_windows_by_hand():
    """Own points e₁, e₂; the other's are e₁ and (e₁ + e₂) / √2."""
    own, other = torch.eye(2), torch.tensor([[1.0, 0.0], [0.5**0.5, 0.5**0.5]])

    def missed(right, wrong):
        return math.log(1 + math.exp((wrong - right) / TEMPERATURE))

    a = 0.5**0.5
    by_hand = (missed(1, a) + missed(a, 0) + missed(1, 0) + missed(a, a)) / 4
    assert loss(a=own, b=other) == pytest.approx(by_hand / math.log(2), rel=1e-5)


def test_aligned_windows_are_told_and_shuffled_ones_are_not():
    own = sphere()
    near = F.normalize(own + 0.05 * sphere(seed=1), dim=1)
    assert loss(a=own, b=near) < 0.02
    assert loss(a=own, b=near.roll(1, 0)) > 1


@pytest.mark.parametrize("n", [2, 8, 64])
def test_a_guess_leaves_1_whatever_the_number_of_windows(n):
    same = sphere(1).expand(n, -1)
    assert loss(a=same, b=same) == pytest.approx(1.0, rel=1e-5)


def test_only_windows_that_have_both_signals_are_asked():
    own, other = sphere(6), sphere(6, seed=1)
    lacks = [("a", 0), ("b", 3), ("b", 0)]
    kept = [1, 2, 4, 5]
    assert loss(lacks=lacks, a=own, b=other) == pytest.approx(loss(a=own[kept], b=other[kept]))


def test_where_no_pair_can_be_asked_it_is_0():
    own, other = sphere(3), sphere(3, seed=1)
    assert loss(a=own) == 0
    assert loss(a=own[:1], b=other[:1]) == 0
    assert loss(lacks=[("a", 0), ("b", 1)], a=own, b=other) == 0


def test_a_window_is_not_told_from_itself():
    own, other = sphere(4), sphere(4, seed=1)
    twice = [torch.cat([z, z[1:3]]) for z in (own, other)]
    found = loss(windows=[5, 6, 7, 8, 6, 7], a=twice[0], b=twice[1])
    assert found == pytest.approx(loss(a=own, b=other))


def test_it_is_a_mean_over_pairs_of_signals():
    a, b, c = (sphere(5, seed=k) for k in range(3))
    pairs = [loss(x=x, y=y) for x, y in ((a, b), (a, c), (b, c))]
    assert loss(a=a, b=b, c=c) == pytest.approx(sum(pairs) / 3)


def test_a_product_of_three_is_told_and_a_shuffled_one_is_not():
    """Signs: the third is the product of the first two, and alone says nothing of either."""
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randint(0, 2, (32, 128), generator=g) * 2.0 - 1 for _ in range(2))
    a, b, c = (x / 128**0.5 for x in (a, b, a * b))
    assert loss(kind=ContrastiveThree, a=a, b=b, c=c) < 0.01
    assert loss(kind=ContrastiveThree, a=a, b=b, c=c.roll(1, 0)) > 1
    assert loss(a=a, b=c) > 0.9  # pairs know nothing of it


def test_what_comes_next_is_told_by_what_was():
    past = sphere()
    batch = given(32, ["a"])

    def of(later):
        heads = {"past.a": past, "later.a": later}
        output = ModelOutput(torch.zeros(32, 1, 2), {}, heads)
        return ContrastiveTime(signals=["a"]).loss(output, batch).item()

    assert of(past) < 0.02
    assert of(past.roll(1, 0)) > 1
