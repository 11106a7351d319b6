"""One signal of a stream: samples come in, features of tokens go out, and little is kept.

`SignalStep` makes one token of its samples and remembers, as tensors that go in and out, the cells
that the tokenizer reads before a token's own, and the states of the backbone. `StreamInput` gathers
samples to tokens: it keeps those of the token under way, and tokens that other signals have not
caught up with.
"""

import math
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from neurofmx.batches import Cells, SignalBatch
from neurofmx.data.collate import Channels
from neurofmx.models.backbone import BackboneState
from neurofmx.models.compiled import step_through
from neurofmx.models.features import size
from neurofmx.tokenizers import Tokenizer
from neurofmx.tokenizers.base import Embedded

if TYPE_CHECKING:
    from neurofmx.models.neurofmx import NeuroFMX


ROUNDING = 1e-6  # tokens


class Token(NamedTuple):
    """What the backbone makes of a token.

    Attributes:
        features: 0 where nothing was seen of it.
        lately: Mean of what entered the backbone with as many tokens as the longest window has,
            this one included.
        valid: Whether anything was seen of it.
    """

    features: Float[Tensor, "batch width"]
    lately: Float[Tensor, "batch width"]
    valid: Bool[Tensor, " batch"]


class SignalState(NamedTuple):
    """What the next token of a signal has to know of those before; its size does not grow.

    Attributes:
        values, seen: The last cells, as `Cells` has them.
        entered, valid: The last tokens, but for the oldest that `Token.lately` is a mean of.
        blocks: State of the backbone.
    """

    values: Float[Tensor, "batch token channel sample"]
    seen: Bool[Tensor, "batch token channel sample"]
    entered: Float[Tensor, "batch token width"]
    valid: Bool[Tensor, "batch token"]
    blocks: BackboneState


class SignalStep(nn.Module):
    """The token that samples make after those before: normalised, tokenized, through the backbone.

    Args:
        model: Whose tokenizer and backbone it is, in eval mode.
        name: Of the signal.
        channels: Of the recording.
        batch: Streams side by side.
    """

    gain: Tensor
    shift: Tensor
    cell_gain: Tensor
    cell_bias: Tensor
    cell_mix: Tensor | None

    def __init__(self, model: "NeuroFMX", name: str, channels: Channels, batch: int):
        super().__init__()
        self.spec, self.batch = model.config.signals[name], batch
        self.tokenizer = cast(Tokenizer, model.tokenizers[name])
        self.embedding, self.backbone = model.signal_embedding[name], model.backbone
        self.dt = self.spec.patch * self.spec.dt
        # Tokens whose mean is of use; where it has none, this one alone.
        longest = math.ceil(model.config.duration / self.dt - ROUNDING)
        self.span = longest if name in model.whole else 1
        told = {"gain": channels.gain, "shift": channels.shift} | channels.embedded()
        for key, x in told.items():
            x = None if x is None else torch.as_tensor(x).to(self.embedding.device)
            self.register_buffer(key, x)
        empty = self._signal(*self._nothing())
        self.size = float(size(empty)[0])
        with torch.no_grad():
            known = self.tokenizer.embeddings(empty)
        for key, x in known._asdict().items():
            self.register_buffer(f"cell_{key}", x)

    def initial(self) -> SignalState:
        """The state before the first token."""
        cells, ago = self.tokenizer.cells(self._signal(*self._nothing())), self.tokenizer.history
        before = [x.repeat(1, ago, 1, 1) for x in (cells.values, cells.seen)]
        entered = self.embedding.new_zeros(self.batch, self.span - 1, len(self.embedding))
        valid = torch.zeros(entered.shape[:2], dtype=torch.bool, device=entered.device)
        blocks = self.backbone.initial(self.batch)
        return SignalState(before[0], before[1], entered, valid, blocks)

    def normalised(
        self, values: Float[Tensor, "batch time channel"]
    ) -> tuple[Float[Tensor, "batch time channel"], Bool[Tensor, "batch time"]]:
        """As the loader gives samples, from the recording's unit; gaps, where one is NaN, are 0."""
        seen = ~values.isnan().any(2)
        values = values.sqrt() if self.spec.counts else values
        values = torch.addcmul(self.shift, values, self.gain)
        return values.masked_fill(~seen[..., None], 0.0), seen

    def token(
        self,
        values: Float[Tensor, "batch patch channel"],
        mask: Bool[Tensor, "batch patch"],
        state: SignalState,
    ) -> tuple[Token, SignalState]:
        """The token of as many normalised samples as it has, and the state that it leaves."""
        cells, n = self.tokenizer.cells(self._signal(values, mask)), self.tokenizer.history
        pairs = ((state.values, cells.values), (state.seen, cells.seen))
        cells = Cells(*(torch.cat(pair, dim=1) for pair in pairs))
        embeddings = Embedded(self.cell_gain, self.cell_bias, self.cell_mix)
        tokens, valid = self.tokenizer.pooled(cells, embeddings, before=n)
        x, seen = tokens[:, 0] + self.embedding, valid[:, 0]
        features, blocks = self.backbone.step(x, state.blocks, seen)
        sized = x * (self.size * seen)[:, None]
        entered = torch.cat([state.entered, sized[:, None]], dim=1)
        known = torch.cat([state.valid, seen[:, None]], dim=1)
        lately = entered.sum(1) / known.sum(1, keepdim=True).clamp(min=1)
        left = (cells.values[:, 1:], cells.seen[:, 1:], entered[:, 1:], known[:, 1:])
        return Token(features * seen[:, None], lately, seen), SignalState(*left, blocks)

    def _nothing(self) -> tuple[Tensor, Tensor]:
        """A token's samples of which none was recorded."""
        values = self.gain.new_zeros(self.batch, self.spec.patch, len(self.gain))
        return values, values.new_zeros(values.shape[:2], dtype=torch.bool)

    def _signal(
        self, values: Float[Tensor, "batch time channel"], mask: Bool[Tensor, "batch time"]
    ) -> SignalBatch:
        known = ("channel_ids", "channel_mask", "regions", "positions")
        own: dict[str, Any] = {name: getattr(self, name) for name in known}
        own = {n: None if x is None else x.expand(self.batch, *x.shape) for n, x in own.items()}
        t0 = torch.zeros(self.batch, dtype=torch.float64, device=values.device)
        return SignalBatch(values=values, t0=t0, dt=self.spec.dt, mask=mask, **own)


