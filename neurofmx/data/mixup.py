"""Mixup: a window and another of the same recording, mixed in shares λ and 1 − λ.

    x = λ x_i + (1 − λ) x_j,    y = λ y_i + (1 − λ) y_j,    λ ~ Beta(α, α)

Both have to be of one recording: only there is channel 3 the same electrode in both. Events are
mixed as what they are, points in time: each of i is kept with probability λ and each of j with
1 − λ, which mixes the rates of the units in the same shares. A sample is there where both are, and
a query is asked where both ask it.

Two windows are mixed only if all their queries lie at the same times, their events last as long,
and classes are equal, since no class lies between two. Else the window stays as it is. Of
two angles the mixture is the direction of their unit vectors' mean.

Who is mixed with whom follows from the window's own seed, never from its batch.

Source: Zhang et al. 2018, arXiv:1710.09412; superposition and thinning of point processes, Kingman
1993, Poisson Processes, chapters 2 and 5.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from numpy import ndarray
from torch import Tensor, cos, sin
from torch.nn.utils.rnn import pad_sequence

from neurofmx.batches import Batch, EventBatch, SignalBatch, Target

Draw = Callable[[str], np.random.Generator]
H = TypeVar("H", SignalBatch, EventBatch, Target)
TOLERANCE = 1e-6  # s; times carry rounding


def partners(
    windows: Integer[ndarray, " window"],
    seeds: Int[ndarray, " window"],
    edges: Int[ndarray, " edge"],
) -> Int[ndarray, " window"]:
    """The window that each is to be mixed with: another of its stretch, by its seed.

    Args:
        windows: Positions in the index.
        seeds: Those of the windows in the epoch, as `augment` takes them.
        edges: Where each stretch of windows of one recording and split begins in the index, and at
            last the number of windows.
    """
    stretch = np.searchsorted(edges, windows, side="right") - 1
    first, size = edges[stretch], np.diff(edges)[stretch]
    step = 1 + seeds % np.maximum(size - 1, 1)
    return first + (windows - first + step) % size


def mix(batch: Batch, alpha: float, draws: Sequence[Draw]) -> Batch:
    """The first half of a batch, each window mixed with its partner in the second half.

    Args:
        batch: Windows and, in the same order behind them, their partners.
        alpha: α of Beta(α, α).
        draws: By name of what is drawn, the random numbers of each window.

    Raises:
        ValueError: A partner is of another recording.
    """
    n = len(draws)
    for row, (own, other) in enumerate(zip(batch.recordings, batch.recordings[n:], strict=False)):
        if own != other:
            raise ValueError(
                f"window {batch.windows[row]} of recording {own} cannot be mixed with window "
                f"{batch.windows[row + n]} of {other}: their channels are not the same. Choose "
                "partners with `neurofmx.data.mixup.partners`"
            )
    drawn = torch.tensor([draw("mixup").beta(alpha, alpha) for draw in draws])
    share = torch.where(_fit(batch, n), drawn.float(), 1.0)
    return Batch(
        signals={name: _mix_sampled(*_halves(s, n), share) for name, s in batch.signals.items()},
        targets={name: _mix_target(*_halves(t, n), share) for name, t in batch.targets.items()},
        recordings=batch.recordings[:n],
        windows=batch.windows[:n],
        events={
            name: _mix_events(*_halves(e, n), share, [draw(f"thin {name}") for draw in draws])
            for name, e in batch.events.items()
        },
        skipped=batch.skipped,
    )


def _fit(batch: Batch, n: int) -> Bool[Tensor, " batch"]:
    """Which windows can be mixed with their partners."""
    fit = torch.ones(n, dtype=torch.bool)
    for target in batch.targets.values():
        own, other = _halves(target, n)
        fit &= ((own.times - other.times).abs() <= TOLERANCE).all(1)
        if target.classes:
            same = (own.values == other.values).all(2)
            fit &= (same | ~(own.mask & other.mask)).all(1)
    for events in batch.events.values():
        alike = (events.duration[:n] - events.duration[n:]).abs() <= TOLERANCE
        fit &= alike | ~events.channel_mask[:n].any(1)  # a window without this signal
    return fit


def _mix_sampled(
    own: SignalBatch, other: SignalBatch, share: Float[Tensor, " batch"]
) -> SignalBatch:
    mask = own.mask & (other.mask | (share == 1)[:, None])
    part = share[:, None, None]
    values = (part * own.values + (1 - part) * other.values) * mask[..., None]
    return dataclasses.replace(own, values=values, mask=mask)


def _mix_target(own: Target, other: Target, share: Float[Tensor, " batch"]) -> Target:
    mask = own.mask & (other.mask | (share == 1)[:, None])
    part = share[:, None, None]
    if own.classes:
        values = own.values
    elif own.kind == "circular":
        sine, cosine = (part * f(own.values) + (1 - part) * f(other.values) for f in (sin, cos))
        # A window that stays as it is keeps every bit.
        values = torch.where(part == 1, own.values, torch.atan2(sine, cosine))
    else:
        values = part * own.values + (1 - part) * other.values
    return dataclasses.replace(own, values=values, mask=mask)


def _mix_events(
    own: EventBatch,
    other: EventBatch,
    share: Float[Tensor, " batch"],
    rngs: Sequence[np.random.Generator],
) -> EventBatch:
    """Thinned and superposed, in order."""
    columns = [c for c in ("times", "channels", "waveforms") if getattr(own, c) is not None]
    found: dict[str, list[Tensor]] = {column: [] for column in columns}
    for row, rng in enumerate(rngs):
        kept = [
            np.flatnonzero(rng.random(int(events.mask[row].sum())) < probability)
            for events, probability in ((own, share[row].item()), (other, 1 - share[row].item()))
        ]
        times = torch.cat([own.times[row, kept[0]], other.times[row, kept[1]]])
        order = times.argsort(stable=True)
        for column, values in found.items():
            parts = [
                getattr(events, column)[row, k]
                for events, k in zip((own, other), kept, strict=True)
            ]
            values.append(torch.cat(parts)[order])
    numbers = torch.tensor([len(times) for times in found["times"]])
    padded = {c: pad_sequence(values, batch_first=True) for c, values in found.items()}
    mask = torch.arange(padded["times"].shape[1]) < numbers[:, None]
    return dataclasses.replace(own, mask=mask, **padded)


def _halves(thing: H, n: int) -> tuple[H, H]:
    """Its first `n` windows, and those behind them."""
    tensors = {name: x for name, x in vars(thing).items() if isinstance(x, Tensor)}
    own: dict[str, Any] = {name: x[:n] for name, x in tensors.items()}
    other: dict[str, Any] = {name: x[n:] for name, x in tensors.items()}
    return dataclasses.replace(thing, **own), dataclasses.replace(thing, **other)
