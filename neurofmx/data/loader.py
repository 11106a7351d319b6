"""Batches in an order that is a pure function of (seed, epoch, index): nothing is ever lost.

The plan for step k needs no history, so a killed run goes on at step k with the same windows.
Ranks take every `world`-th window of the global batch: disjoint, and all make the same steps.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neurofmx.batches import Batch, SignalBatch, Target
from neurofmx.data.shards import Sample, Shards


@dataclass(frozen=True)
class Plan:
    """Which windows make up the batch of a step.

    Attributes:
        positions: Windows of the epoch, in index order.
        batch_size: Windows per global batch, over all ranks.
        seed: Seed of the shuffle; None keeps index order.
        index_hash: Hash of the index that the positions refer to.
    """

    positions: list[int]
    batch_size: int
    seed: int | None
    index_hash: str

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch makes; a last incomplete one is kept only if it is the only one."""
        return max(1, len(self.positions) // self.batch_size)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> list[int]:
        """Windows of a step for one rank."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.array(self.positions)
        if self.seed is not None:
            entropy = [self.seed, epoch, int(self.index_hash[:8], 16)]
            order = np.random.default_rng(entropy).permutation(order)
        chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
        return chosen[rank::world].tolist()


class Collator:
    """Samples → `Batch`: channels normalised, ragged time and channels padded.

    Each channel is centred and scaled by its train windows. The scale is shrunk toward that of
    the whole signal, so that a nearly silent unit's one event is not blown up.

    Args:
        shards: Supplies the statistics of channels and tasks.
        vocabulary: (recording, signal, channel) → row of the model's embedding; others get 0.
    """

    def __init__(self, shards: Shards, vocabulary: dict[tuple[str, str, int], int]):
        self.tasks = shards.tasks
        self._statistics = {}
        for (recording, signal), table in shards.channels.groupby(["recording", "signal"]):
            ids = [vocabulary.get((recording, signal, int(c)), 0) for c in table["channel"]]
            self._statistics[recording, signal] = (
                torch.tensor(table["mean"].to_numpy(), dtype=torch.float32),
                torch.tensor(table["scale"].to_numpy(), dtype=torch.float32),
                torch.tensor(ids, dtype=torch.int64),
            )

    def __call__(self, samples: list[Sample]) -> Batch:
        """A batch of windows, in the order given."""
        signals = sorted({name for s in samples for name in s.info["dt"]})
        return Batch(
            signals={name: self._signal(name, samples) for name in signals},
            targets={name: self._target(name, samples) for name in self.tasks},
            recordings=[s.info["recording"] for s in samples],
            keys=[s.key for s in samples],
        )

    def _signal(self, name: str, samples: list[Sample]) -> SignalBatch:
        shapes = [s.arrays[f"{name}.values"].shape for s in samples if name in s.info["dt"]]
        time, channels = (max(sizes) for sizes in zip(*shapes, strict=True))
        values = torch.zeros(len(samples), time, channels)
        mask = torch.zeros(len(samples), time, dtype=torch.bool)
        ids = torch.zeros(len(samples), channels, dtype=torch.int64)
        channel_mask = torch.zeros(len(samples), channels, dtype=torch.bool)
        for row, sample in enumerate(samples):
            if name not in sample.info["dt"]:
                continue
            raw = torch.from_numpy(sample.arrays[f"{name}.values"].astype(np.float32))
            seen = torch.from_numpy(sample.arrays[f"{name}.mask"])
            mean, scale, vocabulary = self._statistics[sample.info["recording"], name]
            t, c = raw.shape
            values[row, :t, :c] = (raw - mean) / scale * seen[:, None]
            mask[row, :t], ids[row, :c], channel_mask[row, :c] = seen, vocabulary, True
        dt = next(s.info["dt"][name] for s in samples if name in s.info["dt"])
        t0 = torch.tensor([s.info["start"] for s in samples], dtype=torch.float64)
        return SignalBatch(values, t0, dt, mask, ids, channel_mask)

    def _target(self, task: str, samples: list[Sample]) -> Target:
        spec = self.tasks[task]
        values = _pad([s.arrays[f"{task}.target"] for s in samples])
        if spec["kind"] == "regression":
            values = (values - torch.tensor(spec["mean"])) / torch.tensor(spec["scale"])
        times = _pad([s.arrays[f"{task}.times"] for s in samples])
        asked = _pad([s.arrays[f"{task}.asked"] for s in samples])
        return Target(spec["kind"], values, times, asked.bool())


def _pad(arrays: list[np.ndarray]) -> Tensor:
    """Stack ragged arrays along a new first axis, zeros behind the short ones."""
    tensors = [torch.as_tensor(a, dtype=torch.float32) for a in arrays]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)
