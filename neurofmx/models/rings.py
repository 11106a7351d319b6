"""What a causal Perceiver remembers of a stream: rings of keys and values, in constant memory.

What is at time t sees (t − horizon, t] and no more, so rings that hold the keys and values of that
long are all there is to remember: those of the tokens, and those of the latents of each layer.
A key is turned by its time since the stream began; since only differences of time matter and
angles keep no whole turns, it never has to be turned again.

Nothing here branches on data, so that a graph can be made of it (`neurofmx.serving`): a latent
that is not due yet is computed as any other, and leaves the rings as they were.
"""

import math

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from neurofmx.models.attention import TOLERANCE, CrossAttention, attend, within
from neurofmx.models.perceiver import PerceiverIO

Held = dict[str, Tensor]


class Rings:
    """Tokens go in, latents are made, and queries are answered from them.

    Args:
        perceiver: In causal mode.
        held: What `empty` gives, or what another one held; it is changed in place.
    """

    def __init__(self, perceiver: PerceiverIO, held: Held):
        self.perceiver, self.held = perceiver, held
        self.batch, self.capacity = held["token_ends"].shape
        self.slots = len(held["latent_times"])

    @staticmethod
    def empty(perceiver: PerceiverIO, batch: int, capacity: int) -> Held:
        """The rings before the first token.

        `count` is of tokens and of latents so far; it stays on the CPU, where it is read.
        """
        read, weight = perceiver.read, perceiver.latents
        feature = weight.shape[1] // read.n_heads
        slots = math.ceil(perceiver.horizon / perceiver.spacing)
        never = torch.full((1,), -math.inf, dtype=torch.float64, device=weight.device)
        tokens = (batch, read.n_heads, capacity, feature)
        latents = (len(perceiver.layers) + 1, batch, read.n_heads, slots, feature)
        return {
            "token_keys": weight.new_zeros(tokens),
            "token_values": weight.new_zeros(tokens),
            "token_ends": never.repeat(batch, capacity),
            "latent_keys": weight.new_zeros(latents),
            "latent_values": weight.new_zeros(latents),
            "latent_times": never.repeat(slots),
            "count": torch.zeros(2, dtype=torch.int64),
        }

    def overwritten(self, n: int) -> Float[Tensor, "batch token"]:
        """Ends of the tokens whose places the next n take (s)."""
        return self.held["token_ends"][:, self._token_slots(n)]

    def push(
        self,
        tokens: Float[Tensor, "batch token width"],
        times: Float[Tensor, "batch token"],
        ends: Float[Tensor, "batch token"],
    ) -> None:
        """Take in tokens, as `PerceiverStream.push` does; nobody sees one that ends at −∞."""
        held, slots = self.held, self._token_slots(tokens.shape[1])
        keys, values = self.perceiver.read.keys_values(tokens, self.perceiver.read.angles(times))
        held["token_keys"].index_copy_(2, slots, keys)
        held["token_values"].index_copy_(2, slots, values)
        held["token_ends"].index_copy_(1, slots, ends)
        held["count"][0] += tokens.shape[1]

    def make(self, now: Float[Tensor, "1"] | None = None) -> None:
        """The next latent: it reads the tokens, then the latents of each layer.

        Args:
            now: The rings stay as they were if it is not due by now (s); None: it is.
        """
        perceiver, held = self.perceiver, self.held
        number = held["count"][1:].to(perceiver.latents.device)
        due = (number + 1).double() * perceiver.spacing
        made = None if now is None else due <= now + TOLERANCE
        slot, at = number % self.slots, due.expand(self.batch, 1)
        _put(held["latent_times"], 0, slot, due, made)
        angles = perceiver.read.angles(at)
        row = perceiver.latents.index_select(0, number % len(perceiver.latents))
        x = row.expand(self.batch, 1, -1)
        seen = within(at, held["token_ends"], perceiver.horizon)
        q = perceiver.read.queries(x, angles)
        x = perceiver.read.answer(x, attend(q, held["token_keys"], held["token_values"], seen))
        among = within(at, held["latent_times"].expand(self.batch, -1), perceiver.horizon)
        for layer, of in enumerate([*perceiver.layers, perceiver.write]):
            keys, values = of.keys_values(x, angles)
            _put(held["latent_keys"][layer], 2, slot, keys, made)
            _put(held["latent_values"][layer], 2, slot, values, made)
            if of is not perceiver.write:
                x = self._look(of, layer, x, angles, among)
        held["count"][1] += 1 if made is None else made[0]

    def answer(
        self,
        queries: Float[Tensor, "batch query latent_width"],
        times: Float[Tensor, "batch query"],
    ) -> Float[Tensor, "batch query latent_width"]:
        """Answers to queries at times from the last latent to before the next (s)."""
        write, of = self.perceiver.write, self.held["latent_times"].expand(self.batch, -1)
        seen = within(times, of, self.perceiver.horizon)
        return self._look(write, len(self.perceiver.layers), queries, write.angles(times), seen)

    def _token_slots(self, n: int) -> Int[Tensor, " token"]:
        places = (self.held["count"][0] + torch.arange(n)) % self.capacity
        return places.to(self.held["token_ends"].device)

    def _look(
        self,
        attention: CrossAttention,
        layer: int,
        x: Float[Tensor, "batch query width"],
        angles: Float[Tensor, "batch query pair"],
        seen: Bool[Tensor, "batch query latent"],
    ) -> Float[Tensor, "batch query width"]:
        """What queries get from the latents of a layer that they may see."""
        keys, values = self.held["latent_keys"][layer], self.held["latent_values"][layer]
        return attention.answer(x, attend(attention.queries(x, angles), keys, values, seen))


def _put(
    ring: Shaped[Tensor, "..."],
    axis: int,
    slot: Int[Tensor, "1"],
    new: Shaped[Tensor, "..."],
    made: Bool[Tensor, "1"] | None,
) -> None:
    """Write into a slot of a ring, unless `made` is false."""
    if made is not None:
        new = torch.where(made, new, ring.index_select(axis, slot))
    ring.index_copy_(axis, slot, new)
