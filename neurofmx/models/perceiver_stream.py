"""A causal Perceiver on a stream: the numbers of its batch forward, in constant memory.

stream = PerceiverStream(perceiver, batch=1, capacity=512)
for each piece of the stream:
    stream.push(tokens, times, ends)        # projected once
    stream.advance(now)                     # the latents that fall due
    answers = stream.answer(queries, times)
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neurofmx.models.attention import TOLERANCE
from neurofmx.models.compiled import step_through
from neurofmx.models.perceiver import PerceiverIO
from neurofmx.models.rings import Rings


class PerceiverStream:
    """Reads tokens as they come and answers queries about now.

    Args:
        perceiver: In causal mode; its weights must not change while the stream runs.
        batch: Streams side by side, on one clock.
        capacity: Tokens held: as many as end within the horizon, of all signals together, and as
            many as are pushed before the latents that are due have been made.
        compiled: Whether its steps run through torch.compile.

    Raises:
        ValueError: The Perceiver is not causal.
    """

    def __init__(
        self,
        perceiver: PerceiverIO,
        batch: int = 1,
        capacity: int = 1024,
        compiled: bool = False,
    ):
        if not perceiver.causal:
            raise ValueError("only a causal Perceiver can stream; build it with causal=True")
        self.perceiver = perceiver
        self.rings = rings = Rings(perceiver, Rings.empty(perceiver, batch, capacity))
        steps = (step_through(f, compiled) for f in (rings.push, rings.make, rings.answer))
        self._push, self._make, self._answer = steps

    @property
    def time(self) -> float:
        """Time of the last latent that was made (s); 0 before the first."""
        return int(self.rings.held["count"][1]) * self.perceiver.spacing

    @property
    def due(self) -> float:
        """Time of the next latent (s)."""
        return (int(self.rings.held["count"][1]) + 1) * self.perceiver.spacing

    @torch.no_grad()
    def push(
        self,
        tokens: Float[Tensor, "batch token width"],
        times: Float[Tensor, "batch token"],
        ends: Float[Tensor, "batch token"],
        mask: Bool[Tensor, "batch token"] | None = None,
    ) -> None:
        """Take in tokens, in any order of their times.

        Args:
            times, ends: As in `PerceiverIO.forward`, since the stream began (s, float64).
            mask: False for tokens that nobody may see.

        Raises:
            ValueError: A token ends before a latent that has been made, which should have seen it,
                or takes the place of one that the next latent has to see.
        """
        if mask is not None:
            tokens = tokens.masked_fill(~mask[..., None], 0.0)
            ends = ends.masked_fill(~mask, -math.inf)
        self._check(ends)
        self._push(tokens, times, ends.double())

    @torch.no_grad()
    def advance(self, now: float) -> None:
        """Make every latent that is due by now (s); tokens that end by then have to be there."""
        while self.due <= now + TOLERANCE:
            self._make()

    @torch.no_grad()
    def answer(
        self,
        queries: Float[Tensor, "batch query latent_width"],
        times: Float[Tensor, "batch query"],
    ) -> Float[Tensor, "batch query latent_width"]:
        """Answers to queries at times from the last latent to before the next (s).

        Raises:
            ValueError: A time lies before the last latent, or at the next one or later.
        """
        first, last = (float(time) for time in times.aminmax())
        if first < self.time - TOLERANCE or last >= self.due - TOLERANCE:
            raise ValueError(
                f"queries at {first} to {last} s, but latents are made up to {self.time} s: ask "
                f"from there to before {self.due} s, or advance first"
            )
        return self._answer(queries, times)

    def state(self) -> dict[str, Tensor]:
        """Everything that the stream remembers, as a copy."""
        return {name: held.clone() for name, held in self.rings.held.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state` of a stream of the same Perceiver, batch and capacity.

        Raises:
            ValueError: It is of another one.
        """
        shapes = {name: tuple(held.shape) for name, held in self.rings.held.items()}
        given = {name: tuple(held.shape) for name, held in state.items()}
        if given != shapes:
            raise ValueError(f"the state has {given}, this stream {shapes}")
        for name, held in self.rings.held.items():
            held.copy_(state[name])

    def _check(self, ends: Float[Tensor, "batch token"]) -> None:
        """That no token comes too late, and none goes too soon."""
        if self.time and bool(((ends <= self.time + TOLERANCE) & (ends > -math.inf)).any()):
            early = float(ends[ends > -math.inf].min())
            raise ValueError(
                f"a token ends at {early} s, but the latents up to {self.time} s, which should "
                "have seen it, are made: push it before advancing there"
            )
        n, capacity = ends.shape[1], self.rings.capacity
        needed = self.rings.overwritten(n) > self.due - self.perceiver.horizon + TOLERANCE
        if n > capacity or bool(needed.any()):
            raise ValueError(
                f"a capacity of {capacity} tokens does not hold the last "
                f"{self.perceiver.horizon} s: give more, or push less before you advance"
            )
