"""The types of tensors that flow from tokenize to the model and out of it.

They are apart from `neurofmx.types`, whose arrays need no torch, which takes seconds to import.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class TokenizedSequence:
    """Tokens with a start and a duration each, what every tokenizer emits.

    Attributes:
        tokens: Token × feature, with any leading batch axes.
        t0: Start of the first token (s, float64: float32 is 1 ms coarse at 10⁴ s).
        dt: Duration of each token (s), or one number for all of them.
        mask: True where the token is valid.
    """

    tokens: Float[Tensor, "*batch token feature"]
    t0: Float[Tensor, "*batch"]
    dt: Float[Tensor, "*batch token"] | Float[Tensor, ""]
    mask: Bool[Tensor, "*batch token"]

    def __post_init__(self):
        if self.tokens.ndim < 2:
            raise ValueError(f"tokens are (…, token, feature), not {tuple(self.tokens.shape)}")
        if self.mask.shape != self.tokens.shape[:-1]:
            raise ValueError(
                f"mask {tuple(self.mask.shape)} does not fit tokens {tuple(self.tokens.shape)}: "
                "it needs one entry per token"
            )
        if not bool((torch.as_tensor(self.dt) > 0).all()):
            raise ValueError("dt is the duration of a token in seconds and must be positive")

    @property
    def times(self) -> Float[Tensor, "*batch token"]:
        """Middle of each token relative to `t0` (s); relative times stay exact in float32."""
        dt = self.dt.expand(self.mask.shape)
        return dt.cumsum(-1) - dt / 2

    def to(self, device: torch.device | str) -> "TokenizedSequence":
        """The same tokens on another device."""
        return TokenizedSequence(
            self.tokens.to(device), self.t0.to(device), self.dt.to(device), self.mask.to(device)
        )


@dataclass(frozen=True)
class SignalBatch:
    """One modality of a batch of windows, before its tokenizer: ragged channels, padded.

    Attributes:
        values: Window × time × channel; 0 where padded.
        t0: Start of each window (s, float64).
        dt: Duration of a sample (s).
        mask: False where a sample is a gap or padding.
        channel_ids: Row of the model's vocabulary of each channel; 0 = unknown.
        channel_mask: False where a channel is padding.
    """

    values: Float[Tensor, "batch time channel"]
    t0: Float[Tensor, " batch"]
    dt: float
    mask: Bool[Tensor, "batch time"]
    channel_ids: Int[Tensor, "batch channel"]
    channel_mask: Bool[Tensor, "batch channel"]

    def to(self, device: torch.device | str) -> "SignalBatch":
        """The same windows on another device."""
        return SignalBatch(
            self.values.to(device),
            self.t0.to(device),
            self.dt,
            self.mask.to(device),
            self.channel_ids.to(device),
            self.channel_mask.to(device),
        )


@dataclass(frozen=True)
class Target:
    """What a task asks of a batch of windows.

    Attributes:
        kind: Of the task: regression or classification.
        values: Window × query × dimension, centred and scaled by the train split; for classes,
            the class as a float in dimension 0.
        times: Time of each query relative to the window's start (s).
        mask: False where the target is undefined: such a query never enters loss or score.
    """

    kind: Literal["regression", "classification"]
    values: Float[Tensor, "batch query dim"]
    times: Float[Tensor, "batch query"]
    mask: Bool[Tensor, "batch query"]

    def to(self, device: torch.device | str) -> "Target":
        """The same targets on another device."""
        moved = (x.to(device) for x in (self.values, self.times, self.mask))
        return Target(self.kind, *moved)


@dataclass(frozen=True)
class Batch:
    """Windows of several recordings, by modality, with their targets by task.

    Attributes:
        signals: By name of the signal (one tokenizer each).
        targets: By name of the task.
        recordings: Recording of each window.
        keys: Key of each window in the shards' index.
    """

    signals: dict[str, SignalBatch]
    targets: dict[str, Target]
    recordings: list[str]
    keys: list[str]

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return Batch(
            {name: signal.to(device) for name, signal in self.signals.items()},
            {name: target.to(device) for name, target in self.targets.items()},
            self.recordings,
            self.keys,
        )


@dataclass(frozen=True)
class ModelOutput:
    """What the model computes for a batch.

    Attributes:
        latents: Perceiver latents that fuse the modalities.
        features: Output of the backbone of each signal, in time.
        heads: By `decode.<task>` (scaled targets or logits), `answer.<task>` (what it is read
            from), `reconstruct.<signal>` and `forecast.<signal>` (normalised samples; the
            forecast made at a patch is of the next one).
    """

    latents: Float[Tensor, "batch latent width"]
    features: dict[str, TokenizedSequence]
    heads: dict[str, Tensor]


@dataclass(frozen=True)
class Hidden:
    """What masked modelling hides of each signal of a batch.

    Attributes:
        channels: Hidden for the whole window: to be told from the other channels.
        patches: Tokens hidden over all channels: to be told from other times.
    """

    channels: dict[str, Bool[Tensor, "batch channel"]]
    patches: dict[str, Bool[Tensor, "batch token"]]
