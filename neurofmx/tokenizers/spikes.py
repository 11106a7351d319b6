"""Spikes one by one: which unit, when, and that a silent unit was there at all.

A token stands for an event of unit u at time t after the window's start:

    x = Σ_r φ_r (m_r ⊙ g_u) + b_u + W · f(t)

with φ = [is a spike, is the window's start, is its end, samples of the waveform …], (g_u, b_u) the
unit's embedding as in every tokenizer, and f sines and cosines of the time. Each unit that is
present has a token at the window's start and one at its end, so that a silent one is told from one
that is not there.

Source: tokens of spikes with unit embeddings and start and end tokens, Azabou et al. 2023 (POYO),
arXiv:2310.16046; Fourier features of time, Tancik et al. 2020, arXiv:2006.10739.
"""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import repeat
from jaxtyping import Bool, Float, Int
from pydantic import NonNegativeInt, PositiveFloat
from torch import Tensor, nn

from neurofmx.batches import EventBatch, SignalBatch
from neurofmx.sequence import TokenizedSequence
from neurofmx.tokenizers.base import Tokenizer

SPIKE, START, END = range(3)  # first rows of `mixing`; those of the waveform follow
WAVES = 16


class SpikeTokenizer(Tokenizer):
    """Events → a token each, (2, 100) → (2, 100, 768), and two for each unit that is present.

    Source: Azabou et al. 2023 (POYO), arXiv:2310.16046.
    """

    class Config(Tokenizer.Config):
        """Settings; `patch` and `grid` mean nothing here.

        Attributes:
            dt: What a spike is said to last (s).
            boundaries: Whether each unit has a token at the window's start and one at its end.
            waveform: Samples of an event's waveform that enter.
            periods: Shortest and longest period of f (s).
        """

        kind: Literal["spikes"] = "spikes"
        dt: PositiveFloat = 1e-3
        boundaries: bool = True
        waveform: NonNegativeInt = 0
        periods: tuple[PositiveFloat, PositiveFloat] = (4e-3, 16.0)

    config: Config
    linear = True

    def __init__(self, config: Config | None = None, pool: nn.Module | None = None):
        super().__init__(config)  # a token holds one unit: there is nothing to pool
        self.time = nn.Linear(2 * WAVES, self.config.width, bias=False)

    @property
    def n_features(self) -> int:
        """Three kinds of event, and the samples of a waveform."""
        return 3 + self.config.waveform

    def tokenize(
        self,
        signal: SignalBatch | EventBatch,
        hidden: Bool[Tensor, "batch _token channel"] | None = None,
    ) -> TokenizedSequence:
        """Tokens in the order of time; the starts first, the ends last, then padding.

        Args:
            signal: As the loader gives it; anything where a mask is false changes nothing.
            hidden: Units that are hidden, for the whole window: they have no token.
        """
        assert isinstance(signal, EventBatch), "samples have a tokenizer of their own"
        shown = None if hidden is None else ~hidden[:, 0]
        return self._tokens(signal, shown, self.config.boundaries)

    def forward(  # type: ignore[override]  # events are no samples
        self,
        units: Int[Tensor, "batch event"],
        times: Float[Tensor, "batch event"] | None = None,
        waveforms: Float[Tensor, "batch event sample"] | None = None,
        mask: Bool[Tensor, "batch event"] | None = None,
        t0: Float[Tensor, " batch"] | None = None,
        present: Bool[Tensor, "batch channel"] | None = None,
        duration: Float[Tensor, " batch"] | None = None,
    ) -> TokenizedSequence:
        """Tokens of events that did not come through the loader.

        Args:
            units: Unit of each event: 0, 1, … for rows 1, 2, … of the vocabulary.
            times: After t0 (s), in order; without them one event every `dt`.
            waveforms: Samples of each event's waveform, about 1 in size.
            mask: False for events that are padding.
            t0: Start of each window (s).
            present: Units of each window; without it there are no starts and ends.
            duration: Of each window (s); without it, to the end of the last event.

        Raises:
            ValueError: A unit has no row in the vocabulary, or no place in `present`.
        """
        (batch, events), device = units.shape, units.device
        mask = torch.ones_like(units, dtype=torch.bool) if mask is None else mask
        if times is None:
            times = (torch.arange(events, device=device) * self.config.dt).expand(batch, -1)
        if duration is None:
            duration = F.pad(times.masked_fill(~mask, 0.0), (0, 1)).amax(1) + self.config.dt
        n = int(F.pad(units.masked_fill(~mask, 0), (0, 1)).max()) + 1
        if present is not None and n > present.shape[1]:
            raise ValueError(f"an event is of unit {n - 1}, but `present` has {present.shape[1]}")
        n = n if present is None else present.shape[1]
        every = torch.ones(batch, n, dtype=torch.bool, device=device)
        signal = EventBatch(
            times=times,
            channels=units,
            t0=torch.zeros(batch, dtype=torch.float64, device=device) if t0 is None else t0,
            duration=duration,
            mask=mask,
            channel_ids=self.rows(units, n),
            channel_mask=every if present is None else present,
            waveforms=waveforms,
        )
        return self._tokens(signal, None, self.config.boundaries and present is not None)

    def _tokens(
        self, signal: EventBatch, shown: Bool[Tensor, "batch channel"] | None, boundaries: bool
    ) -> TokenizedSequence:
        present = signal.channel_mask if shown is None else signal.channel_mask & shown
        marks = self._events(signal)
        if boundaries:
            marks = _between(marks, signal)
        valid = marks.valid & present.gather(1, marks.unit)
        # Padding last, and after the window's end, so that no valid token begins after it.
        end = signal.duration[:, None].double() + self.config.dt
        marks = marks._replace(valid=valid, time=torch.where(valid, marks.time.double(), end))
        marks = marks.taken((~valid).byte().argsort(dim=1, stable=True))
        tokens = self._embed(marks, *self.embeddings(signal)[:2]) * marks.valid[..., None]
        duration = torch.tensor(self.config.dt, dtype=torch.float64)
        return TokenizedSequence(tokens, signal.t0, duration, marks.valid, marks.time)

    def _events(self, signal: EventBatch) -> "_Marks":
        unit = signal.channels.masked_fill(~signal.mask, 0)
        samples = self.config.waveform
        waveform = signal.times.new_zeros(*unit.shape, samples)
        if samples and signal.waveforms is not None:
            if signal.waveforms.shape[-1] != samples:
                raise ValueError(
                    f"waveforms of {signal.waveforms.shape[-1]} samples, but the tokenizer was "
                    f"built for {samples}: set its waveform to their length"
                )
            waveform = signal.waveforms.masked_fill(~signal.mask[..., None], 0.0)
        return _Marks(torch.full_like(unit, SPIKE), unit, signal.times, signal.mask, waveform)

    def _embed(
        self,
        marks: "_Marks",
        gain: Float[Tensor, "batch channel width"],
        bias: Float[Tensor, "batch channel width"],
    ) -> Float[Tensor, "batch token width"]:
        """x of the equation above."""
        unit = repeat(marks.unit, "b n -> b n w", w=gain.shape[-1])
        kind = F.one_hot(marks.kind, END + 1)
        features = torch.cat([kind.to(gain.dtype), marks.waveform.to(gain.dtype)], dim=-1)
        when = self.time(self._waves(marks.time).to(gain.dtype))
        return (features @ self.mixing) * gain.gather(1, unit) + bias.gather(1, unit) + when

    def _waves(self, time: Float[Tensor, "batch token"]) -> Float[Tensor, "batch token wave"]:
        shortest, longest = (math.log10(period) for period in self.config.periods)
        periods = torch.logspace(shortest, longest, WAVES, device=time.device)
        angle = (2 * math.pi * time[..., None] / periods).float()
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


