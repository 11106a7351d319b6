"""Traces: filters and bands against slow references, and what each is there to find."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import RidgeClassifier

from neurofmx.tokenizers import LFPTokenizer
from neurofmx.tokenizers.filters import BANDS, Bands, Scales

DT, PATCH = 1e-3, 10  # 1 kHz, tokens of 10 ms


def pooled(y, pooling, weights):
    """Over the samples of each token, the slow way."""
    y = y.unflatten(-1, (-1, PATCH))
    return y.amax(-1) if pooling == "max" else (y * weights).sum(-1)


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_scales_are_pooled_convolutions(pooling):
    torch.manual_seed(0)
    scales, x = Scales(PATCH, [3, 5, 7], 2, pooling), torch.randn(4, 6 * PATCH)
    weights = torch.full((PATCH,), 1 / PATCH)
    if pooling == "attention":
        torch.nn.init.normal_(scales.attention)
        weights = scales.attention.softmax(0)
    means, powers = [], []
    for w in scales.filters:
        y = F.conv1d(F.pad(x, (w.shape[1] - 1, 0))[:, None], w.flip(1)[:, None])
        means.append(pooled(y, pooling, weights))
        powers.append(pooled(y**2, pooling, weights).log1p())
    slow = torch.cat(means + powers, dim=1).transpose(1, 2)
    torch.testing.assert_close(scales(x), slow, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_gradients_of_scales_are_those_of_the_convolutions(pooling):
    torch.manual_seed(0)
    scales, x = Scales(PATCH, [3, 7], 2, pooling), torch.randn(4, 6 * PATCH)
    scales(x).square().sum().backward()
    found = [p.grad.clone() for p in scales.parameters()]
    scales.zero_grad()
    weights = torch.full((PATCH,), 1 / PATCH)
    if pooling == "attention":
        weights = scales.attention.softmax(0)
    for w in scales.filters:
        y = F.conv1d(F.pad(x, (w.shape[1] - 1, 0))[:, None], w.flip(1)[:, None])
        mean, power = pooled(y, pooling, weights), pooled(y**2, pooling, weights).log1p()
        (mean.square().sum() + power.square().sum()).backward(retain_graph=True)
    for a, p in zip(found, scales.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad, rtol=1e-3, atol=1e-3)


def periodogram(x: np.ndarray, end: int, low: float, high: float, span: float) -> float:
    """Mean power of the frequencies in [low, high) of the window before sample `end`."""
    size = int(min(span, 4 / low) / DT + 1e-9)
    window = np.r_[np.zeros(size), x][end : end + size]
    taper = np.hanning(size + 1)[:-1]
    power = np.abs(np.fft.rfft(window * taper)) ** 2 / (taper**2).sum()
    frequency = np.fft.rfftfreq(size, DT)
    inside = (frequency >= low - 1e-6) & (frequency < high - 1e-6)
    return power[inside].mean()


def test_bands_are_tapered_periodograms_of_what_came_before():
    x = np.random.default_rng(0).normal(size=800)
    found = Bands(list(BANDS), PATCH, DT, 0.5)(torch.tensor(x, dtype=torch.float32)[None])[0]
    for token in (0, 1, 30, 79):
        expected = [
            np.log1p(periodogram(x, (token + 1) * PATCH, *edges, 0.5)) for edges in BANDS.values()
        ]
        np.testing.assert_allclose(found[token].numpy(), expected, rtol=1e-3, atol=1e-5)


def test_of_white_noise_each_band_is_its_variance():
    torch.manual_seed(0)
    x = 2.0 * torch.randn(400, 1000)
    found = Bands(list(BANDS), PATCH, DT, 0.5)(x)[:, -1].expm1().mean(0)
    np.testing.assert_allclose(found.numpy(), 4.0, rtol=0.2)


@pytest.mark.parametrize(
    ("frequency", "band"), [(2, "delta"), (6, "theta"), (10, "alpha"), (20, "beta"), (60, "gamma")]
)
def test_a_sine_lies_in_its_band(frequency, band):
    time = torch.arange(1000) * DT
    found = Bands(list(BANDS), PATCH, DT, 0.5)(torch.sin(2 * torch.pi * frequency * time)[None])
    assert list(BANDS)[found[0, -1].argmax()] == band


def test_a_band_without_a_frequency_is_zero():
    slow = Bands(list(BANDS), 1, 1.0, 0.5)  # fMRI: one volume a second
    assert torch.equal(slow(torch.randn(2, 30)), torch.zeros(2, 30, 5))
    torch.manual_seed(0)
    pose = Bands(list(BANDS), 3, 1 / 30, 0.5)(torch.randn(2, 60))  # up to 15 Hz
    assert (pose[..., :4] > 0).any(dim=(0, 1)).tolist() == [True, True, True, True]
    assert torch.equal(pose[..., 4], torch.zeros(2, 20))
    assert pose.isfinite().all()


def test_a_window_shorter_than_a_token_ends_with_it():
    """Gamma looks back 133 ms from the end of a token of 400 ms: from sample 267 on, or 667."""
    found = []
    for sample in (266, 300, 666, 700):
        x = torch.zeros(1, 800)
        x[0, sample] = 1.0
        found.append((Bands(["gamma"], 400, DT, 0.5)(x)[0, :, 0] > 0).tolist())
    assert found == [[False, False], [True, False], [False, False], [False, True]]


def test_nothing_of_the_settings_enters_the_state_dict():
    tokenizer = LFPTokenizer(LFPTokenizer.Config(width=8, n_channels=2))
    keys = set(tokenizer.state_dict())
    tokenizer(torch.randn(1, 2, 40))
    assert set(tokenizer.state_dict()) == keys
    assert not [key for key in keys if "bands" in key]


# --- what each part is there to find -----------------------------------------------------------

TRIALS, SAMPLES = 400, 1000


def share_of_trials_told(x: torch.Tensor, label: np.ndarray, **options) -> float:
    """A linear readout of a trial's tokens, fitted on one half and scored on the other."""
    torch.manual_seed(0)
    patch = options.pop("patch", 4)
    options = {"sources": 0} | options  # of one channel they are its rhythms once more
    config = LFPTokenizer.Config(width=64, patch=patch, dt=DT, n_channels=1, **options)
    whole = SAMPLES // patch
    with torch.no_grad():
        tokens = LFPTokenizer(config)(x[:, None, : whole * patch]).tokens
    features, half = tokens[:, whole // 2 :].mean(1).numpy(), TRIALS // 2
    features = (features - features[:half].mean(0)) / (features[:half].std(0) + 1e-6)
    model = RidgeClassifier(1.0).fit(features[:half], label[:half])
    return model.score(features[half:], label[half:])


def rhythm(frequencies: tuple[float, float], size: float) -> tuple[torch.Tensor, np.ndarray]:
    """White noise with a rhythm of random phase: of one frequency in half of the trials, of
    another, equally strong, in the others."""
    rng = np.random.default_rng(0)
    label, time = rng.integers(0, 2, TRIALS), np.arange(SAMPLES) * DT
    phase = rng.uniform(0, 2 * np.pi, TRIALS)
    wave = np.sin(2 * np.pi * np.array(frequencies)[label][:, None] * time + phase[:, None])
    noise = rng.normal(size=(TRIALS, SAMPLES))
    return torch.tensor(size * wave + noise, dtype=torch.float32), label


def test_power_at_20_hz_is_found_by_its_band_and_by_nothing_else():
    x, label = rhythm((20.0, 10.0), 0.5)
    assert share_of_trials_told(x, label) > 0.95
    assert share_of_trials_told(x, label, scales=[]) > 0.95
    assert share_of_trials_told(x, label, bands=[]) < 0.65
    assert share_of_trials_told(x, label, scales=[], bands=[]) < 0.65
    assert share_of_trials_told(x, label, scales=[], bands=["delta", "gamma"]) < 0.65


def test_power_above_every_band_is_found_by_scales():
    x, label = rhythm((120.0, 300.0), 0.4)
    assert share_of_trials_told(x, label, patch=33) > 0.9
    assert share_of_trials_told(x, label, patch=33, scales=[]) < 0.75


def test_arrays_are_channel_by_time():
    tokenizer = LFPTokenizer(LFPTokenizer.Config(width=8, n_channels=3))
    sequence = tokenizer(torch.randn(2, 3, 41))
    assert sequence.tokens.shape == (2, 11, 8)  # the last token is padded
    assert sequence.rate == pytest.approx(250.0)
