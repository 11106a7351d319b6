"""Run a model over windows and line up what it says with what was asked, in absolute time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from numpy import ndarray

from neurofmx.batches import Batch, EventBatch, SignalBatch
from neurofmx.data.collate import Collator
from neurofmx.data.plan import in_order
from neurofmx.data.pool import Windows
from neurofmx.models import NeuroFMX

Positions = Sequence[int] | Int[ndarray, " window"]


@dataclass(frozen=True)
class Answers:
    """A task's scored queries over many windows.

    Attributes:
        recording, window: Where each query was asked: id, and position in the index.
        time: When it was asked, on the recording's clock (s).
        truth: In the target's own unit, angles in radians; for classes the class index in column 0.
        prediction: In the same unit; for classes the probability of each.
        spread: Standard deviation that the model gives its prediction, in the same unit.
        features: What the head reads, before its linear map.
    """

    recording: Shaped[ndarray, " query"]
    window: Int[ndarray, " query"]
    time: Float[ndarray, " query"]
    truth: Float[ndarray, "query dim"]
    prediction: Float[ndarray, "query output"]
    spread: Float[ndarray, "query output"]
    features: Float[ndarray, "query width"]


@dataclass(frozen=True)
class Features:
    """Backbone features of a signal's valid tokens, one row per token.

    Attributes:
        recording, window: Where the token lies: id, and position in the index.
        time: Middle of the token on the recording's clock (s).
        values: Features.
    """

    recording: Shaped[ndarray, " token"]
    window: Int[ndarray, " token"]
    time: Float[ndarray, " token"]
    values: Float[ndarray, "token width"]


def batches(
    model: NeuroFMX, shards: Windows, positions: Positions, batch_size: int = 64
) -> Iterator[Batch]:
    """Windows at `positions` of the index, in order, on the model's device."""
    collate = Collator(shards, model.rows, model.config.signals, tasks=model.tasks)
    device = next(model.parameters()).device
    for windows in in_order(shards, np.asarray(positions, np.int64), batch_size):
        yield collate(windows).to(device)


@torch.inference_mode()
def answers(
    model: NeuroFMX, shards: Windows, positions: Positions, batch_size: int = 64
) -> dict[str, Answers]:
    """What the model answers to every scored query of the windows, by task."""
    model.eval()
    parts: dict[str, list[tuple]] = {task: [] for task in model.config.tasks}
    for batch in batches(model, shards, positions, batch_size):
        output = model(batch, heads=["decode"])
        t0 = next(iter(_given(batch).values())).t0.cpu().numpy()
        for task, rows in parts.items():
            target = batch.targets[task]
            mask = target.mask.cpu().numpy()
            window, _ = np.nonzero(mask)
            truth = model.untasked(task, target.values)
            prediction, spread = model.answer(task, output.heads[f"decode.{task}"])
            rows.append(
                (
                    np.array(batch.recordings)[window],
                    np.array(batch.windows)[window],
                    t0[window] + target.times.double().cpu().numpy()[mask],
                    truth.cpu().numpy()[mask],
                    prediction.cpu().numpy()[mask],
                    spread.cpu().numpy()[mask],
                    output.heads[f"answer.{task}"].cpu().numpy()[mask],
                )
            )
    return {
        task: Answers(*map(np.concatenate, zip(*rows, strict=True))) for task, rows in parts.items()
    }


@torch.inference_mode()
def features(
    model: NeuroFMX,
    shards: Windows,
    positions: Positions,
    signal: str,
    batch_size: int = 64,
) -> Features:
    """Backbone features of one signal over the windows."""
    model.eval()
    parts = []
    for batch in batches(model, shards, positions, batch_size):
        if signal not in _given(batch):
            continue
        sequence = model.encode(signal, _given(batch)[signal])
        mask = sequence.mask.cpu().numpy()
        window, _ = np.nonzero(mask)
        times = sequence.t0.cpu().numpy()[window] + sequence.middles.double().cpu().numpy()[mask]
        found = sequence.tokens.cpu().numpy()[mask]
        parts.append(
            (np.array(batch.recordings)[window], np.array(batch.windows)[window], times, found)
        )
    return Features(*map(np.concatenate, zip(*parts, strict=True)))


def _given(batch: Batch) -> dict[str, SignalBatch | EventBatch]:
    return {**batch.signals, **batch.events}
