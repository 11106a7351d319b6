"""NeuroFM-X: tokenizers → PopT → Mamba → Perceiver-IO → heads.

Each signal's patches are embedded per channel and pooled over channels (PopT), run along time by
one shared causal backbone (Mamba-2), and read by the latents of a Perceiver, which answer
queries: a task at a time, or a signal at a time.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from pandas import DataFrame
from torch import Tensor, nn

from neurofmx.batches import (
    Batch,
    Cells,
    EventBatch,
    HeadName,
    ModelOutput,
    SignalBatch,
)
from neurofmx.config import Params, build
from neurofmx.errors import UserError
from neurofmx.models import checkpoint, parts
from neurofmx.models.channel_heads import (
    ChannelHead,
    CodeHead,
    ForecastHead,
    Projection,
    counted,
    tokens_ahead,
)
from neurofmx.models.features import held, lately, size, without
from neurofmx.models.heads import HEADS, DomainHead
from neurofmx.models.params import ModelParams, SignalSpec, TaskSpec
from neurofmx.models.prior import LatentPrior
from neurofmx.models.readout import of_channels, on_sphere
from neurofmx.models.stream import Stream, wired
from neurofmx.models.vocabulary import Known, Vocabulary
from neurofmx.objectives.likelihoods import LIKELIHOODS
from neurofmx.sequence import Features, TokenizedSequence
from neurofmx.tokenizers import TOKENIZERS, Tokenizer
from neurofmx.tokenizers.units import Key

USUAL: tuple[HeadName, ...] = ("decode", "reconstruct", "forecast", "contrastive")


class NeuroFMX(nn.Module):
    """The whole model.

    Args:
        config: Signals, tasks and widths; `from_config` also takes plain values.
    """

    class Config(Params):
        """Everything needed to build the model again.

        Attributes:
            duration: Longest window (s).
            domains: Where windows may come from, for objectives that make them alike.
        """

        model: ModelParams
        duration: float
        signals: dict[str, SignalSpec]
        tasks: dict[str, TaskSpec]
        domains: list[str] = []

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        model = config.model
        width, latent = model.width("d_model"), model.width("latent_dim")
        self.tokenizers = parts.tokenizers(config)
        self.signal_embedding = nn.ParameterDict(
            {name: nn.Parameter(0.02 * torch.ones(width)) for name in config.signals}
        )
        self.hidden_token = nn.Parameter(torch.zeros(width))
        self.backbone = parts.backbone(model)
        self.perceiver = parts.perceiver(config)
        self.queries = parts.queries([*config.tasks, *config.signals], latent)
        self.nearest = parts.straight(config.signals, width, latent)
        self.decode = nn.ModuleDict(
            {name: HEADS[task.kind](latent, task.outputs) for name, task in config.tasks.items()}
        )
        self.reconstruct = nn.ModuleDict(
            {name: ChannelHead(latent, self._tokenizer(name)) for name in self.sampled}
        )
        self.forecast = nn.ModuleDict(
            {
                name: ForecastHead(width, self._tokenizer(name), len(ahead))
                for name, ahead in self.horizons.items()
            }
        )
        self.contrastive = nn.ModuleDict({name: Projection(width) for name in config.signals})
        # Last, so that the others begin the same without them.
        self.prior = None if model.prior is None else LatentPrior(model, config.tasks)
        coded = self.sampled if model.codes else []
        self.codes = nn.ModuleDict(
            {n: CodeHead(latent, self._tokenizer(n), cast(int, model.codes)) for n in coded}
        )
        self.domain = DomainHead(latent, len(config.domains)) if config.domains else None
        linear = [n for n, spec in config.signals.items() if TOKENIZERS[spec.tokenizer].linear]
        self.whole = parts.straight(linear, width, latent)

    @property
    def sampled(self) -> list[str]:
        """Signals with samples that can be asked for; events have none."""
        return [n for n, spec in self.config.signals.items() if spec.tokenizer != "spikes"]

    @property
    def horizons(self) -> dict[str, list[int]]:
        """How many tokens ahead each sampled signal is forecast; only those that can be."""
        given, duration = self.config.model.horizons, self.config.duration
        specs = {name: self.config.signals[name] for name in self.sampled}
        ahead = {n: tokens_ahead(given, s.patch * s.dt, duration) for n, s in specs.items()}
        return {name: tokens for name, tokens in ahead.items() if tokens}

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """What it answers, as plain values: a data set may scale the same task otherwise."""
        return {name: spec.model_dump() for name, spec in self.config.tasks.items()}

    @property
    def vocabulary(self) -> Vocabulary:
        """Channels and regions that each signal's tokenizer knows."""
        units = {name: self._tokenizer(name).units for name in self.config.signals}
        return {name: Known(known.keys, known.regions) for name, known in units.items()}

    def extend(self, vocabulary: Vocabulary, size: float = 1.0) -> None:
        """Give channels and regions embeddings; build the optimiser afterwards.

        Args:
            size: Of new ones, see `Units.extend`.
        """
        for name, known in vocabulary.items():
            self._tokenizer(name).units.extend(known.keys, known.regions, size)

    def rows(
        self, signal: str, keys: Sequence[Key], regions: Sequence[str]
    ) -> tuple[list[int], list[int]]:
        """Rows of a signal's channels and of their regions; 0 for what is not known."""
        return self._tokenizer(signal).units.rows(keys, regions)

    def cells(self, batch: Batch) -> dict[str, Cells]:
        """What the tokens of each sampled signal are made of.

        Raises:
            ValueError: Counts do not say how they were normalised.
        """
        cells = {}
        for name, signal in batch.signals.items():
            tokenizer, counts = self._tokenizer(name), self.config.signals[name].counts
            found = counted(tokenizer, signal) if counts else tokenizer.cells(signal)
            if tokenizer.apart:
                ids, regions = signal.channel_ids, signal.regions
                regions = torch.zeros_like(ids) if regions is None else regions
                found = dataclasses.replace(found, channel_ids=ids, regions=regions)
            cells[name] = found
        return cells

    def laid(self, batch: Batch) -> Batch:
        """The batch with what objectives have to know of it before the model is asked."""
        ahead = {name: tokens for name, tokens in self.horizons.items() if name in batch.signals}
        neural = frozenset(name for name, spec in self.config.signals.items() if spec.neural)
        cells = self.cells(batch)
        return dataclasses.replace(batch, cells=cells, horizons=ahead, neural=neural)

    def forward(self, batch: Batch, heads: Collection[HeadName] = USUAL) -> ModelOutput:
        """Latents, features in time and the answers of heads.

        Args:
            batch: Windows; what `batch.hidden` names cannot be seen, and where `batch.noise` is
                given the prior is trained on it.
            heads: Which are to answer.

        Raises:
            ValueError: No signal came.
        """
        given: dict[str, SignalBatch | EventBatch] = {**batch.signals, **batch.events}
        if not given:
            raise ValueError(f"a batch holds at least one of {', '.join(self.config.signals)}")
        batch = batch if batch.cells else self.laid(batch)
        entered = {name: self.tokens(name, x, batch.hidden.get(name)) for name, x in given.items()}
        features = {name: self.through(entered[name], x) for name, x in given.items()}
        tokens = torch.cat([f.tokens for f in features.values()], dim=1)
        mask = torch.cat([f.mask for f in features.values()], dim=1)
        times = torch.cat([f.middles for f in features.values()], dim=1)
        ends = torch.cat([f.ends for f in features.values()], dim=1)
        latents = self.perceiver(tokens, mask, times, self.duration(features), ends)
        found: dict[str, Tensor] = {}
        near = features
        if batch.noise is not None:
            assert self.prior is not None, "only a prior draws noise"
            found |= self.prior.denoise(latents, batch, batch.noise)
            near = {name: without(f, batch.noise.alone) for name, f in features.items()}
        for name, target in batch.targets.items() if "decode" in heads else ():
            if name in self.decode:
                answers = self.ask(name, latents, near, target.times)
                found |= {f"answer.{name}": answers, f"decode.{name}": self.decode[name](answers)}
        for name in batch.signals:
            found |= of_channels(self, name, batch, latents, features, near, heads)
        for name in features:
            found |= on_sphere(self, name, batch, entered[name], features[name], heads)
        if "domain" in heads and self.domain is not None:
            z = latents.mean(1)
            found |= {"domain.own": self.domain(z.detach()), "domain.through": self.domain(z, True)}
        return ModelOutput(latents, features, found)

    def tokens(
        self,
        name: str,
        signal: SignalBatch | EventBatch,
        hidden: Bool[Tensor, "batch _token channel"] | None = None,
    ) -> TokenizedSequence:
        """A signal's tokens, pooled over channels, before the backbone.

        Args:
            hidden: Cells that cannot be seen; a token of which nothing can is the learnt one.
        """
        sequence = self._tokenizer(name).tokenize(signal, hidden)
        tokens = sequence.tokens + self.signal_embedding[name]
        if hidden is not None and isinstance(signal, SignalBatch):
            seen = self._tokenizer(name).cells(signal).seen.any(3)
            gone = ~(seen & ~hidden).any(2, keepdim=True)
            tokens = torch.where(gone, self.hidden_token, tokens)
        return dataclasses.replace(sequence, tokens=tokens)

    def through(self, sequence: TokenizedSequence, signal: SignalBatch | EventBatch) -> Features:
        """What the backbone makes of a signal's tokens."""
        tokens, mask = sequence.tokens, sequence.mask
        sizes = size(signal).to(tokens.dtype)
        entered = tokens * sizes[:, None, None]
        made = self.backbone(tokens, mask)
        return Features(made, sequence.t0, sequence.dt, mask, sequence.offsets, entered=entered)

    def encode(self, name: str, signal: SignalBatch | EventBatch) -> Features:
        """Features of one signal in time: tokenizer, PopT and backbone."""
        return self.through(self.tokens(name, signal), signal)

    def ask(
        self,
        query: str,
        latents: Float[Tensor, "batch latent width"],
        features: Mapping[str, Features],
        times: Float[Tensor, "batch query"],
    ) -> Float[Tensor, "batch query width"]:
        """Answers to one query at several times (s from the window's start).

        A query starts from what the backbone holds at its time, so the latents have to add only
        what lies elsewhere: in other times, or between signals. To what a task is answered the
        mean of the tokens of units is added straight, by a linear map: what a whole window says,
        averaged before anything nonlinear can learn the noise of single tokens by heart.
        """
        causal = self.config.model.causal
        asked = self.queries[query].expand(*times.shape, -1)
        for name, sequence in features.items():
            asked = asked + self.nearest[name](held(sequence, times, causal))
        answers = self.perceiver.answer(latents, asked, times, self.duration(features))
        for name, straight in self.whole.items() if query in self.decode else ():
            if name in features:
                said = lately(features[name], times, causal, self.config.duration)
                answers = answers + straight(said)
        return answers

    def duration(self, features: Mapping[str, Features]) -> float:
        """Over which latents are spread (s); without features that of a whole window."""
        if not self.config.model.causal or not features:
            return self.config.duration
        return max(float(f.ends.max()) for f in features.values() if len(f))

    def _tokenizer(self, name: str) -> Tokenizer:
        return cast(Tokenizer, self.tokenizers[name])

    def answer(
        self, task: str, params: Float[Tensor, "*query param"]
    ) -> tuple[Float[Tensor, "*query output"], Float[Tensor, "*query output"]]:
        """What `heads["decode.<task>"]` of an output says: values and their standard deviation.

        Both are in the target's own unit; of classes, the probability of each.
        """
        spec = self.config.tasks[task]
        likelihood = LIKELIHOODS[spec.kind]
        spread = likelihood.spread(params)
        scale = torch.tensor(spec.scale or 1.0).to(spread)
        return self.untasked(task, likelihood.predict(params)), spread * scale

    def untasked(
        self, task: str, values: Float[Tensor, "*batch dim"]
    ) -> Float[Tensor, "*batch dim"]:
        """Scaled values in the target's own unit; angles and classes are so already."""
        spec = self.config.tasks[task]
        mean, scale = (torch.tensor(x).to(values) for x in (spec.mean or 0.0, spec.scale or 1.0))
        return values * scale + mean

    def sample(
        self,
        n: int,
        condition: str | Sequence[float] | None = None,
        steps: int = 50,
        eta: float = 0.0,
        guidance: float = 1.0,
        *,
        generator: torch.Generator,
    ) -> Float[Tensor, "batch latent width"]:
        """Latents that the prior holds likely; `ask(…, latents, {}, times)` decodes them.

        Args:
            condition: Of the prior's task: a class, or values in the task's own unit.
            steps, eta, guidance, generator: As in `DiffusionPrior.sample`.

        Raises:
            UserError: The model has no prior, or its task no such class.
        """
        if self.prior is None:
            raise UserError("the model has no prior to sample from; set model.prior and train it")
        told = None if condition is None else self.prior.condition(condition).expand(n, -1)
        return self.prior.sample(n, told, steps, eta, guidance, generator=generator)

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
            UserError: There is no model in the folder, or its two files do not fit together.
        """
        model = cls.from_config(checkpoint.read_config(Path(folder)))
        checkpoint.load_tensors(model, Path(folder))
        return model.eval()

    def save_pretrained(self, folder: Path | str) -> None:
        """Write `model.safetensors` and `config.json`, each all or nothing."""
        checkpoint.save(self, self.config.model_dump_json(indent=1), Path(folder))

    def num_parameters(self, trained: bool = False) -> int:
        """Numbers in all parameters, or in those that are trained."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not trained)

    def stream(
        self, recording: str, channels: DataFrame, batch: int = 1, backend: str | None = None
    ) -> Stream:
        """A decoder that takes samples as they come; the model has to be causal.

        Args:
            recording: Whose channels come; one that the model has seen, or not.
            channels: `Shards.channels`: how they were normalised, and where they lie.
            batch: Recordings side by side that are wired alike.
            backend: "compiled" is faster at each token, after torch.compile at the first; None:
                what the model was trained with.

        Raises:
            UserError: The model is not causal, or the table does not know the recording.
            ValueError: The backend cannot run here.
        """
        return Stream(self, wired(self, recording, channels), batch, backend)


def untrained(config: NeuroFMX.Config, vocabulary: Vocabulary, seed: int) -> NeuroFMX:
    """A model with its initial weights: where training starts, and the control of what it adds."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = NeuroFMX(config)
        model.extend({name: known for name, known in vocabulary.items() if name in config.signals})
    return model
