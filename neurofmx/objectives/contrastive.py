"""Contrastive: which window of one signal belongs to which window of another.

With z the points on the sphere of the n windows that have both signals,

    L = −mean_i log ( exp(z_i · z′_i / τ) / Σ_j exp(z_i · z′_j / τ) ) / log n,

asked both ways. A guess leaves 1, whatever the number of windows; one who knows leaves 0.

Source: Chen et al. 2020 (SimCLR), arXiv:2002.05709; between signals, Radford et al. 2021 (CLIP),
arXiv:2103.00020; van den Oord et al. 2018 (CPC), arXiv:1807.03748.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from neurofmx.batches import Batch, Hidden, ModelOutput

TEMPERATURE = 0.1


def contrastive(
    output: ModelOutput, batch: Batch, hidden: Hidden | None = None
) -> Float[Tensor, ""]:
    """Mean over pairs of signals of the cross-entropy above, as a share of that of guessing.

    A pair is asked about windows that have both signals, where there are two of them or more; 0
    where no pair is asked. A window that comes twice in a batch counts once: it would have to be
    told from itself.
    """
    first = {window: row for row, window in reversed(list(enumerate(batch.windows)))}
    rows = torch.tensor(sorted(first.values()), device=output.latents.device)
    points = {
        name: (output.heads[f"contrastive.{name}"][rows], sequence.mask[rows].any(1))
        for name, sequence in output.features.items()
    }
    losses = []
    for (own, here), (other, there) in itertools.combinations(points.values(), 2):
        both = here & there
        n = int(both.sum())
        if n > 1:
            losses.append(cross_entropy(own[both], other[both]) / math.log(n))
    return torch.stack(losses).mean() if losses else output.latents.new_zeros(())


def cross_entropy(
    own: Float[Tensor, "window dim"], other: Float[Tensor, "window dim"]
) -> Float[Tensor, ""]:
    """Of naming each window's partner among those of all windows, in nats; log n by guessing."""
    likeness = own.float() @ other.float().T / TEMPERATURE
    partner = torch.arange(len(own), device=own.device)
    return (F.cross_entropy(likeness, partner) + F.cross_entropy(likeness.T, partner)) / 2
