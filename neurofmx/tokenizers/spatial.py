"""What channels do together: their covariance, and how much of it turns at each frequency.

Channels enter as K mixtures z of them, so that any number can come, and in first differences, which
whiten the spectrum of most traces. Of the last tokens, `span` of them with n differences in all,

    S = Σ_s z zᵀ / n = R Rᵀ        λ(f) = max_u ρ²(u · z; cos 2πfs, sin 2πfs)

log R_ii and the rows of R as directions hold what a classifier of covariance matrices sees: R is a
Cholesky factor, in which distances along the curved space of covariances are nearly plain. λ(f) is
the largest squared canonical correlation of z with a wave of frequency f and any phase: it names a
rhythm that the eyes follow, whatever the mixture of channels, without a template. With
E(f) = √2 Σ_s z (cos 2πfs, sin 2πfs) / n it is the larger eigenvalue of Eᵀ S⁻¹ E, 2 × 2.

Nothing here is learned. A token that has seen a share q of the span has its features times q³:
what is known of few samples is mostly noise, by which a few trials would be learned by heart.

Source: log-Cholesky metric, Lin 2019, doi:10.1137/18M1221084; covariances as features, Barachant et
al. 2012, doi:10.1109/TBME.2011.2172210; canonical correlation with waves, Lin et al. 2006,
doi:10.1109/TBME.2006.886577.
"""

import math

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

WAVES = 45  # frequencies at most
APART = 1.0  # Hz between them at least; more where the span resolves less
FLOOR = 1e-3  # of the mean variance, added to each
LEAST = 1e-6  # mean variance: a constant channel has none
FAINTEST = 1e-5  # λ that is told from none
TINY = 1e-12
SHRINK = 3  # power of the share of the span that was seen


class Spatial(nn.Module):
    """Features of all channels of a token and those before it; 0 where nothing was seen.

    Args:
        sources: K, mixtures of channels.
        patch: Samples per token.
        dt: Duration of a sample (s).
        span: Tokens that are described together.
    """

    def __init__(self, sources: int, patch: int, dt: float, span: int):
        super().__init__()
        self.sources, self.patch, self.span = sources, patch, span
        apart = max(APART, 1 / (span * patch * dt))
        number = min(WAVES, math.ceil(0.5 / dt / apart) - 1)
        self.frequencies = [apart * k for k in range(1, number + 1)]  # Hz
        self.apart, self.dt = apart, dt

    @property
    def n_features(self) -> int:
        """Mean log R_ii, each without it, rows of R below the diagonal, λ at each frequency."""
        return 1 + self.sources * (self.sources + 1) // 2 + len(self.frequencies)

    @torch.no_grad()
    def forward(
        self,
        values: Float[Tensor, "batch token channel sample"],
        seen: Bool[Tensor, "batch token channel sample"],
        mix: Float[Tensor, "batch channel source"],
        before: int = 0,
    ) -> Float[Tensor, "batch _token feature"]:
        """Features in float32.

        Args:
            values: Samples; 0 where they are not seen.
            mix: How channels enter the mixtures.
            before: Tokens at the start that are only read.
        """
        # In bfloat16 a covariance is no longer positive.
        with torch.autocast(values.device.type, enabled=False):
            return self._features(values, seen, mix, before)

    def _features(
        self, values: Tensor, seen: Tensor, mix: Tensor, before: int
    ) -> Float[Tensor, "batch _token feature"]:
        x, kept = (rearrange(v.float(), "b t c s -> b (t s) c") for v in (values, seen))
        both = F.pad(kept[:, 1:] * kept[:, :-1], (0, 0, 1, 0))
        x = F.pad(x.diff(dim=1), (0, 0, 1, 0)) * both
        z = x @ (mix / mix.square().sum(1, keepdim=True).sqrt().clamp(min=1)).to(x)
        z = rearrange(z, "b (t s) k -> b t s k", s=self.patch)
        n = rearrange(both.amax(2), "b (t s) -> b t s", s=self.patch).sum(2)
        angle = self._angle(z)
        waves = torch.stack([angle.cos(), angle.sin()], -1)
        squares = einsum(z, z, "b t s i, b t s j -> b t i j")
        turned = einsum(z, waves, "b t s k, t s f w -> b t k f w")
        squares, turned, n = (self._together(x)[:, before:] for x in (squares, turned, n))
        count = n.clamp(min=1)[..., None, None]
        features = self._described(squares / count, turned / count[..., None])
        return features * (n / (self.span * self.patch)).pow(SHRINK)[..., None]

    def _angle(self, z: Tensor) -> Float[Tensor, "token sample wave"]:
        tokens = z.shape[1]
        at = torch.arange(tokens * self.patch, device=z.device, dtype=torch.float64) * self.dt
        k = torch.arange(1, len(self.frequencies) + 1, device=z.device, dtype=torch.float64)
        angle = (2 * math.pi * at[:, None] * self.apart * k).remainder(2 * math.pi).float()
        return rearrange(angle, "(t s) f -> t s f", s=self.patch)

    def _together(
        self, x: Float[Tensor, "batch token *rest"]
    ) -> Float[Tensor, "batch token *rest"]:
        """Sums over the last `span` tokens."""
        total = x.double().cumsum(1)
        ago = F.pad(total, (0, 0) * (x.ndim - 2) + (self.span, 0))[:, : x.shape[1]]
        return (total - ago).float()

    def _described(
        self,
        covariance: Float[Tensor, "batch token k k"],
        turned: Float[Tensor, "batch token k wave 2"],
    ) -> Float[Tensor, "batch token feature"]:
        k = self.sources
        mean = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
        root = _root(covariance + FLOOR * mean.clamp(min=LEAST) * torch.eye(k, device=mean.device))
        logs = root.diagonal(dim1=-2, dim2=-1).log()
        level = logs.mean(-1, keepdim=True)
        rows = root / root.square().sum(-1, keepdim=True).sqrt()
        below = torch.tril_indices(k, k, -1, device=mean.device)
        white = _solved(root, turned.flatten(-2)).unflatten(-1, turned.shape[-2:])
        gram = 2 * einsum(white, white, "b t k f v, b t k f w -> b t f v w")
        a, b, c = gram[..., 0, 0], gram[..., 1, 1], gram[..., 0, 1]
        largest = (a + b + ((a - b).square() + 4 * c.square()).sqrt()) / 2
        told = largest.clamp(min=FAINTEST).log()
        told = told - told.mean(-1, keepdim=True)
        return torch.cat([level, logs - level, rows[..., below[0], below[1]], told], dim=-1)


