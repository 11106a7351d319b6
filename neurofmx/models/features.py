"""What is asked of features in time: what they hold at a time, means, all but some windows'."""

import dataclasses
import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from neurofmx.batches import EventBatch, SignalBatch
from neurofmx.sequence import Features, TokenizedSequence

ROUNDING = 1e-6  # s
SIZE = 0.3  # of what entered the backbone, by the root of the number of channels


def size(signal: SignalBatch | EventBatch) -> Float[Tensor, " batch"]:
    """Size of what is added straight to answers: SIZE √n, n the channels that the recording has.

    A token is a mean over n channels, in which what each says by itself is √n smaller. Leaving
    some out at random moves no mean, and so no size either: by that of those that are left, a
    model would later be shown what is larger than all that it was trained on.
    """
    n = signal.channel_mask.sum(1) if signal.population is None else signal.population
    return SIZE * n.clamp(min=1).sqrt()


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


def held(
    sequence: TokenizedSequence, times: Float[Tensor, "batch query"], causal: bool
) -> Float[Tensor, "batch query width"]:
    """What a sequence holds at each time: `last_known`, on a straight line to the token after it.

    A token is longer than what may be asked about; on steps no answer could be smooth. A causal
    model does not know that next token yet, and between events there is nothing: there it is
    `last_known` alone, as where the next one is masked.
    """
    now = last_known(sequence, times, causal)
    if causal or sequence.offsets is not None or len(sequence) < 2:
        return now
    starts = sequence.starts.contiguous()
    at = times.double()
    index = torch.searchsorted(starts, at + ROUNDING, right=True)  # of the next token
    inside = (index > 0) & (index < len(sequence))
    later = index.clamp(1, len(sequence) - 1)
    start, end = starts.gather(1, later - 1), starts.gather(1, later)
    share = ((at - start) / (end - start)).clamp(0, 1).to(now.dtype)
    known = inside & sequence.mask.gather(1, later) & sequence.mask.gather(1, later - 1)
    tokens = sequence.tokens
    then = tokens.gather(1, later[..., None].expand(-1, -1, tokens.shape[-1]))
    return torch.where(known[..., None], now + share[..., None] * (then - now), now)


def mean(sequence: TokenizedSequence) -> Float[Tensor, "batch width"]:
    """Over the tokens that the mask keeps; 0 where it keeps none."""
    kept = sequence.mask[..., None].to(sequence.tokens.dtype)
    return (sequence.tokens * kept).sum(1) / kept.sum(1).clamp(min=1)


def lately(
    sequence: Features, times: Float[Tensor, "batch query"], causal: bool, span: float
) -> Float[Tensor, "batch _query width"]:
    """The mean of what entered the backbone in a window; in a causal model, by each time, in the
    last `span` (s) before the last token that is known. 0 where the mask keeps none.
    """
    if not causal:
        return mean(dataclasses.replace(sequence, tokens=sequence.entered))[:, None]
    ends = sequence.ends.contiguous()
    after = torch.searchsorted(ends, times.double() + ROUNDING, right=True)
    begin = F.pad(ends, (1, 0), value=-math.inf).gather(1, after) - span + ROUNDING
    before = torch.searchsorted(ends, begin, right=True)
    kept = sequence.mask[..., None].double()
    totals = torch.cat([sequence.entered.double() * kept, kept], dim=-1).cumsum(1)
    totals = F.pad(totals, (0, 0, 1, 0))
    last, first = (
        totals.gather(1, index[..., None].expand(-1, -1, totals.shape[-1]))
        for index in (after, before)
    )
    total, count = (last - first).split([totals.shape[-1] - 1, 1], dim=-1)
    return (total / count.clamp(min=1)).to(sequence.tokens.dtype)


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


def without(sequence: Features, windows: Bool[Tensor, " batch"]) -> Features:
    """The sequence with nothing left of some windows."""
    kept = ~windows.to(sequence.mask.device)[:, None]
    return dataclasses.replace(sequence, mask=sequence.mask & kept)
