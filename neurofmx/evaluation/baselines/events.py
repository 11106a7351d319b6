"""POYO: attention from a grid of latents to the spikes one by one, and from queries to the latents.

Spikes are shown as they are. Of counts each is shown as that many spikes, evenly within its bin.
Each chunk has the two tokens of each unit that mark its start and its end, as the package has them,
and one query for each answer of a bin; of labels the answers of a window's frames are averaged.

Source: Azabou et al. 2023, arXiv:2310.16046; the package `torch_brain`.
"""

from types import ModuleType

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float64, Int
from numpy import ndarray
from torch import Tensor, nn

from neurofmx.evaluation.baselines import networks
from neurofmx.evaluation.baselines.base import BaselineParams, Prediction, Problem
from neurofmx.evaluation.baselines.sequences import Sequences, counted, sequences
from neurofmx.evaluation.baselines.supervised import Supervised
from neurofmx.types import Events

TOKENS = 12_288  # in a step, about
STEPS = 24  # of latents in a chunk
LATENTS = 4  # at each step
HEADS, HEAD = 2, 32
PACKAGE = "torch_brain.models.poyo"


class Spikes:
    """The spikes of chunks of bins, as tokens.

    Attributes:
        times: Sorted, in bins from bin 0.
        units: Of each spike.
    """

    def __init__(self, problem: Problem, data: Sequences, length: int):
        self.package: ModuleType = networks.package(PACKAGE)
        self.data, self.length = data, length
        times, units = _spikes(problem, data)
        order = np.argsort(times, kind="stable")
        self.times, self.units = times[order], units[order]
        self.n_units = data.counts(problem.card).shape[1]

    @property
    def fitting(self) -> int:
        """Chunks whose spikes are `TOKENS` together."""
        each = len(self.times) / self.data.n * self.length
        return max(1, round(TOKENS / (each + 2 * self.n_units)))

    def __call__(self, bins: Int[Tensor, "batch time"]) -> dict[str, Tensor]:
        """What the package's network takes; times in seconds from the start of each chunk."""
        chunks, width = bins.cpu().numpy(), 1 / self.data.rate
        n = (chunks >= 0).sum(axis=1)
        lo = np.searchsorted(self.times, chunks[:, 0])
        hi = np.searchsorted(self.times, chunks[:, 0] + n)
        marks = self.package.create_start_end_unit_tokens(np.arange(self.n_units), 0.0, 1.0)
        kind, unit, ends = marks
        size = len(kind) + int((hi - lo).max())
        shape = (len(chunks), size)
        times, units = np.zeros(shape), np.zeros(shape, int)
        kinds, seen = np.zeros(shape, int), np.zeros(shape, bool)
        for i, (a, b) in enumerate(zip(lo, hi, strict=True)):
            m = len(kind) + b - a
            kinds[i, : len(kind)], seen[i, :m] = kind, True
            units[i, :m] = np.concatenate([unit, self.units[a:b]])
            times[i, :m] = np.concatenate([ends * n[i], self.times[a:b] - chunks[i, 0]]) * width
        return self._tensors(bins.device, units, times, kinds, seen) | self._grid(bins)

    def _tensors(self, device: torch.device, units, times, kinds, seen) -> dict[str, Tensor]:
        # Unit 0 of the package's vocabulary is that of no name.
        return {
            "input_unit_index": torch.as_tensor(units + 1, device=device),
            "input_timestamps": torch.as_tensor(times, device=device, dtype=torch.float32),
            "input_token_type": torch.as_tensor(kinds, device=device),
            "input_mask": torch.as_tensor(seen, device=device),
        }

    def _grid(self, bins: Int[Tensor, "batch time"]) -> dict[str, Tensor]:
        data, batch = self.data, len(bins)
        seconds = self.length / data.rate
        index, at = self.package.create_linspace_latent_tokens(
            0.0, seconds, seconds / STEPS, LATENTS
        )
        slot = torch.arange(bins.shape[1] * data.slots, device=bins.device) / data.slots
        latents = torch.as_tensor(index, device=bins.device), torch.as_tensor(at).float()
        return {
            "latent_index": latents[0].expand(batch, -1),
            "latent_timestamps": latents[1].to(bins.device).expand(batch, -1),
            "session_index": torch.ones(batch, dtype=torch.long, device=bins.device),
            "output_timestamps": (slot / data.rate).float().expand(batch, -1),
        }


class Decoder(nn.Module):
    """The package's network, whose outputs come bin by bin."""

    def __init__(self, spikes: Spikes, width: int, dropout: float):
        super().__init__()
        data = spikes.data
        self.slots = data.slots
        self.poyo = spikes.package.POYO(
            sequence_length=float(spikes.length / data.rate),
            latent_step=float(spikes.length / data.rate / STEPS),
            num_latents_per_step=LATENTS,
            dim_out=data.outputs // data.slots,
            dim=width,
            depth=2,
            dim_head=HEAD,
            cross_heads=HEADS,
            self_heads=HEADS,
            ffn_dropout=dropout / 2,
            lin_dropout=dropout,
        )
        self.poyo.unit_emb.initialize_vocab([str(unit) for unit in range(spikes.n_units)])
        self.poyo.session_emb.initialize_vocab(["recording"])

    def forward(self, **shown: Tensor) -> Float[Tensor, "batch time output"]:
        """An answer for each bin, with one for each of its slots."""
        return rearrange(self.poyo(**shown), "b (t s) d -> b t (s d)", s=self.slots)


def poyo(problem: Problem, params: BaselineParams) -> Prediction:
    """POYO whose dropout and learning rate are chosen on valid."""
    networks.package(PACKAGE)
    given = params.networks
    data = sequences(problem, given.rate)
    spikes = Spikes(problem, data, networks.chunk_length(data, given))
    given = given.model_copy(update={"batch_size": min(given.batch_size, spikes.fitting)})

    def make(setting: networks.Setting, splits: tuple[str, ...]) -> Supervised:
        network = Decoder(spikes, setting["width"], setting["dropout"])
        network = network.to(torch.get_default_device())
        return Supervised(data, given, splits, network, setting["lr"], 0.5, spikes)

    candidates = [
        {"width": 64, "dropout": dropout, "lr": lr}
        for dropout, lr in ((0.2, given.lr), (0.4, given.lr / 3))
    ]
    return networks.predict(problem, data, *networks.tuned(data, given, candidates, make))


def _spikes(
    problem: Problem, data: Sequences
) -> tuple[Float64[ndarray, " spike"], Int[ndarray, " spike"]]:
    """Times (bins) and units of all spikes; units of several signals follow each other."""
    times, units, before = [], [], 0
    for name in counted(problem.card, data):
        signal, counts = problem.recording.signals[name], data.signals[name]
        if isinstance(signal, Events) and not data.n_classes:
            at, unit = (signal.times - data.origin) * data.rate, signal.index
        else:
            at, unit = _spread(np.nan_to_num(counts))
        times.append(at)
        units.append(unit + before)
        before += counts.shape[1]
    return np.concatenate(times), np.concatenate(units)


def _spread(
    counts: Float[ndarray, "bin unit"],
) -> tuple[Float64[ndarray, " spike"], Int[ndarray, " spike"]]:
    """Spikes that a bin counts, evenly within it: one in its middle, two at its quarters, …"""
    whole = np.rint(counts).astype(int)
    bins, units = np.nonzero(whole)
    number = whole[bins, units]
    order = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
    at = np.repeat(bins, number) + (order + 0.5) / np.repeat(number, number)
    return at, np.repeat(units, number)
