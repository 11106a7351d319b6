"""NDT and LFADS: rates that were planted are found behind the counts."""

import numpy as np
import pytest
import torch
from oscillating import oscillating, pose, spec
from scipy.ndimage import gaussian_filter1d

from neurofmx.evaluation.baselines import BaselineParams, networks
from neurofmx.evaluation.baselines.base import NetworkParams
from neurofmx.evaluation.baselines.lfads import LFADS, PRIOR, Gaussian, Variational
from neurofmx.evaluation.baselines.ndt import HIDDEN, NDT, SWAPPED, Masked
from neurofmx.evaluation.baselines.sequences import sequences

GIVEN = NetworkParams(steps=60, batch_size=16, chunk=1.0, lr=1e-2)
PARAMS = BaselineParams(networks=GIVEN)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Sequences of counts of a turning state, the counts and their rates."""
    torch.set_num_threads(1)
    made, _, rates = oscillating(n=2000)
    card = spec()
    asked = pose(tmp_path_factory.mktemp("planted") / "shards", made, card, "velocity")
    data = sequences(asked, 25.0)
    return data, data.counts(card), rates


def found_on_test(data, rates, true):
    """Median correlation over units of log rates on the test bins."""
    bins = data.bins(["test"])
    a, b = np.log(rates[bins] + 1e-6), np.log(true[bins])
    return np.median([np.corrcoef(x, y)[0, 1] for x, y in zip(a.T, b.T, strict=True)])


def smoothed(data, counts, true):
    """What the best Gaussian finds, its width chosen by the truth itself."""
    widths = (1.0, 2.0, 3.0, 4.0, 6.0)
    return max(
        found_on_test(data, gaussian_filter1d(counts.astype(float), w, axis=0), true)
        for w in widths
    )


def mean_of(data, counts):
    return counts[data.bins(["train"])].mean(axis=0)


def trained(learner, data):
    for _ in networks.train(learner, data, ("train",), GIVEN, (GIVEN.steps, GIVEN.steps), 1):
        pass
    return learner


def test_ndt_finds_planted_rates(planted):
    data, counts, true = planted
    torch.manual_seed(0)
    network = NDT(mean_of(data, counts), 32, 0.1, networks.chunk_length(data, GIVEN))
    learner = trained(Masked(data, counts, network, ("train",), PARAMS), data)
    assert found_on_test(data, learner.rates("test"), true) > smoothed(data, counts, true) + 0.05


def test_lfads_finds_planted_rates(planted):
    data, counts, true = planted
    torch.manual_seed(0)
    learner = Variational(
        data, counts, LFADS(mean_of(data, counts), 32, 0.0, False), ("train",), PARAMS
    )
    rates = trained(learner, data).found("test", rates=True)
    assert found_on_test(data, rates, true) > smoothed(data, counts, true) + 0.05


def test_ndt_never_sees_what_it_is_asked(planted):
    data, counts, _ = planted
    unique = 1.0 + np.arange(counts.size, dtype=np.float32).reshape(counts.shape)
    seen = []

    class Spy(NDT):
        def forward(self, counts, bins):
            seen.append(counts)
            return torch.zeros_like(counts)

    learner = Masked(data, unique, Spy(mean_of(data, counts), 8, 0.0, 40), ("train",), PARAMS)
    first, end = data.asked["train"].runs[0]
    bins = torch.cat([torch.arange(first, end), torch.full((5,), -1)]).repeat(4, 1)
    torch.manual_seed(0)
    loss = learner.loss(bins)
    truth, shown = learner.counts[bins], seen[0]
    changed = (shown != truth) & (bins >= 0)[..., None]
    share = changed.sum() / ((bins >= 0).sum() * truth.shape[-1])
    assert share == pytest.approx(HIDDEN, abs=0.02)
    assert (shown[changed] != 0).float().mean() == pytest.approx(SWAPPED, abs=0.03)
    # Log rates of 0 cost 1 − 0 · c = 1 for every count, so only what is scored could differ.
    assert loss.item() == pytest.approx(1.0)


def test_a_gaussian_like_its_prior_costs_nothing():
    gaussian = Gaussian(3, 2).eval()
    torch.nn.init.zeros_(gaussian.line.weight)
    torch.nn.init.zeros_(gaussian.line.bias)
    mean, cost = gaussian(torch.ones(4, 3))
    assert mean.tolist() == [[0.0, 0.0]] * 4
    assert cost.abs().max() < 1e-5  # its variance is PRIOR and LEAST
    with torch.no_grad():
        gaussian.line.bias[0] = 1.0  # one mean 1: half of 1 / PRIOR
    assert gaussian(torch.ones(1, 3))[1].item() == pytest.approx(0.5 / PRIOR, rel=1e-3)


def test_lfads_lets_the_divergence_in_by_and_by(planted):
    data, counts, _ = planted
    torch.manual_seed(0)
    network = LFADS(mean_of(data, counts), 8, 0.0, True).eval()
    learner = Variational(data, counts, network, ("train",), PARAMS)
    bins = torch.arange(*data.asked["train"].runs[0][:1], 40 + data.asked["train"].runs[0][0])[None]
    losses = [learner.loss(bins).item() for _ in range(3)]
    assert losses[1] - losses[0] == pytest.approx(losses[2] - losses[1], rel=1e-3)
    assert losses[0] < losses[1]
