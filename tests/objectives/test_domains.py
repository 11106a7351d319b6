"""Domains: by hand, against loops, and that what is planted is no longer told."""

import itertools
import math
import statistics

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from neurofmx.batches import Batch, ModelOutput
from neurofmx.models.heads import DomainHead
from neurofmx.objectives.domains import MMD, WIDTHS, Adversarial, Confusion, mmd


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def windows(domains):
    n = len(domains)
    return Batch({}, {}, ["r"] * n, list(range(n)), domains=torch.as_tensor(domains))


def said(latents, classifier):
    """As the model says it: first by detached latents, then by a frozen classifier."""
    heads = {
        "domain.own": classifier(latents.detach()),
        "domain.through": classifier(latents, True),
    }
    return ModelOutput(latents[:, None], {}, heads)


def logits(own, through):
    heads = {"domain.own": torch.tensor(own), "domain.through": torch.tensor(through)}
    return ModelOutput(torch.zeros(len(own), 1, 2), {}, heads)


def test_adversarial_costs_the_classifiers_cross_entropy_by_that_of_guessing():
    output = logits([[0.0, math.log(3.0)], [0.0, 0.0], [5.0, -5.0]], [[9.0, 9.0]] * 3)
    # The first is told with 3/4, the second with 1/2; of the third no domain is known.
    by_hand = (math.log(4 / 3) + math.log(2)) / 2 / math.log(2)
    assert Adversarial().loss(output, windows([1, 0, -1])).item() == pytest.approx(by_hand)


@pytest.mark.parametrize("domains", [2, 3, 10])
def test_a_guess_leaves_1_whatever_the_number_of_domains(domains):
    output = logits([[0.0] * domains] * 2, [[0.0] * domains] * 2)
    assert Adversarial().loss(output, windows([0, 1])).item() == pytest.approx(1)
    assert Confusion().loss(output, windows([0, 1])).item() == pytest.approx(2)


def gradients(objective, batch):
    """Of the latents and of the classifier's weights."""
    torch.manual_seed(0)
    latents, classifier = normal(6, 4).requires_grad_(), DomainHead(4, 3)
    objective.loss(said(latents, classifier), batch).backward()
    return latents.grad, [p.grad for p in classifier.parameters()]


def plain(batch):
    """The same of the classifier's own loss, of which nothing is held constant."""
    torch.manual_seed(0)
    latents, classifier = normal(6, 4).requires_grad_(), DomainHead(4, 3)
    loss = nn.functional.cross_entropy(classifier(latents), batch.domains) / math.log(3)
    loss.backward()
    return latents.grad, [p.grad for p in classifier.parameters()]


@pytest.mark.parametrize("reversal", [0.1, 2.0])
def test_the_latents_gradient_is_reversed_and_the_classifiers_is_its_own(reversal):
    batch = windows([0, 1, 2, 0, 1, 2])
    objective = Adversarial(config=Adversarial.Config(reversal=reversal))
    (latents, weights), (told, learnt) = gradients(objective, batch), plain(batch)
    torch.testing.assert_close(latents, -reversal * told)
    torch.testing.assert_close(weights, learnt)


def test_confusion_teaches_the_classifier_and_leaves_the_latents_undecided():
    batch = windows([0, 1, 2, 0, 1, 2])
    (_, weights), (_, learnt) = gradients(Confusion(), batch), plain(batch)
    torch.testing.assert_close(weights, learnt)
    through = normal(6, 3).requires_grad_()
    optimizer = torch.optim.SGD([through], lr=10.0)
    for _ in range(60):
        output = ModelOutput(
            torch.zeros(6, 1, 2), {}, {"domain.own": torch.zeros(6, 3), "domain.through": through}
        )
        optimizer.zero_grad()
        loss = Confusion().loss(output, batch)
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(through.softmax(1), torch.full((6, 3), 1 / 3), atol=1e-3, rtol=0)
    assert loss.item() == pytest.approx(2, abs=1e-4)


def slow(points, domains):
    """MMD² by loops: means over pairs of windows, the median over all pairs."""
    points = [p for p, d in zip(points.tolist(), domains, strict=True) if d >= 0]
    domains = [d for d in domains if d >= 0]

    def squared(a, b):
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))

    n = len(points)
    pairs = [squared(points[i], points[j]) for i in range(n) for j in range(i)]
    median = statistics.median_low(pairs)

    def kernel(a, b):
        return statistics.mean(math.exp(-squared(a, b) / (2 * w**2 * median)) for w in WIDTHS)

    def between(a, b):
        own = [i for i in range(n) if domains[i] == a]
        other = [j for j in range(n) if domains[j] == b]
        return statistics.mean(kernel(points[i], points[j]) for i in own for j in other if i != j)

    found = []
    names = [d for d in set(domains) if domains.count(d) > 1]
    for a in names:
        found += [between(a, a) + between(b, b) - 2 * between(a, b) for b in names if b < a]
    return statistics.mean(found)


