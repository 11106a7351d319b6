import numpy as np
import pytest
import torch

from neurofmx.interpretability import sae


def planted(seed, width=32, size=48, active=3, samples=20_000):
    """Features that are sums of a few of `size` known directions."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(size, width))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    used = np.argsort(rng.random((samples, size)), axis=1)[:, :active]
    z = np.zeros((samples, size))
    np.put_along_axis(z, used, rng.uniform(0.5, 1.5, (samples, active)), axis=1)
    return directions, z @ directions


@pytest.mark.parametrize("seed", [0, 1])
def test_planted_directions_are_found_and_a_frozen_dictionary_does_not_find_them(seed):
    directions, x = planted(seed)
    scaled = sae.Scaling.fit(x)(x)
    params = sae.SAEParams(k=3, steps=500)
    found = sae.fit_sae(scaled, 48, params, seed)
    frozen = sae.fit_sae(scaled, 48, params, seed, frozen=True)
    ours, control = sae.health(found, scaled[:2000]), sae.health(frozen, scaled[:2000])

    assert sae.mmcs(directions, found.dictionary.detach().numpy()) > 0.95
    assert sae.mmcs(directions, frozen.dictionary.detach().numpy()) < 0.5
    assert ours["explained_variance"] > 0.9 > control["explained_variance"] + 0.4
    assert ours["dead"] < 0.05
    assert ours["l0"] <= 3


def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone():
    x = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second = (sae.fit_sae(x, 16, sae.SAEParams(k=2, steps=20), 5) for _ in range(2))

    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.dictionary, second.dictionary)
    torch.testing.assert_close(first.dictionary.norm(dim=1), torch.ones(16))


def test_only_the_largest_positive_scores_are_kept():
    scores = torch.tensor([[3.0, -1.0, 2.0, 1.0], [-1.0, -2.0, 0.5, -3.0]])
    kept = sae.keep_largest(scores, 2)
    torch.testing.assert_close(kept, torch.tensor([[3.0, 0, 2.0, 0], [0, 0, 0.5, 0]]))


def test_the_mean_explains_nothing():
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))
    nothing = sae.TopKSAE(6, 12, k=3)
    with torch.no_grad():
        nothing.encoder.zero_()
        nothing.bias.copy_(x.mean(dim=0))
    health = sae.health(nothing, x)
    assert health["explained_variance"] == pytest.approx(0.0, abs=1e-6)
    assert health["dead"] == 1.0
    assert health["l0"] == 0.0
