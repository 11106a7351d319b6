"""Tokens in time: what every tokenizer emits, and what the backbone makes of it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

ABUT = 1e-6  # s; sequences closer than this follow each other


@dataclass(frozen=True, init=False)
class TokenizedSequence:
    """Tokens with a start and a duration each, what every tokenizer emits.

    Attributes:
        tokens: Batch × token × feature; one sequence is a batch of one. More batch axes may lead.
        t0: Start of the sequence (s, float64: float32 is 1 ms coarse at 10⁴ s).
        dt: Duration of each token (s), or one number for all of them.
        mask: True where the token is valid.
        offsets: Start of each token after `t0` (s), in order, where tokens do not follow each other
            without a gap (events: several may start at once). None: each starts where the one
            before it ends.
    """

    tokens: Float[Tensor, "*batch token feature"]
    t0: Float[Tensor, "*batch"]
    dt: Float[Tensor, "*batch token"] | Float[Tensor, ""]
    mask: Bool[Tensor, "*batch token"]
    offsets: Float[Tensor, "*batch token"] | None = None

    # Any shape is taken here, so that one that does not fit is refused in the user's words.
    def __init__(
        self,
        tokens: Tensor,
        t0: Tensor | float,
        dt: Tensor | float,
        mask: Tensor,
        offsets: Tensor | None = None,
    ):
        if tokens.ndim < 3:
            raise ValueError(
                f"tokens are (batch, token, feature), not {tuple(tokens.shape)}: "
                "add the batch axis (`tokens[None]`, `mask[None]`)"
            )
        if mask.dtype != torch.bool:
            raise ValueError(f"mask is {mask.dtype}; it needs bool, true where a token is valid")
        batch, device = tokens.shape[:-2], tokens.device
        # Times are double, since clocks count from 1970. One dt for all tokens is kept on the CPU,
        # so that checking it never waits for a device.
        dt = torch.as_tensor(dt, dtype=torch.float64)
        dt = dt.to(device) if dt.ndim else dt.cpu()
        if not bool((dt > 0).all()):
            raise ValueError("dt is the duration of a token in seconds and must be positive")
        t0 = torch.as_tensor(t0, dtype=torch.float64, device=device)
        t0 = t0 if t0.ndim else t0.expand(batch)
        offsets = None if offsets is None else offsets.to(device, torch.float64)
        fields = {"tokens": tokens, "t0": t0, "dt": dt, "mask": mask, "offsets": offsets}
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        self._check("t0", batch)
        for name in ("mask", "dt", "offsets"):
            self._check(name, tokens.shape[:-1])

    def _check(self, name: str, needed: torch.Size) -> None:
        value = getattr(self, name)
        if value is None or value.shape == needed or (name == "dt" and not value.ndim):
            return
        raise ValueError(
            f"{name} {tuple(value.shape)} does not fit tokens {tuple(self.tokens.shape)}: "
            f"it needs {tuple(needed)}"
        )

    def __len__(self) -> int:
        """Tokens, padding included."""
        return self.tokens.shape[-2]

    @property
    def starts(self) -> Float[Tensor, "*batch token"]:
        """Start of each token after `t0` (s, float64)."""
        if self.offsets is not None:
            return self.offsets
        if self.dt.ndim == 0:  # a product is exact to the last bit where a sum would drift
            index = torch.arange(len(self), device=self.mask.device, dtype=torch.float64)
            return (index * self.dt).expand(self.mask.shape)
        return self.dt.cumsum(-1) - self.dt

    @property
    def middles(self) -> Float[Tensor, "*batch token"]:
        """Middle of each token after `t0` (s, float64)."""
        return self.starts + self.dt / 2

    @property
    def ends(self) -> Float[Tensor, "*batch token"]:
        """End of each token after `t0` (s, float64)."""
        return self.starts + self.dt

    @property
    def times(self) -> Float[Tensor, "*batch token"]:
        """Start of each token on the recording's clock (s, float64)."""
        return self.t0[..., None] + self.starts

    @property
    def duration(self) -> Float[Tensor, "*batch"]:
        """From `t0` to the end of the last valid token (s, float64); 0 where none is valid."""
        ends = torch.where(self.mask, self.ends, 0.0)
        return F.pad(ends, (1, 0)).amax(-1)  # the pad stands for a sequence without tokens

    @property
    def end_time(self) -> Float[Tensor, "*batch"]:
        """End of the last valid token on the recording's clock (s, float64)."""
        return self.t0 + self.duration

    @property
    def rate(self) -> float:
        """Tokens per second.

        Raises:
            ValueError: Tokens last unequally long, or start at times of their own.
        """
        dt = self.dt.flatten()
        if self.offsets is not None or not len(dt) or not bool((dt - dt[0]).abs().max() < ABUT):
            raise ValueError(
                "tokens do not follow each other at one rate; read `times` and `dt` instead"
            )
        return 1.0 / float(dt[0])

    def slice_time(self, start: float, stop: float) -> "TokenizedSequence":
        """The tokens that start in [start, stop) (s on the recording's clock).

        Slices that abut hold each token once. In a batch, a token that only other sequences keep
        is masked.

        Raises:
            ValueError: `stop` lies before `start`.
        """
        if stop < start:
            raise ValueError(f"a slice needs start ≤ stop, not [{start}, {stop})")
        kept = (self.times >= start - ABUT) & (self.times < stop - ABUT)
        columns = torch.nonzero(kept.flatten(0, -2).any(0))[:, 0]
        first, last = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, 0)
        here, starts = slice(first, last), self.starts
        lead = starts[..., first] if first < last else torch.zeros_like(self.t0)
        offsets = None if self.offsets is None else starts[..., here] - lead[..., None]
        return TokenizedSequence(
            self.tokens[..., here, :],
            self.t0 + lead,
            self.dt if self.dt.ndim == 0 else self.dt[..., here],
            self.mask[..., here] & kept[..., here],
            offsets,
        )

    def pad(self, length: int) -> "TokenizedSequence":
        """With masked tokens behind the others, `length` in all.

        Raises:
            ValueError: There are more already.
        """
        missing = length - len(self)
        if missing < 0:
            raise ValueError(f"cannot pad {len(self)} tokens to {length}; slice_time cuts")
        more, offsets = (*self.mask.shape[:-1], missing), self.offsets
        if offsets is not None:
            # After the last one has ended, so that no valid token begins after a masked one.
            end = F.pad(offsets + self.dt, (1, 0)).amax(-1, keepdim=True)
            offsets = torch.cat([offsets, end.expand(more)], dim=-1)
        dt = self.dt
        if dt.ndim:
            last = dt[..., -1:] if len(self) else dt.new_ones(*more[:-1], 1)
            dt = torch.cat([dt, last.expand(more)], dim=-1)
        tokens, mask = F.pad(self.tokens, (0, 0, 0, missing)), F.pad(self.mask, (0, missing))
        return TokenizedSequence(tokens, self.t0, dt, mask, offsets)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "TokenizedSequence":
        """On another device, and the tokens in another precision; times stay in double."""
        return TokenizedSequence(
            self.tokens.to(device, dtype),
            self.t0.to(device),
            self.dt.to(device) if self.dt.ndim else self.dt,
            self.mask.to(device),
            None if self.offsets is None else self.offsets.to(device),
        )

    @classmethod
    def concatenate(cls, sequences: Sequence["TokenizedSequence"]) -> "TokenizedSequence":
        """Sequences that follow each other, as one.

        Raises:
            ValueError: One does not begin where the one before it ends (or, where tokens have
                starts of their own, begins before the last of them has begun).
        """
        for number, (a, b) in enumerate(itertools.pairwise(sequences), start=1):
            gap = b.t0 - a._last
            wrong = gap < -ABUT if _loose([a, b]) else gap.abs() > ABUT
            if bool(wrong.any()):
                raise ValueError(
                    f"sequence {number} begins {float(gap[wrong][0]):+.6g} s from the end of the "
                    "one before it: only sequences that follow each other are joined; sort them, "
                    "and leave gaps in by masked tokens"
                )
        first, offsets = sequences[0], None
        if _loose(sequences):
            after = [s.starts + (s.t0 - first.t0)[..., None] for s in sequences]
            # Masked tokens in between may lie later than what follows: they are moved before it.
            offsets = torch.cat(after, dim=-1).flip(-1).cummin(-1).values.flip(-1)
        dt = _shared_dt(sequences)
        return cls(
            torch.cat([s.tokens for s in sequences], dim=-2),
            first.t0,
            torch.cat([s._dts for s in sequences], dim=-1) if dt is None else dt,
            torch.cat([s.mask for s in sequences], dim=-1),
            offsets,
        )

    @classmethod
    def batch(cls, sequences: Sequence["TokenizedSequence"]) -> "TokenizedSequence":
        """The rows of all sequences, of any lengths, as one batch; the short ones padded."""
        longest = max(map(len, sequences))
        padded = [s.pad(longest) for s in sequences]
        dt = _shared_dt(padded)
        return cls(
            torch.cat([s.tokens for s in padded]),
            torch.cat([s.t0 for s in padded]),
            torch.cat([s._dts for s in padded]) if dt is None else dt,
            torch.cat([s.mask for s in padded]),
            torch.cat([s.starts for s in padded]) if _loose(padded) else None,
        )

    @property
    def _dts(self) -> Float[Tensor, "*batch token"]:
        return self.dt.to(self.mask.device).expand(self.mask.shape)

    @property
    def _last(self) -> Float[Tensor, "*batch"]:
        """Where the next sequence has to begin, or, of tokens with starts, not before (s)."""
        if self.offsets is None:
            ends = self.starts + self.dt
        else:
            ends = torch.where(self.mask, self.offsets, 0.0)
        return self.t0 + F.pad(ends, (1, 0)).amax(-1)


@dataclass(frozen=True, init=False)
class Features(TokenizedSequence):
    """What the backbone makes of a signal's tokens, and what it made it of.

    Attributes:
        entered: The tokens before the backbone, sized by their number of channels
            (`neurofmx.models.features.size`).
    """

    entered: Float[Tensor, "batch token feature"] = field(kw_only=True)

    def __init__(
        self,
        tokens: Tensor,
        t0: Tensor,
        dt: Tensor,
        mask: Tensor,
        offsets: Tensor | None,
        *,
        entered: Tensor,
    ):
        super().__init__(tokens, t0, dt, mask, offsets)
        object.__setattr__(self, "entered", entered)


def _loose(sequences: Sequence[TokenizedSequence]) -> bool:
    return any(s.offsets is not None for s in sequences)


def _shared_dt(sequences: Sequence[TokenizedSequence]) -> Tensor | None:
    """The number that is the dt of every token of all sequences; None where there is none."""
    dt = sequences[0].dt
    return dt if all(s.dt.ndim == 0 and torch.equal(s.dt, dt) for s in sequences) else None
