"""Contrastive: which window of one signal belongs to which window of another.

With z and z′ the points on the sphere of the n windows that have both,

    L = −mean_i log ( exp(z_i · z′_i / τ) / Σ_j exp(z_i · z′_j / τ) ) / log n,

asked both ways. A guess leaves 1, whatever the number of windows; one who knows leaves 0. The rows
differ in what z and z′ are of:

    contrastive             two signals of a window
    contrastive_time        a signal's past, through the backbone, and what comes next, before it
    contrastive_three       three signals of a window, one against the product of the others

The windows of all ranks are told apart; those of the parts of a step that is accumulated are not.
A window that comes twice counts once: it would have to be told from itself.

Source: Chen et al. 2020 (SimCLR), arXiv:2002.05709; between signals, Radford et al. 2021 (CLIP),
arXiv:2103.00020; van den Oord et al. 2018 (CPC), arXiv:1807.03748.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from neurofmx.batches import Batch, HeadName, ModelOutput
from neurofmx.objectives.base import Groups, Objective, present
from neurofmx.objectives.ranks import before_me, everyone

TEMPERATURE = 0.1


class Pairing(NamedTuple):
    """Which windows are told from each other.

    Attributes:
        own: Of this rank's windows, those that are asked about.
        every: Of those of all ranks, the same.
        begin: Where this rank's windows begin among them.
    """

    own: Bool[Tensor, " own"]
    every: Bool[Tensor, " all"]
    begin: int

    @property
    def guess(self) -> float:
        """Cross-entropy of guessing (nats); at least that of two."""
        return math.log(max(2, int(self.every.sum())))

    def missed(
        self, query: Float[Tensor, "own dim"], key: Float[Tensor, "own dim"]
    ) -> Float[Tensor, ""]:
        """Sum over own windows of the cross-entropy of naming the partner, by that of guessing."""
        keys = everyone(key.float())
        likeness = query.float() @ keys.T / TEMPERATURE
        likeness = likeness.masked_fill(~self.every, torch.finfo(likeness.dtype).min)
        partner = self.begin + torch.arange(len(query), device=query.device)
        loss = F.cross_entropy(likeness, partner, reduction="none")
        # Every rank goes back through `everyone`, also one that asks nothing.
        return torch.where(self.own, loss, 0.0).sum() / self.guess + 0.0 * keys.sum()


def pairing(batch: Batch, asked: Bool[Tensor, " batch"]) -> Pairing:
    """Pairing of the windows that are asked about, each once; none where it would be one alone."""
    begin = before_me(len(asked))
    windows = torch.tensor(batch.windows, device=asked.device)
    every, ids = everyone(asked), everyone(windows)
    same = (ids[:, None] == ids) & every
    every = every & (same.int().argmax(1) == torch.arange(len(ids), device=ids.device))
    every = every & (every.sum() > 1)
    return Pairing(every[begin : begin + len(asked)], every, begin)


class Contrastive(Objective):
    """Mean over pairs of signals of the cross-entropy above, asked both ways.

    A pair is asked about windows that have both signals, where there are two of them or more.

    Source: Radford et al. 2021 (CLIP), arXiv:2103.00020; Chen et al. 2020, arXiv:2002.05709.
    """

    heads: ClassVar[Sequence[HeadName]] = ("contrastive",)

    @property
    def groups(self) -> list[str]:
        """A pair of signals each."""
        return [" ".join(names) for names in self._sets()]

    def asked(self, batch: Batch) -> Groups:
        """Windows that have all signals of a group."""
        return {group: p.own.sum() for group, _, p in self._pairings(batch)}

    def total(self, output: ModelOutput, batch: Batch) -> Groups:
        """Cross-entropies of either way, halved."""
        found = {}
        for group, (one, other), p in self._pairings(batch):
            a, b = (_points(output, f"contrastive.{name}") for name in (one, other))
            found[group] = (p.missed(a, b) + p.missed(b, a)) / 2
        return found

    def _sets(self) -> list[tuple[str, ...]]:
        return list(itertools.combinations(self.signals, 2))

    def _pairings(self, batch: Batch) -> Iterator[tuple[str, tuple[str, ...], Pairing]]:
        """Of every group, on every rank, also of one that this rank has nothing of."""
        here, none = present(batch), torch.zeros(len(batch.windows), dtype=torch.bool)
        none = none.to(next(iter(here.values())).device) if here else none
        for names in self._sets():
            asked = torch.stack([here.get(name, none) for name in names]).all(0)
            yield " ".join(names), names, pairing(batch, asked)


class ContrastiveTime(Contrastive):
    """Mean over signals: which window's next half follows on a window's first half.

    What has been is told by the backbone at the middle of the window; what comes, by the tokens
    after it before the backbone, which have seen nothing of it.

    Source: van den Oord et al. 2018 (CPC), arXiv:1807.03748, section 2.3.
    """

    heads: ClassVar[Sequence[HeadName]] = ("halves",)

    def total(self, output: ModelOutput, batch: Batch) -> Groups:
        """Cross-entropies of either way, halved."""
        found = {}
        for group, (name,), p in self._pairings(batch):
            past, later = (_points(output, f"{half}.{name}") for half in ("past", "later"))
            found[group] = (p.missed(past, later) + p.missed(later, past)) / 2
        return found

    def _sets(self) -> list[tuple[str, ...]]:
        return [(name,) for name in self.signals]


class ContrastiveThree(Contrastive):
    """Mean over triples of signals: each signal's window by the product of the other two's points.

    The product is scaled by √d of d dimensions, which makes it about as long as a point.

    Source: Saporta et al. 2024 (Symile), arXiv:2411.01053.
    """

    def total(self, output: ModelOutput, batch: Batch) -> Groups:
        """A third of each signal's cross-entropy."""
        found = {}
        for group, names, p in self._pairings(batch):
            points = [_points(output, f"contrastive.{name}") for name in names]
            scale, missed = points[0].shape[1] ** 0.5, []
            for turn in range(3):
                one, a, b = (points[(turn + k) % 3] for k in range(3))
                missed.append(p.missed(one, a * b * scale))
            found[group] = torch.stack(missed).mean()
        return found

    def _sets(self) -> list[tuple[str, ...]]:
        return list(itertools.combinations(self.signals, 3))


def _points(output: ModelOutput, head: str) -> Float[Tensor, "batch dim"]:
    """Of a signal; zeros where the batch lacks it, tied to the graph so that no rank waits."""
    if head in output.heads:
        return output.heads[head]
    kind = head.split(".")[0]
    like = next(x for name, x in output.heads.items() if name.startswith(f"{kind}."))
    return torch.zeros_like(like) + 0.0 * output.latents.sum()
