"""What is asked of features in time: the last that is known, their mean, all but some windows'."""

import dataclasses

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from neurofmx.sequence import TokenizedSequence

ROUNDING = 1e-6  # s


def last_known(
    sequence: TokenizedSequence, times: Float[Tensor, "batch query"], causal: bool
) -> Float[Tensor, "batch query width"]:
    """The last token to have begun by each time (s from the window's start), in a causal model to
    have ended; 0 where it is masked, or there is none.
    """
    known = (sequence.ends if causal else sequence.starts).contiguous()
    # A query lies on the edge of a token to within rounding: it is of the token known from there.
    index = torch.searchsorted(known, times.double() + ROUNDING, right=True)
    tokens = F.pad(sequence.tokens * sequence.mask[..., None], (0, 0, 1, 0))
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))


def mean(sequence: TokenizedSequence) -> Float[Tensor, "batch width"]:
    """Over the tokens that the mask keeps; 0 where it keeps none."""
    kept = sequence.mask[..., None].to(sequence.tokens.dtype)
    return (sequence.tokens * kept).sum(1) / kept.sum(1).clamp(min=1)


def halves(
    features: TokenizedSequence, entered: TokenizedSequence
) -> tuple[Float[Tensor, "batch width"], Float[Tensor, "batch width"]]:
    """What the backbone says at the middle of each window, and the mean of the tokens after it.

    Args:
        features, entered: A signal's tokens behind the backbone, which is causal, and before it.
    """
    known = features.mask.cumsum(1)
    first = known <= (known[:, -1:] + 1) // 2
    place = (first & features.mask).cumsum(1).argmax(1)
    rows = torch.arange(len(place), device=place.device)
    past = features.tokens[rows, place] * features.mask.any(1, keepdim=True)
    return past, mean(dataclasses.replace(entered, mask=entered.mask & ~first))


def without(sequence: TokenizedSequence, windows: Bool[Tensor, " batch"]) -> TokenizedSequence:
    """The sequence with nothing left of some windows."""
    kept = ~windows.to(sequence.mask.device)[:, None]
    return dataclasses.replace(sequence, mask=sequence.mask & kept)
