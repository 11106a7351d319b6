"""What a model tells of its own inputs, without a label: what lies ahead, or what is hidden.

    forecasting       the samples of the next token, from all up to this one
    co_smoothing      channels that are hidden for a whole window, from the others
    reconstruction    stretches of `STRETCH` tokens of all channels, from what is around them

Channels are hidden in `FOLDS` turns, and stretches too, so that each is asked for once. Beside the
model stands ridge on what it is shown: the channels of this token (forecasting), the other channels
of the same one (co_smoothing), and for reconstruction the straight line between the tokens on both
sides, which is fitted to nothing.

Counts are scored by bits per spike, whose null is each unit's mean over what is scored; traces by
R² of each channel about its own mean, averaged over channels.

Source: co-smoothing and bits per spike, Pei et al. 2021 (NLB), arXiv:2109.04463; forward
prediction, Zhang et al. 2024 (MtM), arXiv:2407.14668.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.special import xlogy

from neurofmx.batches import Batch
from neurofmx.data.shards import Shards
from neurofmx.evaluation import linear
from neurofmx.evaluation.metrics import BlockScore
from neurofmx.evaluation.metrics.base import ratio, summed
from neurofmx.evaluation.tasks import SelfKind
from neurofmx.models import NeuroFMX
from neurofmx.training.inference import batches

FOLDS = 5
STRETCH = 3  # tokens
FLOOR = 1e-2  # least rate that a line may tell, over the unit's mean
Values = Float[ndarray, "window token channel sample"]
Asked = Bool[ndarray, "window token channel sample"]


@dataclass(frozen=True)
class Told:
    """A signal over windows, and what was told of it.

    Attributes:
        truth: Counts, or values in deviations of the channel.
        asked: Where something was told of what was recorded.
        told: Expected counts, or values.
        counts: Whether they are counts.
    """

    truth: Values
    asked: Asked
    told: Values
    counts: bool

    @property
    def metric(self) -> str:
        """What it is scored by."""
        return "bits_per_spike" if self.counts else "r2"

    def score(self, blocks: Int[ndarray, " window"]) -> BlockScore:
        """The score, by how often each block of windows is drawn."""
        return (_bits if self.counts else _r2)(self, blocks)


@torch.inference_mode()
def told_by(
    model: NeuroFMX, shards: Shards, positions: Sequence[int], kind: SelfKind, signal: str
) -> Told:
    """What the model tells."""
    model.eval()
    parts = []
    for plain in batches(model, shards, positions):
        batch = model.laid(plain)
        cells = batch.cells[signal]
        answer, where = (_ahead if kind == "forecasting" else _hidden)(model, batch, kind, signal)
        answer = answer.exp() if cells.rate is not None else answer
        parts.append([x.cpu().numpy() for x in (cells.truth, where & cells.seen, answer)])
    truth, asked, expected = (_joined([part[k] for part in parts]) for k in range(3))
    return Told(truth, asked.astype(bool), expected, model.config.signals[signal].counts)


def told_by_line(
    model: NeuroFMX,
    shards: Shards,
    positions: dict[str, list[int]],
    kind: SelfKind,
    signal: str,
    alphas: Sequence[float],
) -> Told:
    """What a line tells of the test windows, fitted to train and, its penalty chosen, to valid.

    Args:
        model: Says how windows are cut into cells; its weights play no part.
        positions: Of train, valid and test.
    """
    cells = {split: _cells(model, shards, rows, signal) for split, rows in positions.items()}
    truth, seen = cells["test"]
    counts = model.config.signals[signal].counts
    if kind == "reconstruction":
        away = _stretches(truth.shape[1])
        told = np.stack([_between(truth.mean(-1), np.any(seen, axis=-1), gone) for gone in away])
        told = np.einsum("f w t c, f t -> w t c", told, np.array(away, float))
        return Told(truth, seen, np.repeat(told[..., None], truth.shape[3], 3), counts)
    told, asked = np.zeros_like(truth), np.zeros_like(seen)
    turns = _turns(truth.shape[2]) if kind == "co_smoothing" else [np.ones(truth.shape[2], bool)]
    for gone in turns:
        ahead = 1 if kind == "forecasting" else 0
        shown = gone if kind == "forecasting" else ~gone
        rows = {s: _rows(*found, shown, gone, ahead) for s, found in cells.items()}
        answer = _fitted({s: x for s, (x, _) in rows.items()}, {s: y for s, (_, y) in rows.items()},
                         alphas)  # fmt: skip
        if counts:
            answer = np.maximum(answer, FLOOR * rows["train"][1].mean(axis=0).clip(min=1e-6))
        later = answer.reshape(len(truth), truth.shape[1] - ahead, -1)
        told[:, ahead:, gone] = later[..., None]
        asked[:, ahead:, gone] = True
    return Told(truth, asked & seen, told, counts)


def _ahead(
    model: NeuroFMX, batch: Batch, kind: str, signal: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each token but the first, what was told before it came."""
    head = model(batch, heads=["forecast"]).heads.get(f"forecast.{signal}")
    cells = batch.cells[signal]
    told, asked = torch.zeros_like(cells.truth), torch.zeros_like(cells.seen)
    if head is not None:  # windows of one token have nothing ahead
        ahead = batch.horizons[signal][0]
        told[:, ahead:] = head[:, 0, : told.shape[1] - ahead]
        asked[:, ahead:] = True
    return told, asked