def _root(s: Float[Tensor, "*batch k k"]) -> Float[Tensor, "*batch k k"]:
    """The Cholesky factor R with R Rᵀ = S, column by column: exporters know no operator for it."""
    columns: list[Tensor] = []
    for j in range(s.shape[-1]):
        left = s[..., :, j]
        for before in columns:
            left = left - before * before[..., j : j + 1]
        column = left / left[..., j : j + 1].clamp(min=TINY).sqrt()
        columns.append(column * (torch.arange(s.shape[-1], device=s.device) >= j))
    return torch.stack(columns, -1)


def _solved(
    root: Float[Tensor, "*batch k k"], x: Float[Tensor, "*batch k n"]
) -> Float[Tensor, "*batch k n"]:
    """R⁻¹ x, row by row."""
    rows: list[Tensor] = []
    for j in range(root.shape[-1]):
        left = x[..., j, :]
        for i, known in enumerate(rows):
            left = left - root[..., j, i : i + 1] * known
        rows.append(left / root[..., j, j : j + 1])
    return torch.stack(rows, -2)


def mixtures(
    ids: Int[Tensor, "batch channel"],
    sources: int,
    regions: Int[Tensor, "batch channel"] | None = None,
) -> Float[Tensor, "batch channel source"]:
    """How channels enter few mixtures: up to as many one each, then of both signs in turn.

    Args:
        ids: Rows of the vocabulary; those of a recording follow each other.
        regions: Rows of the regions, which serve for a channel that is not known.
    """
    if regions is not None:
        ids = torch.where(ids > 0, ids, regions)
    place = (ids - 1).clamp(min=0)
    sign = 1.0 - 2.0 * (place.div(sources, rounding_mode="floor") % 2)
    return F.one_hot(place % sources, sources) * sign[..., None]