class _Marks(NamedTuple):
    """What each token stands for."""

    kind: Int[Tensor, "batch token"]
    unit: Int[Tensor, "batch token"]  # its place along the axis of channels
    time: Float[Tensor, "batch token"]  # s after t0
    valid: Bool[Tensor, "batch token"]
    waveform: Float[Tensor, "batch token sample"]

    def taken(self, order: Int[Tensor, "batch token"]) -> "_Marks":
        flat = [x.gather(1, order) for x in self[:-1]]
        wide = repeat(order, "b n -> b n s", s=self.waveform.shape[-1])
        return _Marks._make([*flat, self.waveform.gather(1, wide)])


def _between(events: _Marks, signal: EventBatch) -> _Marks:
    """Events between a start and an end of every unit, valid or not."""
    # By row of the vocabulary, since the order of the channels says nothing.
    unit = signal.channel_ids.argsort(dim=1, stable=True)
    parts = []
    for kind, time in ((START, torch.zeros_like(signal.duration)), (END, signal.duration)):
        parts.append(
            _Marks(
                torch.full_like(unit, kind),
                unit,
                repeat(time, "b -> b c", c=unit.shape[1]),
                torch.ones_like(unit, dtype=torch.bool),
                events.waveform.new_zeros(*unit.shape, events.waveform.shape[-1]),
            )
        )
    columns = zip(parts[0], events, parts[1], strict=True)
    return _Marks._make(torch.cat(column, dim=1) for column in columns)
