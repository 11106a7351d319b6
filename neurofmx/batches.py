"""The types of tensors that flow from tokenize to the model and out of it.

They are apart from `neurofmx.types`, whose arrays need no torch, which takes seconds to import.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neurofmx.sequence import Features
from neurofmx.types import TaskKind

HeadName = Literal[
    "decode",
    "reconstruct",
    "forecast",
    "contrastive",
    "halves",
    "moment",
    "codes",
    "domain",
    "denoise",
]


def _to(thing: Any, device: torch.device | str) -> Any:
    """The same dataclass with its tensors on another device."""
    tensors = {
        f.name: value.to(device)
        for f in dataclasses.fields(thing)
        if isinstance(value := getattr(thing, f.name), Tensor)
    }
    return dataclasses.replace(thing, **tensors)


@dataclass(frozen=True)
class SignalBatch:
    """One sampled signal of a batch of windows, before its tokenizer: ragged channels, padded.

    Attributes:
        values: Window × time × channel, normalised by each channel's train windows (of counts
            their square root is); 0 where padded.
        t0: Start of each window (s, float64).
        dt: Duration of a sample (s).
        mask: False where a sample is a gap or padding.
        channel_ids: Row of the model's vocabulary of each channel; 0 = unknown.
        channel_mask: False where a channel is padding.
        regions: Row of the model's vocabulary of brain regions; 0 = unknown. None: all are.
        positions: x, y and z of each channel (m), NaN where unknown. None: all are.
        gain, shift: Of counts, how they were normalised: values = gain · √count + shift, 0 where
            a channel is padding. None: these are no counts.
        rate: Of counts, the mean of each channel over its train windows (counts per sample).
        population: Channels that the recording has, of which augmentation may have left some out.
            None: those of the mask.
    """

    values: Float[Tensor, "batch time channel"]
    t0: Float[Tensor, " batch"]
    dt: float
    mask: Bool[Tensor, "batch time"]
    channel_ids: Int[Tensor, "batch channel"]
    channel_mask: Bool[Tensor, "batch channel"]
    regions: Int[Tensor, "batch channel"] | None = None
    positions: Float[Tensor, "batch channel 3"] | None = None
    gain: Float[Tensor, "batch channel"] | None = None
    shift: Float[Tensor, "batch channel"] | None = None
    rate: Float[Tensor, "batch channel"] | None = None
    population: Int[Tensor, " batch"] | None = None

    def to(self, device: torch.device | str) -> "SignalBatch":
        """The same windows on another device."""
        return _to(self, device)


@dataclass(frozen=True)
class EventBatch:
    """The events of one signal of a batch of windows, before their tokenizer, padded.

    Attributes:
        times: Of each event after its window's start (s), in order.
        channels: Unit of each event: its place along the axis of `channel_ids`.
        t0: Start of each window (s, float64).
        duration: Of each window (s).
        mask: False where an event is padding.
        channel_ids, channel_mask, regions, positions, population: Of the units, as in
            `SignalBatch`.
        waveforms: Samples of each event's waveform, where the recording has them.
    """

    times: Float[Tensor, "batch event"]
    channels: Int[Tensor, "batch event"]
    t0: Float[Tensor, " batch"]
    duration: Float[Tensor, " batch"]
    mask: Bool[Tensor, "batch event"]
    channel_ids: Int[Tensor, "batch channel"]
    channel_mask: Bool[Tensor, "batch channel"]
    regions: Int[Tensor, "batch channel"] | None = None
    positions: Float[Tensor, "batch channel 3"] | None = None
    waveforms: Float[Tensor, "batch event sample"] | None = None
    population: Int[Tensor, " batch"] | None = None

    def to(self, device: torch.device | str) -> "EventBatch":
        """The same windows on another device."""
        return _to(self, device)


@dataclass(frozen=True)
class Target:
    """What a task asks of a batch of windows.

    Attributes:
        kind: Of the task: how its values are to be understood.
        values: Window × query × dimension: of a regression centred and scaled by the train split,
            angles in radians; of classes, in order or not, the class as a float in dimension 0.
        times: Time of each query relative to the window's start (s).
        mask: False where the target is undefined: such a query never enters loss or score.
    """

    kind: TaskKind
    values: Float[Tensor, "batch query dim"]
    times: Float[Tensor, "batch query"]
    mask: Bool[Tensor, "batch query"]

    @property
    def classes(self) -> bool:
        """Whether the values are classes, between which nothing lies."""
        return self.kind in ("classification", "ordinal")

    def to(self, device: torch.device | str) -> "Target":
        """The same targets on another device."""
        return _to(self, device)


@dataclass(frozen=True)
class Cells:
    """What tokens are made of: the samples of each channel (or tile of channels) in a token's time.

    Attributes:
        values: Normalised; 0 where nothing was recorded.
        seen: False where nothing was recorded and where a channel is padding.
        gain, shift, rate: Of counts, as `SignalBatch` has them, in the layout of a token.
        channel_ids, regions: Rows of the vocabulary; None where channels share a cell.
    """

    values: Float[Tensor, "batch token channel sample"]
    seen: Bool[Tensor, "batch token channel sample"]
    gain: Float[Tensor, "batch 1 channel sample"] | None = None
    shift: Float[Tensor, "batch 1 channel sample"] | None = None
    rate: Float[Tensor, "batch 1 channel sample"] | None = None
    channel_ids: Int[Tensor, "batch channel"] | None = None
    regions: Int[Tensor, "batch channel"] | None = None

    @property
    def truth(self) -> Float[Tensor, "batch token channel sample"]:
        """What the heads are held to: counts where these are counts, else the values.

        Counts are those that the model is asked for, after whatever was done to the window: whole
        ones, to rounding, as they were recorded; of a mixture the squared mixture of the roots;
        of noise that leads below 0 it is 0.
        """
        if self.gain is None or self.shift is None:
            return self.values
        # A gain of 0 is that of a channel that is padding: 0 / ε is 0.
        roots = (self.values.float() - self.shift.float()) / self.gain.float().clamp(min=1e-30)
        return roots.clamp(min=0).square()


@dataclass(frozen=True)
class Moments:
    """One moment of each window, and what an animal did then.

    Attributes:
        times: After the window's start (s).
        labels: The answer to a task, as a point whose distance says how alike two are.
        defined: False where the window has no answer.
    """

    times: Float[Tensor, " batch"]
    labels: Float[Tensor, "batch dim"]
    defined: Bool[Tensor, " batch"]


@dataclass(frozen=True)
class Batch:
    """Windows of several recordings, by signal, with their targets by task.

    Attributes:
        signals: Sampled signals by name (one tokenizer each).
        events: Signals that are tokenized per event, by name.
        targets: By name of the task.
        recordings: Recording of each window.
        windows: Position of each window in the shards' index.
        skipped: What was wrong with windows that could not be read, where they may be left out.

    What a model (`NeuroFMX.laid`) and objectives (`Objective.prepare`) add on its device:

    Attributes:
        cells: What each sampled signal's tokens are made of, before anything is hidden.
        horizons: How many tokens ahead each signal is forecast, in order.
        neural: Signals that come from the brain; the others are of body or world.
        hidden: Cells that the model may not see; of events units, for the whole window.
        asked: By name of the objective and of the signal, the cells that it asks for.
        noise: What the prior is trained on, where it is (`LatentPrior.draw`).
        moments: Of each window one, for a contrast by behaviour.
        domains: Of each window, its row of the model's domains; −1 where it is none of them.
        teacher: What a larger model says of the same windows, for distillation.
    """

    signals: dict[str, SignalBatch]
    targets: dict[str, Target]
    recordings: list[str]
    windows: list[int]
    events: dict[str, EventBatch] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    cells: dict[str, Cells] = field(default_factory=dict)
    horizons: dict[str, list[int]] = field(default_factory=dict)
    neural: frozenset[str] = frozenset()
    hidden: dict[str, Bool[Tensor, "batch _token channel"]] = field(default_factory=dict)
    asked: dict[str, dict[str, Bool[Tensor, "batch _token channel"]]] = field(default_factory=dict)
    noise: Any = None
    moments: Moments | None = None
    domains: Int[Tensor, " batch"] | None = None
    teacher: "ModelOutput | None" = None

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return dataclasses.replace(
            self,
            signals={name: signal.to(device) for name, signal in self.signals.items()},
            targets={name: target.to(device) for name, target in self.targets.items()},
            events={name: events.to(device) for name, events in self.events.items()},
        )


@dataclass(frozen=True)
class ModelOutput:
    """What the model computes for a batch.

    Attributes:
        latents: Perceiver latents that fuse the modalities.
        features: Output of the backbone of each signal, in time.
        heads: By `decode.<task>` (parameters of the answer's distribution, which the task's row
            of `LIKELIHOODS` turns into an answer), `answer.<task>` (what they are read from),
            `reconstruct.<signal>` (in the shape of `cells`: normalised samples of traces, of
            counts the logarithm of the expected count of each sample), `forecast.<signal>` (the
            same for each horizon, made at each token), `contrastive.<signal>` (each window on the
            unit sphere), `past.<signal>` and `later.<signal>` (its halves there),
            `moment.<signal>` (one moment of each window there), `codes.<signal>` and
            `code.<signal>` (logits of the codes of cells, and which it is), `domain.own` and
            `domain.through` (logits of domains, of which the first teaches the classifier alone
            and the second the latents alone). Only those that were asked for.
    """

    latents: Float[Tensor, "batch latent width"]
    features: dict[str, Features]
    heads: dict[str, Tensor]