def test_mmd_is_that_of_slow_loops():
    points = normal(12, 3) + torch.linspace(0, 2, 12)[:, None]
    domains = [0, 0, 0, 0, 1, 1, 1, 4, 4, 2, -1, -1]  # of 2 there is one window: it is no sample
    found = mmd(points, torch.tensor(domains)).item()
    assert found == pytest.approx(slow(points, domains), rel=1e-4)


def test_mmd_of_one_distribution_is_0_on_average():
    """A biased estimate, with the pairs of a window and itself, would be 0.015."""
    domains, found = torch.arange(128) % 2, []
    for seed in range(400):
        found.append(mmd(normal(128, 256, seed=seed), domains).item())
    error = statistics.stdev(found) / len(found) ** 0.5
    assert error < 2.5e-5
    assert abs(statistics.mean(found)) < 1e-4
    assert min(found) < 0


def test_mmd_of_two_distributions_grows_with_their_distance():
    domains = torch.arange(200) % 2
    found = [mmd(normal(200, 4) + far * domains[:, None], domains) for far in (0.3, 0.6, 1.2, 2.4)]
    assert found[0] > 1e-3
    assert all(b > 1.5 * a for a, b in itertools.pairwise(found))


def test_mmd_tells_distributions_of_the_same_mean():
    domains = torch.arange(400) % 2
    assert mmd(normal(400, 4) * (1 + domains[:, None]), domains) > 0.02


@pytest.mark.parametrize("domains", [[0, 0, 0], [0, 1, 2], [0, 0, -1], [-1, -1, -1]])
def test_without_two_domains_of_two_windows_there_is_no_distance(domains):
    latents = normal(3, 1, 4).requires_grad_()
    loss = MMD().loss(ModelOutput(latents, {}, {}), windows(domains))
    loss.backward()
    assert loss.item() == 0
    assert not latents.grad.any()


def test_the_objective_is_the_mmd_of_mean_latents_each_window_once():
    latents, domains = normal(6, 5, 4), [0, 1, 0, 1, 0, 1]
    loss = MMD().loss(ModelOutput(latents, {}, {}), windows(domains))
    assert loss.item() == pytest.approx(mmd(latents.mean(1), torch.tensor(domains)).item())
    batch = Batch(
        {}, {}, ["r"] * 8, [0, 1, 2, 3, 4, 5, 0, 3], domains=torch.tensor([*domains, 0, 1])
    )
    twice = torch.cat([latents, latents[[0, 3]]])
    assert MMD().loss(ModelOutput(twice, {}, {}), batch).item() == pytest.approx(loss.item())


STEPS = 300


def planted(n, seed):
    """Content, and beside it an offset that tells the domain."""
    domains = torch.arange(n) % 2
    content, offset = normal(n, 8, seed=seed), 8.0 * domains[:, None] - 4
    return torch.cat([content, offset + normal(n, 1, seed=seed + 1)], 1), content[:, :1], domains


def trained(objective=None, order=None):
    """An encoder whose latents have to tell the content, and not the domain; labels in this order.

    The classifier is the faster of the two, so that it is never far behind the latents.
    """
    torch.manual_seed(0)
    x, content, domains = planted(512, 0)
    domains = domains if order is None else domains[order]
    encoder, readout, classifier = nn.Linear(9, 4), nn.Linear(4, 1), DomainHead(4, 2)
    slow = {"params": [*encoder.parameters(), *readout.parameters()], "lr": 0.01}
    fast = {"params": classifier.parameters(), "lr": 0.05}
    optimizer = torch.optim.Adam([slow, fast], betas=(0.5, 0.98))
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        now = torch.randperm(512)[:128]
        latents = encoder(x[now])
        loss = nn.functional.mse_loss(readout(latents), content[now])
        if objective is not None:
            loss = loss + objective.loss(said(latents, classifier), windows(domains[now]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    return encoder, readout


def probed(encoder, shuffled=False):
    """Of new windows, the share whose domain a probe tells that is fitted to others' latents."""
    (x, _, fitted), (new, _, asked) = planted(1000, 10), planted(1000, 20)
    if shuffled:
        order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
        fitted, asked = fitted[order], asked[order]
    with torch.no_grad():
        return LogisticRegression().fit(encoder(x), fitted).score(encoder(new), asked)


ADVERSARIAL = Adversarial(config=Adversarial.Config(reversal=0.3))


@pytest.mark.parametrize("objective", [ADVERSARIAL, MMD()], ids=["adversarial", "mmd"])
def test_a_planted_domain_is_no_longer_told_while_the_content_is(objective):
    encoder, readout = trained(objective)
    x, content, _ = planted(1000, 30)
    assert probed(encoder) < 0.6
    assert nn.functional.mse_loss(readout(encoder(x)), content) < 0.01


def test_without_an_objective_or_by_shuffled_labels_the_domain_is_told():
    encoder, _ = trained()
    assert probed(encoder) > 0.95
    assert probed(encoder, shuffled=True) < 0.55  # of one who has nothing to learn
    order = torch.randperm(512, generator=torch.Generator().manual_seed(0))
    assert probed(trained(ADVERSARIAL, order)[0]) > 0.95
