"""NeuroFM-X: tokenizers → PopT → Mamba → Perceiver-IO → heads.

Each signal's patches are embedded per channel and pooled over channels (PopT), run along time by
one shared causal backbone (Mamba-2), and read by the latents of a Perceiver, which answer
queries: a task at a time, or a signal at a time.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neurofmx.batches import Batch, Cells, EventBatch, Hidden, ModelOutput, SignalBatch
from neurofmx.config import Params, build
from neurofmx.errors import UserError
from neurofmx.models.heads import HEADS, ChannelHead
from neurofmx.models.mamba import MambaBackbone
from neurofmx.models.params import ModelParams, SignalSpec, TaskSpec, tokenizer_config
from neurofmx.models.perceiver import PerceiverIO
from neurofmx.models.popt import PopT
from neurofmx.sequence import TokenizedSequence
from neurofmx.tokenizers import TOKENIZERS, Tokenizer
from neurofmx.tokenizers.units import Key


class Known(NamedTuple):
    """Channels of a signal that have embeddings of their own, and regions that have."""

    keys: list[Key]
    regions: list[str]


Vocabulary = dict[str, Known]  # by signal


class NeuroFMX(nn.Module):
    """The whole model.

    Args:
        config: Signals, tasks and widths; `from_config` also takes plain values.
    """

    class Config(Params):
        """Everything needed to build the model again.

        Attributes:
            duration: Longest window (s).
        """

        model: ModelParams
        duration: float
        signals: dict[str, SignalSpec]
        tasks: dict[str, TaskSpec]

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        model, width = config.model, config.model.width("d_model")
        latent = model.width("latent_dim")
        self.tokenizers = nn.ModuleDict()
        for name, spec in config.signals.items():
            settings = tokenizer_config(spec, model)
            pool = PopT(width, model.n_seeds)
            self.tokenizers[name] = TOKENIZERS[spec.tokenizer](settings, pool=pool)
        self.signal_embedding = nn.ParameterDict(
            {name: nn.Parameter(0.02 * torch.ones(width)) for name in config.signals}
        )
        self.hidden_token = nn.Parameter(torch.zeros(width))
        self.backbone = MambaBackbone(
            width,
            model.width("n_blocks"),
            model.width("d_state"),
            headdim=model.width("headdim"),
            dropout=model.dropout,
        )
        finest = min(spec.patch * spec.dt for spec in config.signals.values())
        self.perceiver = PerceiverIO(
            model.width("n_latents"),
            latent,
            width,
            model.width("n_layers"),
            model.width("n_heads"),
            model.dropout,
            (2 * finest, 4 * config.duration),
        )
        self.queries = nn.ParameterDict(
            {name: nn.Parameter(torch.empty(latent)) for name in [*config.tasks, *config.signals]}
        )
        for query in self.queries.values():
            nn.init.normal_(query, std=0.02)
        self.nearest = nn.ModuleDict(
            {name: nn.Linear(width, latent, bias=False) for name in config.signals}
        )
        self.decode = nn.ModuleDict(
            {name: HEADS[task.kind](latent, task.outputs) for name, task in config.tasks.items()}
        )
        self.reconstruct = nn.ModuleDict(
            {name: ChannelHead(latent, self._tokenizer(name)) for name in self.sampled}
        )
        self.forecast = nn.ModuleDict(
            {name: ChannelHead(width, self._tokenizer(name)) for name in self.sampled}
        )

    @property
    def sampled(self) -> list[str]:
        """Signals with samples that can be asked for; events have none."""
        return [n for n, spec in self.config.signals.items() if spec.tokenizer != "spikes"]

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """What it answers, as plain values: a data set may scale the same task otherwise."""
        return {name: spec.model_dump() for name, spec in self.config.tasks.items()}

    @property
    def vocabulary(self) -> Vocabulary:
        """Channels and regions that each signal's tokenizer knows."""
        units = {name: self._tokenizer(name).units for name in self.config.signals}
        return {name: Known(known.keys, known.regions) for name, known in units.items()}

    def forget(self) -> None:
        """Forget every channel, but not the regions; build the optimiser afterwards."""
        for name in self.config.signals:
            self._tokenizer(name).units.subset([])

    def extend(self, vocabulary: Vocabulary) -> None:
        """Give channels and regions embeddings; build the optimiser afterwards."""
        for name, known in vocabulary.items():
            self._tokenizer(name).units.extend(known.keys, known.regions)

    def rows(
        self, signal: str, recording: str, channels: Sequence[int], regions: Sequence[str]
    ) -> tuple[list[int], list[int]]:
        """Rows of a recording's channels and of their regions; 0 for what is not known."""
        return self._tokenizer(signal).units.rows(recording, channels, regions)

    def cells(self, batch: Batch) -> dict[str, Cells]:
        """What the tokens of each sampled signal are made of."""
        return {name: self._tokenizer(name).cells(s) for name, s in batch.signals.items()}

    def forward(self, batch: Batch, hidden: Hidden | None = None) -> ModelOutput:
        """Latents, features in time and the answers of every head.

        Args:
            batch: Windows.
            hidden: Channels and patches that the model may not see (masked modelling).
        """
        given: dict[str, SignalBatch | EventBatch] = {**batch.signals, **batch.events}
        features = {name: self.encode(name, signal, hidden) for name, signal in given.items()}
        tokens = torch.cat([f.tokens for f in features.values()], dim=1)
        mask = torch.cat([f.mask for f in features.values()], dim=1)
        times = torch.cat([f.middles for f in features.values()], dim=1)
        latents = self.perceiver(tokens, mask, times, self.config.duration)
        heads: dict[str, Tensor] = {}
        for name, target in batch.targets.items():
            if name in self.decode:
                answers = self.ask(name, latents, features, target.times)
                heads |= {f"answer.{name}": answers, f"decode.{name}": self.decode[name](answers)}
        for name, signal in batch.signals.items():
            gain, _ = self._tokenizer(name).embeddings(signal)
            answers = self.ask(name, latents, features, features[name].middles)
            heads[f"reconstruct.{name}"] = self.reconstruct[name](answers, gain)
            heads[f"forecast.{name}"] = self.forecast[name](features[name].tokens, gain)
        return ModelOutput(latents, features, heads, self.cells(batch))

    def encode(
        self, name: str, signal: SignalBatch | EventBatch, hidden: Hidden | None = None
    ) -> TokenizedSequence:
        """Features of one signal in time: tokenizer, PopT and backbone."""
        if hidden is None or name not in hidden.channels:
            sequence = self._tokenizer(name).tokenize(signal)
            tokens = sequence.tokens + self.signal_embedding[name]
        else:
            sequence = self._tokenizer(name).tokenize(signal, ~hidden.channels[name])
            tokens = sequence.tokens + self.signal_embedding[name]
            tokens = torch.where(hidden.tokens[name][..., None], self.hidden_token, tokens)
        return dataclasses.replace(sequence, tokens=self.backbone(tokens, sequence.mask))

    def ask(
        self,
        query: str,
        latents: Float[Tensor, "batch latent width"],
        features: dict[str, TokenizedSequence],
        times: Float[Tensor, "batch query"],
    ) -> Float[Tensor, "batch query width"]:
        """Answers to one query at several times (s from the window's start).

        A query starts from what the backbone holds at its time, so the latents have to add only
        what lies elsewhere: in other times, or between signals.
        """
        asked = self.queries[query].expand(*times.shape, -1)
        for name, sequence in features.items():
            asked = asked + self.nearest[name](_at(sequence, times))
        return self.perceiver.answer(latents, asked, times, self.config.duration)

    def _tokenizer(self, name: str) -> Tokenizer:
        return cast(Tokenizer, self.tokenizers[name])

    def untasked(
        self, task: str, values: Float[Tensor, "*batch dim"]
    ) -> Float[Tensor, "*batch dim"]:
        """Outputs of a regression head in the target's own unit."""
        spec = self.config.tasks[task]
        return values * torch.tensor(spec.scale).to(values) + torch.tensor(spec.mean).to(values)

    @classmethod
    def from_config(cls, config: "NeuroFMX.Config | dict[str, Any]") -> "NeuroFMX":
        """A model with new weights, which knows no channel yet."""
        return cls(
            config if isinstance(config, cls.Config) else build(cls.Config, config, "config")
        )

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> "NeuroFMX":
        """The model that `save_pretrained` wrote.

        Raises:
            UserError: There is no model in the folder.
        """
        folder = Path(folder)
        if not (folder / "model.safetensors").exists():
            raise UserError(f"{folder} holds no model.safetensors; run `neurofmx pretrain` first")
        model = cls.from_config(json.loads((folder / "config.json").read_text()))
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model.eval()

    def save_pretrained(self, folder: Path | str) -> None:
        """Write `model.safetensors` and `config.json`, each all or nothing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / ".model.tmp"
        state = {k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}
        save_file(state, temporary)
        os.replace(temporary, folder / "model.safetensors")
        temporary.write_text(self.config.model_dump_json(indent=1) + "\n")
        os.replace(temporary, folder / "config.json")


def untrained(config: NeuroFMX.Config, vocabulary: Vocabulary, seed: int) -> NeuroFMX:
    """A model with its initial weights: where training starts, and the control of what it adds."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = NeuroFMX(config)
        model.extend({name: known for name, known in vocabulary.items() if name in config.signals})
    return model


def _at(
    sequence: TokenizedSequence, times: Float[Tensor, "batch query"]
) -> Float[Tensor, "batch query width"]:
    """The last token to have begun by each time, 0 where it is masked (s from window's start)."""
    starts = sequence.starts.float().contiguous()
    # A query lies on the edge of a token to within rounding: it is of the token that begins there.
    index = torch.searchsorted(starts, times + 1e-6, right=True).sub(1).clamp(min=0)
    tokens = sequence.tokens * sequence.mask[..., None]
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))
