"""What channels do together, against numpy and against what is planted."""

import numpy as np
import pytest
import torch

from neurofmx.tokenizers.spatial import FLOOR, Spatial, mixtures

DT, PATCH, SPAN, K = 1 / 64, 8, 6, 4
LAST = slice(-SPAN * PATCH, None)


def told(x, spatial=None, seen=None, mix=None):
    """Features of every token of channels in time."""
    spatial = spatial or Spatial(K, PATCH, DT, SPAN)
    cells = torch.as_tensor(x).float().reshape(1, -1, PATCH, x.shape[1]).transpose(2, 3)
    seen = torch.ones_like(cells, dtype=torch.bool) if seen is None else seen
    mix = torch.eye(x.shape[1], K)[None] if mix is None else mix
    return spatial(cells, seen, mix)[0].numpy()


@pytest.fixture
def traces():
    return np.random.default_rng(0).normal(size=(10 * PATCH, K)) @ np.diag([1.0, 2.0, 0.5, 1.0])


def covariance(x):
    s = x.T @ x / len(x)
    return s + FLOOR * np.trace(s) / K * np.eye(K)


def test_they_are_of_the_covariance_of_differences(traces):
    root = np.linalg.cholesky(covariance(np.diff(traces, axis=0)[LAST]))
    logs = np.log(np.diag(root))
    rows = root / np.linalg.norm(root, axis=1, keepdims=True)
    expected = np.r_[logs.mean(), logs - logs.mean(), rows[np.tril_indices(K, -1)]]
    np.testing.assert_allclose(told(traces)[-1, : len(expected)], expected, atol=1e-5)


def test_frequencies_are_by_the_largest_canonical_correlation(traces):
    spatial = Spatial(K, PATCH, DT, SPAN)
    x = np.diff(traces, axis=0)[LAST]
    inverse, t, expected = np.linalg.inv(covariance(x)), np.arange(len(x)) * DT, []
    for f in spatial.frequencies:
        wave = np.stack([np.cos(2 * np.pi * f * t), np.sin(2 * np.pi * f * t)], 1)
        e = np.sqrt(2) * x.T @ wave / len(x)
        expected.append(np.log(np.linalg.eigvalsh(e.T @ inverse @ e).max()))
    expected = np.array(expected) - np.mean(expected)
    np.testing.assert_allclose(told(traces)[-1, -len(expected) :], expected, atol=1e-4)
    assert spatial.frequencies[0] == pytest.approx(1 / (SPAN * PATCH * DT))
    assert spatial.frequencies[-1] < 0.5 / DT


def test_a_rhythm_is_named_in_any_mixture_of_channels():
    rng = np.random.default_rng(1)
    spatial = Spatial(K, PATCH, DT, 32)
    t = np.arange(32 * PATCH) * DT
    for f in (7.0, 17.0):
        sources = rng.normal(size=(len(t), K))
        sources[:, 0] += 2 * np.sin(2 * np.pi * f * t)
        found = told(sources @ rng.normal(size=(K, K)), spatial)[-1, -len(spatial.frequencies) :]
        assert spatial.frequencies[int(found.argmax())] == f
        # What was planted is far above what noise alone has anywhere.
        assert np.diff(np.sort(found)[-2:])[0] > 0.5


def test_little_is_told_of_little(traces):
    cells = torch.as_tensor(traces).float().reshape(1, -1, PATCH, K).transpose(2, 3)
    seen = torch.ones_like(cells, dtype=torch.bool)
    seen[:, :5] = False
    found = told(traces, seen=seen)
    assert not found[:5].any()
    # The first difference of the stretch has no sample before it.
    share = [(k * PATCH - 1) / (SPAN * PATCH) for k in (1, 5)]
    size = np.abs(found[[5, 9]]).sum(1)
    whole = np.abs(told(traces)[9]).sum()
    assert size[0] / whole < 10 * share[0] ** 3 < size[1] / whole


def test_signals_too_slow_for_any_wave_have_their_covariance():
    spatial = Spatial(K, 1, 2.5, 30)
    assert spatial.frequencies == []
    x = torch.randn(1, 12, 6, 1, generator=torch.Generator().manual_seed(0))
    found = spatial(x, torch.ones_like(x, dtype=torch.bool), mixtures(torch.arange(1, 7)[None], K))
    assert found.shape == (1, 12, spatial.n_features)
    assert found.isfinite().all()


def test_channels_that_never_move_are_told_as_finite_numbers():
    x = np.ones((10 * PATCH, K))
    assert np.isfinite(told(x)).all()


def test_channels_that_are_not_known_enter_as_those_of_their_region():
    ids, regions = torch.tensor([[9, 0, 0]]), torch.tensor([[0, 2, 3]])
    mix = mixtures(ids, K, regions)[0]
    assert mix.tolist() == torch.eye(K)[[(9 - 1) % K, 1, 2]].tolist()


def test_many_channels_share_mixtures_with_both_signs():
    mix = mixtures(torch.arange(1, 12)[None], K)[0]
    assert mix[:4].tolist() == torch.eye(4).tolist()
    assert (mix[4:8] == -mix[:4]).all()
    assert (mix[8:] == mix[:3]).all()
