"""Adapt a pretrained model to a recording that it has never seen."""

import copy
import fnmatch
from typing import Literal

import torch

from neurofmx.models.neurofmx import NeuroFMX, Vocabulary

# What each adapter trains, by pattern of parameter name; the rest stays frozen.
AdapterName = Literal["unit_id"]
ADAPTERS: dict[AdapterName, tuple[str, ...]] = {
    # New unit embeddings and the head, as for a new animal in POYO (Azabou et al. 2023,
    # arXiv:2310.16046, section 3.3, "unit identification").
    "unit_id": ("tokenizers.*.units.gain.*", "tokenizers.*.units.bias.*", "decode.*"),
}


def adapt(model: NeuroFMX, vocabulary: Vocabulary, adapter: AdapterName, seed: int) -> NeuroFMX:
    """A copy of the model that reads other channels and trains only what the adapter names.

    Args:
        model: Pretrained.
        vocabulary: Channels of the new recording; those of the others go, regions stay.
        adapter: Row of `ADAPTERS`.
        seed: Of the new channels' embeddings.
    """
    adapted = copy.deepcopy(model)
    adapted.forget()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapted.extend(vocabulary)
    for name, parameter in adapted.named_parameters():
        parameter.requires_grad = any(fnmatch.fnmatch(name, p) for p in ADAPTERS[adapter])
    return adapted
