"""What a trace does within a token at several scales, and in which bands its power lies.

Both read a token's samples and those before it, never a later one; before the window there are
zeros.

**Scales.** A filter w of k taps gives  y(s) = Σ_i w_i x(s − i), and a token the weighted mean of y
and of y² over its samples, Σ_s a_s y(s) and Σ_s a_s y(s)². Neither needs y: with

    G_ij = Σ_s a_s x(s − i) x(s − j)

the second is Σ_ij w_i G_ij w_j, and G does not depend on w. So training goes through G, which is
smaller than y by the length of a token, and y is held only where its largest value is asked for.

**Bands.** Power spectrum of the W samples that end with the token under a Hann taper h,

    P(f) = |Σ_s h(s) x(s) exp(−2πi f s)|² / Σ h²

averaged over the frequencies f = k / (W dt) of the band: of white noise it is the variance. W is
four periods of the band's lowest frequency, but at most `span`, so that fast bands are seen fast.

Source: kernels of several lengths side by side, Szegedy et al. 2014, arXiv:1409.4842, for EEG
Santamaría-Vázquez et al. 2020, doi:10.1109/TNSRE.2020.3048106; tapered spectra, Percival & Walden
1993, "Spectral Analysis for Physical Applications".
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Float
from torch import Tensor, nn

Pooling = Literal["mean", "max", "attention"]
Band = Literal["delta", "theta", "alpha", "beta", "gamma"]
BANDS: dict[Band, tuple[float, float]] = {  # Hz, half-open
    "delta": (1.0, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "gamma": (30.0, 100.0),
}
PERIODS = 4  # of a band's lowest frequency in its window


class Scales(nn.Module):
    """Learned filters of several lengths, each described by a mean and a log power per token.

    Args:
        patch: Samples per token.
        kernels: Lengths of the filters (samples), at least one.
        n_filters: Filters of each length.
        pooling: Over a token's samples: their mean, the largest, or a mean by learned weights.
    """

    def __init__(self, patch: int, kernels: list[int], n_filters: int, pooling: Pooling):
        super().__init__()
        self.patch, self.taps, self.pooling = patch, max(kernels), pooling
        self.filters = nn.ParameterList(
            [nn.Parameter(torch.randn(n_filters, k) * k**-0.5) for k in kernels]
        )
        if pooling == "attention":
            self.attention = nn.Parameter(torch.zeros(patch))

    @property
    def reach(self) -> int:
        """Samples before a token that are read."""
        return self.taps - 1

    def forward(
        self, x: Float[Tensor, "series time"], before: int = 0
    ) -> Float[Tensor, "series token feature"]:
        """Means and log(1 + powers); the series are whole tokens long, in float32.

        Args:
            before: Tokens at the start that are only read.
        """
        filters = torch.cat([F.pad(w.float(), (0, self.taps - w.shape[1])) for w in self.filters])
        # As much again as a filter reads, for its products.
        x = F.pad(x, (2 * self.taps - 2, 0))[:, before * self.patch :]
        mean, power = self._largest(x, filters) if self.pooling == "max" else self._mean(x, filters)
        return torch.cat([mean, power.clamp(min=0).log1p()], dim=1).transpose(1, 2)

    def _largest(self, x: Tensor, filters: Tensor) -> tuple[Tensor, Tensor]:
        x = x[:, None, self.taps - 1 :]
        y = F.conv1d(x, filters.flip(-1)[:, None]).unflatten(-1, (-1, self.patch))
        return y.amax(-1), y.square().amax(-1)

    def _mean(self, x: Tensor, filters: Tensor) -> tuple[Tensor, Tensor]:
        weights = x.new_full((self.patch,), 1 / self.patch)
        if self.pooling == "attention":
            weights = self.attention.float().softmax(0)
        # Row i holds the weights of x(s − i), i samples before those of x(s).
        rows = [F.pad(weights, (self.taps - 1 - i, i)) for i in range(self.taps)]
        moved, length = torch.stack(rows)[:, None], x.shape[1] - self.taps + 1

        def pooled(z: Tensor) -> Tensor:
            return F.conv1d(z[:, None], moved, stride=self.patch)

        late, lags = x[:, -length:], range(self.taps)
        gram = torch.cat([pooled(late * x[:, -length - d :][:, :length]) for d in lags], dim=1)
        # w_i w_{i+d}, twice but for d = 0, since G is symmetric.
        pairs = [(2 - (d == 0)) * filters * F.pad(filters[:, d:], (0, d)) for d in lags]
        mean = einsum(filters, pooled(late), "f i, n i t -> n f t")
        return mean, einsum(torch.cat(pairs, dim=1), gram, "f i, n i t -> n f t")


class Bands(nn.Module):
    """Log power of bands up to and with each token; 0 where no frequency falls in.

    Args:
        names: Rows of `BANDS`.
        patch: Samples per token.
        dt: Duration of a sample (s).
        span: Longest window (s).
    """

    def __init__(self, names: list[Band], patch: int, dt: float, span: float):
        super().__init__()
        self.patch = patch
        self.counts: dict[int, list[int]] = {}  # of waves of each band, by length of the window
        by_length: dict[int, list[Tensor]] = {}
        for low, high in (BANDS[name] for name in names):
            size = max(1, int(min(span, PERIODS / low) / dt + 1e-9))
            by_length.setdefault(size, []).append(_waves(size, dt, low, high))
        for size, waves in by_length.items():
            self.counts[size] = [len(w) for w in waves]
            # Not persistent: it follows from the settings, and is not a weight.
            self.register_buffer(f"waves_{size}", torch.cat(waves), persistent=False)

    @property
    def reach(self) -> int:
        """Samples before a token that are read."""
        return max(0, max(self.counts) - self.patch)

    def forward(
        self, x: Float[Tensor, "series time"], before: int = 0
    ) -> Float[Tensor, "series token feature"]:
        """Log(1 + power); the series are whole tokens long, in float32.

        Args:
            before: Tokens at the start that are only read.
        """
        powers = []
        for size, counts in self.counts.items():
            # A window shorter than a token begins in it: then the pad is negative, and crops.
            window = F.pad(x, (size - self.patch, 0))[:, None, before * self.patch :]
            waves = getattr(self, f"waves_{size}").float()
            answers = x.new_zeros(len(x), 0, x.shape[1] // self.patch - before)
            if len(waves):
                answers = F.conv1d(window, waves, stride=self.patch)
            powers += [found.square().sum(1) for found in answers.split(counts, dim=1)]
        return torch.stack(powers, dim=-1).log1p()


def _waves(size: int, dt: float, low: float, high: float) -> Float[Tensor, "wave 1 sample"]:
    """Tapered cosines and sines at a window's frequencies in [low, high), scaled as P is."""
    number = torch.arange(1, size // 2 + 1, dtype=torch.float64)
    frequency = number / (size * dt)
    chosen = number[(frequency >= low - 1e-6) & (frequency < high - 1e-6)]
    angle = 2 * math.pi / size * chosen[:, None] * torch.arange(size, dtype=torch.float64)
    taper = torch.hann_window(size, dtype=torch.float64)
    waves = torch.cat([angle.cos(), angle.sin()]) * taper
    return (waves / (taper.square().sum() * max(1, len(chosen))).sqrt()).float()[:, None]
