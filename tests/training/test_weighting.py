"""How losses become one: optima worked out by hand, and planted losses that pull unlike."""

import math

import pytest
import torch

from neurofmx.training.weighting import Fixed, GradNorm, Uncertainty

ASKED = torch.tensor([1.0, 1.0])


def test_fixed_is_the_weighted_sum():
    losses, weights = torch.tensor([2.0, 3.0, 5.0]), torch.tensor([1.0, 0.5, 0.0])
    assert Fixed()(losses, weights, [], 1.0).item() == 2 + 1.5


def test_uncertainty_of_a_hand_computed_case():
    weighting = Uncertainty(2)
    weighting.log_variance.data = torch.tensor([2.0, 1.0]).log()
    found = weighting(torch.tensor([4.0, 3.0]), torch.tensor([1.0, 0.1]), [], 1.0)
    assert found.item() == pytest.approx((4 / 2 + math.log(2)) + 0.1 * 3)


def learnt(losses, weights, steps=150):
    """s where the losses stay as they are."""
    weighting = Uncertainty(len(losses))
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.2)
    for _ in range(steps):
        optimizer.zero_grad()
        weighting(torch.tensor(losses), torch.tensor(weights), [], 1.0).backward()
        optimizer.step()
    return weighting.log_variance.detach()


def test_uncertainty_learns_the_logarithm_of_each_loss():
    losses = [0.2, 1.0, 5.0]
    expected = torch.tensor(losses).log()
    torch.testing.assert_close(learnt(losses, [1.0] * 3), expected, atol=1e-3, rtol=0)
    # A weight that is given does not move where it is learnt to, only how fast.
    torch.testing.assert_close(learnt(losses, [0.5, 2.0, 1.0]), expected, atol=1e-3, rtol=0)


def test_the_weight_of_a_loss_that_falls_below_0_does_not_grow_without_end():
    found = learnt([-0.4, 1.0], [1.0, 1.0])
    assert found.tolist() == pytest.approx([math.log(Uncertainty.LEAST), 0], abs=1e-2)


def test_parts_of_a_step_add_up_to_the_whole():
    losses, weights = torch.tensor([2.0, 3.0]), torch.tensor([1.0, 0.5])
    weighting = Uncertainty(2)
    weighting.log_variance.data = torch.tensor([0.7, -0.3])
    whole = weighting(losses, weights, [], 1.0)
    first, second = torch.tensor([0.5, 2.5]), torch.tensor([1.5, 0.5])
    parts = weighting(first, weights, [], 0.25) + weighting(second, weights, [], 0.75)
    assert parts.item() == pytest.approx(whole.item())


def quadratic(features, scales):
    """Losses whose gradients at the features are in these proportions."""
    return torch.stack([scale * (features - 3).square().sum() for scale in scales])


def balanced(scales, told=lambda step: [1.0, 1.0], steps=250, weights=(1.0, 1.0)):
    """A GradNorm that has seen steps at which losses are told as `told` says."""
    weighting, found = GradNorm(2), []
    for step in range(steps):
        features = torch.ones(4, 2, requires_grad=True)
        weighting(quadratic(features, scales), torch.tensor(weights), [features], 1.0)
        weighting.learn(torch.tensor(told(step)), ASKED)
        found.append(weighting.values.clone())
    return weighting, torch.stack(found[-50:]).mean(0)


def test_gradnorm_brings_losses_of_unlike_gradients_to_pull_alike():
    _, values = balanced([3.0, 1.0])
    assert values.tolist() == pytest.approx([0.5, 1.5], rel=0.1)  # with a mean of 1
    _, values = balanced([1.0, 1.0], weights=[1.0, 0.25])
    assert values.tolist() == pytest.approx([0.4, 1.6], rel=0.1)  # the weight that is given counts


def test_gradnorm_pulls_harder_at_a_loss_that_falls_slower():
    """One falls to a quarter: relative rates 0.4 and 1.6, and pulls as their powers of α."""
    _, values = balanced([1.0, 1.0], told=lambda step: [1.0, 1.0] if step == 0 else [0.25, 1.0])
    pulls = torch.tensor([0.4, 1.6]) ** GradNorm.ALPHA
    assert values.tolist() == pytest.approx((2 * pulls / pulls.sum()).tolist(), abs=0.05)


def test_the_mean_weight_stays_1_and_what_is_not_asked_keeps_its_own():
    weighting = GradNorm(3)
    for _ in range(50):
        features = torch.ones(4, requires_grad=True)
        losses = quadratic(features, [1.0, 9.0, 1.0]) * torch.tensor([1.0, 1.0, 0.0])
        weighting(losses, torch.ones(3), [features], 1.0)
        weighting.learn(torch.tensor([1.0, 1.0, 0.0]), torch.tensor([1.0, 1.0, 0.0]))
    assert weighting.values.mean().item() == pytest.approx(1)
    assert weighting.values[2] == 1
    assert weighting.values[0] > 1.5


def test_of_a_loss_below_0_gradnorm_says_that_it_has_fallen_far_and_no_more():
    """That of a regression falls so when it is told well: relative rates 0.1 / 0.55, 1 / 0.55."""
    _, values = balanced([1.0, 1.0], told=lambda step: [1.0, 1.0] if step == 0 else [-0.4, 1.0])
    pulls = torch.tensor([0.1, 1.0]) ** GradNorm.ALPHA
    assert values.tolist() == pytest.approx((2 * pulls / pulls.sum()).tolist(), abs=0.05)


def test_of_a_loss_that_begins_below_0_gradnorm_can_tell_no_rate():
    _, values = balanced([3.0, 1.0], told=lambda step: [-0.2 - 0.001 * step, 1.0])
    assert values.tolist() == pytest.approx([0.5, 1.5], rel=0.1)


def test_what_gradnorm_sees_of_parts_of_a_step_is_what_it_sees_of_the_whole():
    features = torch.linspace(-1, 2, 12).reshape(6, 2)
    whole, parts = GradNorm(2), GradNorm(2)
    for weighting, cuts in ((whole, [features]), (parts, [features[:2], features[2:]])):
        for part in cuts:
            part = part.clone().requires_grad_()
            weighting(quadratic(part, [3.0, 1.0]), torch.ones(2), [part], len(part) / 6)
    torch.testing.assert_close(parts.norms, whole.norms)


def test_looking_at_the_valid_split_moves_nothing():
    weighting = GradNorm(2).eval()
    features = torch.ones(4, requires_grad=True)
    weighting(quadratic(features, [3.0, 1.0]), torch.ones(2), [features], 1.0)
    weighting.learn(torch.ones(2), ASKED)
    assert weighting.values.tolist() == [1, 1]


def test_what_gradnorm_has_learnt_survives_a_checkpoint():
    weighting, _ = balanced([3.0, 1.0], steps=20)
    again = GradNorm(2)
    again.load_state_dict(weighting.state_dict())
    for one in (weighting, again):
        features = torch.ones(4, 2, requires_grad=True)
        one(quadratic(features, [3.0, 1.0]), torch.ones(2), [features], 1.0)
        one.learn(torch.tensor([0.5, 0.9]), ASKED)
    assert torch.equal(again.values, weighting.values)
    assert torch.equal(again.first, weighting.first)