class StreamInput:
    """One signal of a stream.

    Args:
        model, name, channels, batch: As in `SignalStep`.
        compiled: Whether a token's step runs through torch.compile.
    """

    def __init__(
        self, model: "NeuroFMX", name: str, channels: Channels, batch: int, compiled: bool = False
    ):
        self.name, self.step = name, SignalStep(model, name, channels, batch)
        self._token = step_through(self.step.token, compiled)
        self.dt, self.kept = self.step.dt, self.step.initial()
        device = model.hidden_token.device
        self.values = torch.zeros(batch, 0, len(channels.ids), device=device)
        self.mask = torch.zeros(batch, 0, dtype=torch.bool, device=device)
        self.waiting: list[Token] = []
        self.made = 0  # tokens, those that wait included
        nothing = self.values.new_zeros(batch, len(model.hidden_token))
        self.last = Token(nothing, nothing, self.mask.new_zeros(batch))

    @property
    def next(self) -> float:
        """When the first token that waits, or the one under way, ends (s)."""
        return (self.made - len(self.waiting) + 1) * self.dt

    def take(
        self,
        values: Float[Tensor, "batch time channel"],
        mask: Bool[Tensor, "batch time"] | None = None,
    ) -> None:
        """Samples that follow those before, in the recording's unit.

        Args:
            mask: False where there is a gap; so is a sample of which a channel is NaN.

        Raises:
            ValueError: They are of other channels, or of another number of streams.
        """
        batch, channels = self.values.shape[0], self.values.shape[2]
        if (len(values), values.shape[2]) != (batch, channels):
            raise ValueError(
                f"{self.name} came as {tuple(values.shape)}; this stream takes (stream, sample, "
                f"channel) = ({batch}, any, {channels})"
            )
        values, seen = self.step.normalised(values)
        seen = seen if mask is None else mask & seen
        self.values = torch.cat([self.values, values], dim=1)
        self.mask = torch.cat([self.mask, seen], dim=1)
        patch = self.step.spec.patch
        while self.values.shape[1] >= patch:
            token, self.kept = self._token(self.values[:, :patch], self.mask[:, :patch], self.kept)
            self.values, self.mask = self.values[:, patch:], self.mask[:, patch:]
            self.waiting.append(token)
            self.made += 1

    def give(self) -> tuple[Token, Float[Tensor, "batch 1"]]:
        """The first token that waits, and when it ended (s, float64)."""
        end, token = self.next, self.waiting.pop(0)
        self.last = token
        return token, self.values.new_full((len(self.values), 1), end, dtype=torch.float64)

    def state(self) -> dict[str, Tensor]:
        """What is kept, as a copy."""
        leaves, _ = tree_flatten((self.last, self.kept))
        parts = [self.values, self.mask, *leaves]
        named = {f"{number}": part.clone() for number, part in enumerate(parts)}
        waiting = {
            f"waiting.{number}.{field}": part.clone()
            for number, token in enumerate(self.waiting)
            for field, part in token._asdict().items()
        }
        return named | waiting | {"made": torch.tensor(self.made)}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state`."""
        leaves, spec = tree_flatten((self.last, self.kept))
        parts = [state[f"{number}"].clone() for number in range(2 + len(leaves))]
        self.values, self.mask = parts[:2]
        self.last, self.kept = tree_unflatten(parts[2:], spec)
        count = sum(name.startswith("waiting.") for name in state) // len(Token._fields)
        self.waiting = [
            Token(*(state[f"waiting.{number}.{field}"].clone() for field in Token._fields))
            for number in range(count)
        ]
        self.made = int(state["made"])
