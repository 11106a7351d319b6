"""The larger parts of a model, built from its config; `NeuroFMX` says what each is for."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import nn

from neurofmx.models.backbone import MambaBackbone
from neurofmx.models.params import ModelParams, tokenizer_config
from neurofmx.models.perceiver import PerceiverIO
from neurofmx.models.popt import PopT
from neurofmx.tokenizers import TOKENIZERS

if TYPE_CHECKING:
    from neurofmx.models.neurofmx import NeuroFMX


def tokenizers(config: "NeuroFMX.Config") -> nn.ModuleDict:
    """A tokenizer for each signal, with the pooling over its channels."""
    made, width = nn.ModuleDict(), config.model.width("d_model")
    for name, spec in config.signals.items():
        settings = tokenizer_config(spec, config.model)
        made[name] = TOKENIZERS[spec.tokenizer](settings, pool=PopT(width, config.model.n_seeds))
    return made


def backbone(model: ModelParams) -> MambaBackbone:
    """What all signals' tokens run through along time."""
    return MambaBackbone(
        model.width("d_model"),
        model.width("n_blocks"),
        model.width("d_state"),
        headdim=model.width("headdim"),
        dropout=model.dropout,
        rates=model.streams,
        fusion=model.fusion,
        backend=model.backend,
    )


def perceiver(config: "NeuroFMX.Config") -> PerceiverIO:
    """Latents that read the tokens of all signals, and answer."""
    model, latents = config.model, config.model.width("n_latents")
    finest = min(spec.patch * spec.dt for spec in config.signals.values())
    # How far apart latents are and how far back they see (s); if closer than tokens they would
    # see nothing new.
    apart = max(config.duration / latents, finest)
    reach = (True, apart, config.duration) if model.causal else (False, None, None)
    return PerceiverIO(
        latents,
        model.width("latent_dim"),
        model.width("d_model"),
        model.width("n_layers"),
        model.width("n_heads"),
        model.dropout,
        (2 * finest, 4 * config.duration),
        *reach,
    )


def queries(names: Iterable[str], width: int) -> nn.ParameterDict:
    """A query for each of what can be asked."""
    made = nn.ParameterDict({name: nn.Parameter(torch.empty(width)) for name in names})
    for query in made.values():
        nn.init.normal_(query, std=0.02)
    return made


def straight(names: Iterable[str], width: int, latent: int) -> nn.ModuleDict:
    """A linear map from each signal's tokens to answers."""
    return nn.ModuleDict({name: nn.Linear(width, latent, bias=False) for name in names})
