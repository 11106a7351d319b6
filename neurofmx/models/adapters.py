"""Adapt a pretrained model to a recording that it has never seen."""

import fnmatch
from typing import Literal

import torch

from neurofmx.models.neurofmx import NeuroFMX

# What each adapter trains, by pattern of parameter name; the rest stays frozen.
AdapterName = Literal["unit_id"]
ADAPTERS: dict[AdapterName, tuple[str, ...]] = {
    # New unit embeddings and the head, as for a new animal in POYO (Azabou et al. 2023,
    # arXiv:2310.16046, section 3.3, "unit identification").
    "unit_id": ("tokenizers.*.gain.*", "tokenizers.*.bias.*", "decode.*"),
}


def adapt(
    model: NeuroFMX, channels: dict[str, list[tuple[str, int]]], adapter: AdapterName, seed: int
) -> NeuroFMX:
    """A copy of the model that reads other channels and trains only what the adapter names.

    Args:
        model: Pretrained.
        channels: Vocabulary of each signal of the new recording.
        adapter: Row of `ADAPTERS`.
        seed: Of the new channels' embeddings.
    """
    signals = {
        name: spec.model_copy(update={"channels": channels.get(name, [])})
        for name, spec in model.config.signals.items()
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapted = NeuroFMX(model.config.model_copy(update={"signals": signals}))
    own = adapted.state_dict()
    kept = {k: v for k, v in model.state_dict().items() if own[k].shape == v.shape}
    kept = {k: v for k, v in kept.items() if not _is_channel(k)}
    adapted.load_state_dict(own | kept)
    for name, parameter in adapted.named_parameters():
        parameter.requires_grad = any(fnmatch.fnmatch(name, p) for p in ADAPTERS[adapter])
    return adapted


def _is_channel(name: str) -> bool:
    """True for the embeddings of channels, which mean nothing for other channels."""
    return fnmatch.fnmatch(name, "tokenizers.*.gain.*") or fnmatch.fnmatch(
        name, "tokenizers.*.bias.*"
    )