def _hidden(
    model: NeuroFMX, batch: Batch, kind: str, signal: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """What is told of each cell in the turn that hides it."""
    cells = batch.cells[signal]
    _, tokens, channels, _ = cells.seen.shape
    told, asked = torch.zeros_like(cells.truth), torch.zeros_like(cells.seen)
    columns = kind == "co_smoothing"
    for turn in _turns(channels) if columns else _stretches(tokens):
        gone = torch.from_numpy(turn).to(asked.device)
        away = (gone[None, None] if columns else gone[None, :, None]).expand(cells.seen.shape[:3])
        found = model(dataclasses.replace(batch, hidden={signal: away}), heads=["reconstruct"])
        told = torch.where(away[..., None], found.heads[f"reconstruct.{signal}"], told)
        asked = asked | away[..., None]
    return told, asked


def _turns(channels: int) -> list[Bool[ndarray, " channel"]]:
    """Which channels are hidden in each turn."""
    turns = [np.arange(channels) % FOLDS == k for k in range(FOLDS)]
    return [turn for turn in turns if turn.any() and not turn.all()]


def _stretches(tokens: int) -> list[Bool[ndarray, " token"]]:
    """Which tokens are hidden in each turn."""
    turns = [np.arange(tokens) // STRETCH % FOLDS == k for k in range(FOLDS)]
    return [turn for turn in turns if turn.any() and not turn.all()]


@torch.inference_mode()
def _cells(
    model: NeuroFMX, shards: Shards, positions: Sequence[int], signal: str
) -> tuple[Values, Asked]:
    cells = [model.laid(batch).cells[signal] for batch in batches(model, shards, positions)]
    truth = _joined([x.truth.cpu().numpy() for x in cells])
    return truth, _joined([x.seen.cpu().numpy() for x in cells]).astype(bool)


def _joined(parts: list[ndarray]) -> ndarray:
    """Batches behind each other; shorter windows are padded with zeros."""
    longest = max(part.shape[1] for part in parts)
    padded = [np.pad(p, [(0, 0), (0, longest - p.shape[1]), (0, 0), (0, 0)]) for p in parts]
    return np.concatenate(padded)


def _rows(
    truth: Values, seen: Asked, shown: ndarray, gone: ndarray, ahead: int
) -> tuple[Float[ndarray, "row shown"], Float[ndarray, "row told"]]:
    """Means of the tokens of the channels that are shown, and of those that are told, later."""
    mean = (truth * seen).sum(-1) / seen.sum(-1).clip(min=1)
    x, y = mean[:, : mean.shape[1] - ahead, shown], mean[:, ahead:, gone]
    return x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])


def _fitted(
    x: dict[str, ndarray], y: dict[str, ndarray], alphas: Sequence[float]
) -> Float[ndarray, "row channel"]:
    """Ridge with the penalty that does best on valid, fitted again on both."""
    width = x["train"].shape[1]
    lines = linear.ridge_paths(x["train"], y["train"], alphas, [width])
    error = {a: np.square(lines[a, width](x["valid"]) - y["valid"]).mean() for a in alphas}
    best = min(error, key=error.__getitem__)
    both = linear.joined(x), linear.joined(y)
    return linear.ridge_paths(*both, [best], [width])[best, width](x["test"])


def _between(
    mean: Float[ndarray, "window token channel"],
    seen: ndarray,
    gone: ndarray,
) -> Float[ndarray, "window token channel"]:
    """The straight line between what is seen on both sides of a hidden stretch."""
    places, told = np.arange(mean.shape[1]), np.zeros_like(mean)
    for window in range(len(mean)):
        known = seen[window].any(axis=1) & ~gone
        if known.any():
            for channel in range(mean.shape[2]):
                told[window, :, channel] = np.interp(
                    places, places[known], mean[window, known, channel]
                )
    return told


def _sums(told: Told, terms: Callable[..., list[ndarray]]) -> Float[ndarray, "window channel term"]:
    """Sums of terms over what is asked of each window."""
    found = [np.where(told.asked, term, 0.0).sum(axis=(1, 3)) for term in terms(told)]
    return np.stack(found, axis=-1)


def _bits(told: Told, blocks: Int[ndarray, " window"]) -> BlockScore:
    """(Σ log-likelihood − that of each unit's mean) / (spikes · ln 2)."""

    def terms(told: Told) -> list[ndarray]:
        rate = np.where(told.asked, told.told, 1.0).clip(min=1e-9)
        return [np.ones_like(rate), told.truth, xlogy(told.truth, rate) - rate]

    def value(sums: Float[ndarray, "*draw channel term"]) -> Float[ndarray, "*draw 1"]:
        n, spikes, likelihood = np.moveaxis(sums, -1, 0)
        null = xlogy(spikes, np.divide(spikes, n, out=np.ones_like(n), where=n > 0)) - spikes
        gained = (likelihood - null).sum(-1, keepdims=True)
        return ratio(gained, spikes.sum(-1, keepdims=True) * np.log(2))

    return summed(_sums(told, terms), blocks, value)


def _r2(told: Told, blocks: Int[ndarray, " window"]) -> BlockScore:
    """R² of each channel, averaged over those that vary."""

    def terms(told: Told) -> list[ndarray]:
        y = told.truth.astype(float)
        return [np.ones_like(y), y, y**2, (y - told.told) ** 2]

    def value(sums: Float[ndarray, "*draw channel term"]) -> Float[ndarray, "*draw 1"]:
        n, y, squares, error = np.moveaxis(sums, -1, 0)
        r2 = 1 - ratio(error, squares - ratio(y**2, n))
        varies = np.isfinite(r2)
        total = np.where(varies, r2, 0).sum(-1, keepdims=True)
        return ratio(total, varies.sum(-1, keepdims=True).astype(float))

    return summed(_sums(told, terms), blocks, value)
