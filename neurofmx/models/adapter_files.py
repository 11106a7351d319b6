"""An adapter apart from its core: written and read alone, and folded into the weights.

adapter.safetensors    the tensors in which the adapted model differs from its core
adapter.json           its row of `ADAPTERS`, its options, and the hash of its core
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neurofmx.config import Params, build
from neurofmx.errors import UserError
from neurofmx.models.adapters import AdapterName, AdapterOptions, Bottleneck, insert, view
from neurofmx.models.neurofmx import NeuroFMX

WEIGHTS, ABOUT = "adapter.safetensors", "adapter.json"


class About(Params):
    """What `adapter.json` holds.

    Attributes:
        core: Hash of the model that it was made for.
    """

    adapter: AdapterName
    options: AdapterOptions
    core: str


class Folded(nn.Linear):
    """W + B A as one linear map; the layer that it stands for is kept, and not in the state dict.

    Args:
        layer: A linear layer of peft's LoRA.
    """

    def __init__(self, layer: Any):
        base = layer.get_base_layer()
        super().__init__(base.in_features, base.out_features, device="meta")
        update = layer.get_delta_weight("default")
        self.weight = nn.Parameter((base.weight + update).detach(), requires_grad=False)
        self.bias = base.bias
        self.unfolded = (layer,)  # a tuple, so that it is no part of this module


def merge(model: NeuroFMX) -> None:
    """Fold the updates of `lora` into the weights, in place: a plain model, as fast as its core.

    Other adapters but `bottleneck` are plain models already.

    Raises:
        ValueError: The adapter is a `bottleneck`, which is not linear.
    """
    if any(isinstance(part, Bottleneck) for part in model.modules()):
        raise ValueError("a bottleneck is not linear and cannot be merged; use lora for that")
    for name, part in list(model.named_modules()):
        if hasattr(part, "lora_A"):
            model.set_submodule(name, Folded(part))


def unmerge(model: NeuroFMX) -> None:
    """Undo `merge`: every weight is bit-equal to what it was."""
    for name, part in list(model.named_modules()):
        if isinstance(part, Folded):
            model.set_submodule(name, part.unfolded[0].to(part.weight.device))


def save_adapter(
    folder: Path | str,
    adapted: NeuroFMX,
    core: NeuroFMX,
    adapter: AdapterName,
    options: AdapterOptions | None = None,
) -> None:
    """Write in what a model differs from its core, each file all or nothing.

    Args:
        adapted: Made from `core` by `adapt` with these `adapter` and `options`.

    Raises:
        ValueError: It is merged, so that nothing is left of the adapter.
    """
    if any(isinstance(part, Folded) for part in adapted.modules()):
        raise ValueError("a merged model holds no adapter to save; unmerge(model) first")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    base = core.state_dict()
    own = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in adapted.state_dict().items()
        if _differs(tensor, base.get(_plain(name)))
    }
    about = About(adapter=adapter, options=options or AdapterOptions(), core=digest(core))
    temporary = folder / ".adapter.tmp"
    save_file(own, temporary)
    os.replace(temporary, folder / WEIGHTS)
    temporary.write_text(about.model_dump_json(indent=1) + "\n")
    os.replace(temporary, folder / ABOUT)


def load_adapter(core: NeuroFMX, folder: Path | str) -> NeuroFMX:
    """The adapted model, as a view of its core, which stays as it is.

    Raises:
        UserError: There is no adapter in the folder, or it belongs to another core.
    """
    folder = Path(folder)
    if not (folder / ABOUT).exists():
        raise UserError(f"{folder} holds no {ABOUT}; run `neurofmx adapt` first")
    about = build(About, json.loads((folder / ABOUT).read_text()), str(folder / ABOUT))
    found = digest(core)
    if about.core != found:
        raise UserError(
            f"the adapter in {folder} was made for a model of hash {about.core[:12]}, and this one "
            f"has {found[:12]}: adapters fit only the very weights that they were trained on. Load "
            "those, or run `neurofmx adapt` again"
        )
    adapted, base = view(core), core.state_dict()
    with torch.random.fork_rng():
        insert(adapted, about.adapter, about.options)
    state = {name: base.get(_plain(name)) for name in adapted.state_dict()}
    state |= load_file(folder / WEIGHTS, device=str(next(core.parameters()).device))
    adapted.load_state_dict(state, assign=True)  # copying would write into the core
    return adapted


def digest(model: NeuroFMX) -> str:
    """Hash of a model's configuration and weights, wherever they lie."""
    found = hashlib.sha256(model.config.model_dump_json().encode())
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def _differs(tensor: Tensor, core: Tensor | None) -> bool:
    return core is None or not torch.equal(tensor.cpu(), core.cpu())


def _plain(name: str) -> str:
    """Name that the core has for a tensor of the adapted model."""
    return name.replace(".base_layer", "")
