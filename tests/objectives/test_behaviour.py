"""Contrast by behaviour: by hand, planted geometry, and which moments are drawn."""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from neurofmx.batches import Batch, Cells, ModelOutput, Moments, Target
from neurofmx.errors import UserError
from neurofmx.objectives.behaviour import ContrastiveBehaviour, drawn
from neurofmx.objectives.contrastive import TEMPERATURE
from neurofmx.objectives.draws import Draws


def loss(points, labels, defined=None, lacks=(), windows=None, **options):
    """Of windows of one signal with a moment each; those in `lacks` have not the signal."""
    n = len(points)
    labels = torch.as_tensor(labels, dtype=torch.float32).reshape(n, -1)
    here = torch.ones(n, dtype=torch.bool) if defined is None else torch.tensor(defined)
    seen = torch.ones(n, 2, 1, 1, dtype=torch.bool)
    seen[list(lacks)] = False
    cells = {"x": Cells(torch.zeros(n, 2, 1, 1), seen)}
    moments = Moments(torch.zeros(n), labels, here)
    ids = list(range(n)) if windows is None else windows
    batch = Batch({}, {}, ["r"] * n, ids, cells=cells, moments=moments)
    objective = ContrastiveBehaviour(signals=["x"], config=ContrastiveBehaviour.Config(**options))
    return objective.loss(ModelOutput(torch.zeros(n, 1, 2), {}, {"moment.x": points}), batch).item()


def on_circle(angles):
    return torch.stack([angles.cos(), angles.sin()], 1)


def test_three_windows_by_hand():
    """Points e₁, e₂ and −e₁; answers 0, 1 and 3, of which σ = 1 apart is alike by e^−½."""
    points = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    far = {(0, 1): 1, (0, 2): 3, (1, 2): 2}  # between answers
    likeness = {(0, 1): 0, (0, 2): -1, (1, 2): 0}  # between points

    def of(i):
        pairs = [(min(i, j), max(i, j)) for j in range(3) if j != i]
        alike = [math.exp(-(far[pair] ** 2) / 2) for pair in pairs]
        near = [math.exp(likeness[pair] / TEMPERATURE) for pair in pairs]
        shares = zip(alike, near, strict=True)
        return -sum(a / sum(alike) * math.log(z / sum(near)) for a, z in shares)

    by_hand = (of(0) + of(1) + of(2)) / 3 / math.log(2)
    assert loss(points, [0, 1, 3], sigma=1.0) == pytest.approx(by_hand, rel=1e-5)


def test_points_that_lie_as_the_answers_do_cost_less_than_shuffled_ones():
    angles = torch.linspace(0, 2 * math.pi, 65)[:-1]
    points, order = (
        on_circle(angles),
        torch.randperm(64, generator=torch.Generator().manual_seed(0)),
    )
    aligned, shuffled = loss(points, points), loss(points, points[order])
    assert aligned < 0.8
    assert shuffled > 1
    assert loss(on_circle(angles + 1), points) == pytest.approx(aligned, rel=1e-4)  # turned round


def test_the_least_is_the_entropy_of_the_weights_by_that_of_guessing():
    """Classes far apart: of 8 windows the 3 of the same class are alike, each with 1/3."""
    labels = torch.arange(8) % 2
    points = F.one_hot(labels, 2).float()
    assert loss(points, labels, sigma=0.1) == pytest.approx(math.log(3) / math.log(7), rel=1e-3)


@pytest.mark.parametrize("n", [3, 8, 64])
def test_a_guess_leaves_1_whatever_the_number_of_windows(n):
    same = torch.tensor([[1.0, 0.0]]).expand(n, -1)
    assert loss(same, torch.linspace(0, 5, n)) == pytest.approx(1, rel=1e-5)


def test_only_windows_that_have_an_answer_and_the_signal_are_asked():
    angles = torch.tensor([0.1, 0.9, 2.0, 3.3, 4.0, 5.5])
    points, kept = on_circle(angles), [1, 2, 4]
    some = loss(points, angles, [False, True, True, True, True, False], lacks=[3])
    assert some == pytest.approx(loss(points[kept], angles[kept]), rel=1e-5)
    assert loss(points, angles, [True] + [False] * 5) == 0


def test_a_window_that_comes_twice_counts_once():
    angles = torch.tensor([0.1, 0.9, 2.0, 0.1])
    found = loss(on_circle(angles), angles, windows=[5, 6, 7, 5])
    assert found == pytest.approx(loss(on_circle(angles[:3]), angles[:3]), rel=1e-5)


def target(kind, values, mask, n):
    """The same queries of many windows, 0.1 s apart."""
    values = torch.tensor(values).expand(n, -1, -1)
    times = 0.1 * torch.arange(values.shape[1]).expand(n, -1)
    return Target(kind, values, times, torch.tensor(mask).expand(n, -1))


def test_a_moment_is_each_answered_query_alike_often_and_never_another():
    n, mask = 6000, [False, True, True, False, True]
    values = [[math.nan], [1.0], [2.0], [math.nan], [4.0]]
    found = drawn(target("regression", values, mask, n), Draws(torch.arange(n)))
    often = found.labels[:, 0].long().bincount(minlength=5)
    assert often[[0, 3]].tolist() == [0, 0]
    assert stats.chisquare(often[[1, 2, 4]]).pvalue > 0.01
    assert torch.equal(found.times, 0.1 * found.labels[:, 0])  # of the same query
    assert found.defined.all()


def test_a_window_without_an_answer_has_no_moment():
    nothing = target("regression", [[math.nan], [math.nan]], [False, False], 3)
    found = drawn(nothing, Draws(torch.arange(3)))
    assert not found.defined.any()
    assert found.labels.isfinite().all()


def test_angles_are_points_on_the_circle():
    found = drawn(target("circular", [[math.pi / 2]], [True], 1), Draws(torch.arange(1)))
    torch.testing.assert_close(found.labels, torch.tensor([[0.0, 1.0]]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("tasks", "task", "message"),
    [
        (["speed", "cue"], "place", "by the task 'place', which is not there.*speed, cue"),
        ([], "", "choose from none: the card has no task"),
    ],
)
def test_a_task_that_is_not_there_is_refused(tasks, task, message):
    objective = ContrastiveBehaviour(tasks, config=ContrastiveBehaviour.Config(task=task))
    with pytest.raises(UserError, match=message):
        objective.prepare(Batch({}, {}, ["r"], [0]), Draws(torch.arange(1)))


def test_the_first_task_is_taken_where_none_is_named():
    one = target("regression", [[1.0]], [True], 1)
    other = target("regression", [[2.0]], [True], 1)
    batch = Batch({}, {"one": one, "other": other}, ["r"], [0])
    for named, label in (("", 1.0), ("other", 2.0)):
        config = ContrastiveBehaviour.Config(task=named)
        objective = ContrastiveBehaviour(["one", "other"], config=config)
        assert objective.prepare(batch, Draws(torch.arange(1))).moments.labels.item() == label
