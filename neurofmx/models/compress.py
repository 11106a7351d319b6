"""A pretrained model made smaller: its weights in 8 bits, or the least of them set to 0.

Quantisation is dynamic and of the linear maps of backbone and Perceiver, which hold nearly all
weights. Each output has a scale of its own, and inputs are quantised as they come:

    W ≈ diag(s) Q,    Q = round(W / s) in −127 … 127,    s_i = max_j |W_ij| / 127

Pruning sets the weights of least magnitude, over all those maps together, to 0. A third way is a
smaller model that learns from this one: `pretrain.teacher` and the objective `distill`.

Source: Jacob et al. 2017 (integer arithmetic), arXiv:1712.05877; Han et al. 2015 (magnitude
pruning), arXiv:1506.02626.
"""

import copy
import json
import os
import warnings
from pathlib import Path

import torch
from jaxtyping import Float, Int8
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.ao.nn.quantized.dynamic import Linear as QuantisedLinear
from torch.nn.utils import prune as pruning

from neurofmx.errors import UserError
from neurofmx.models.adapters import view
from neurofmx.models.neurofmx import NeuroFMX

WEIGHTS = "int8.safetensors"
INTEGERS, SCALES = ".weight.int8", ".weight.scale"  # in place of `.weight`


def quantise(model: NeuroFMX) -> NeuroFMX:
    """The same model with 8-bit weights, to answer on a CPU; it cannot be trained.

    Raises:
        ValueError: It is not in float32 on a CPU, it carries an adapter that is not merged, or it
            is quantised already.
    """
    first = next(model.parameters())
    if first.device.type != "cpu" or first.dtype != torch.float32:
        raise ValueError(
            f"int8 needs a float32 model on a CPU; this one is {first.dtype} on {first.device}: "
            "model.cpu().float() makes one"
        )
    small = view(model).eval()
    for name, part in linear_maps(small).items():
        scale = part.weight.abs().amax(dim=1).clamp(min=1e-12) / 127
        integers = (part.weight / scale[:, None]).round().to(torch.int8)
        small.set_submodule(name, _quantised(part, integers, scale))
    return small


def prune(model: NeuroFMX, share: float) -> NeuroFMX:
    """A copy in which a share of the weights, those of least magnitude, is 0 for good.

    Its files are as large as before until something packs them.

    Args:
        share: Of the weights of all linear maps of backbone and Perceiver, to the nearest weight.

    Raises:
        ValueError: `share` is no share, or as in `quantise` of adapters.
    """
    if not 0 < share < 1:
        raise ValueError(f"share {share}: give a share between 0 and 1 of the weights to set to 0")
    small = copy.deepcopy(model)
    weights = [(part, "weight") for part in linear_maps(small).values()]
    pruning.global_unstructured(weights, pruning.L1Unstructured, amount=share)
    for part, name in weights:
        pruning.remove(part, name)
    return small


def linear_maps(model: NeuroFMX) -> dict[str, nn.Linear]:
    """Those of backbone and Perceiver by name, which are quantised and pruned.

    Raises:
        ValueError: There are layers of an adapter among them, or none is left in floats.
    """
    core = [
        part for part in model.named_modules() if part[0].startswith(("backbone.", "perceiver."))
    ]
    if any(hasattr(part, "base_layer") for _, part in core):
        raise ValueError("the model carries an adapter: merge it (`merge`), or compress its core")
    found = {name: part for name, part in core if isinstance(part, nn.Linear)}
    if not found:
        raise ValueError("the model has no linear map in floats; it is quantised already")
    return found


def save_int8(folder: Path | str, model: NeuroFMX) -> None:
    """Write a quantised model as `int8.safetensors` and `config.json`, each all or nothing."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = {n: p for n, p in model.named_modules() if isinstance(p, QuantisedLinear)}
    state = {
        name: tensor.detach().contiguous()
        for name, tensor in model.state_dict().items()
        if not any(name.startswith(f"{part}.") for part in parts)
    }
    for name, part in parts.items():
        weight, bias = part._weight_bias()
        state[name + INTEGERS] = weight.int_repr()
        state[name + SCALES] = weight.q_per_channel_scales().float()
        if bias is not None:
            state[f"{name}.bias"] = bias.detach()
    temporary = folder / ".model.tmp"
    save_file(state, temporary)
    os.replace(temporary, folder / WEIGHTS)
    temporary.write_text(model.config.model_dump_json(indent=1) + "\n")
    os.replace(temporary, folder / "config.json")


def load_int8(folder: Path | str) -> NeuroFMX:
    """The model that `save_int8` wrote.

    Raises:
        UserError: There is none in the folder.
    """
    folder = Path(folder)
    if not (folder / WEIGHTS).exists():
        raise UserError(f"{folder} holds no {WEIGHTS}; `neurofmx compress --int8` writes one")
    state = load_file(folder / WEIGHTS)
    names = [name.removesuffix(INTEGERS) for name in state if name.endswith(INTEGERS)]
    packed = {name: (state.pop(name + INTEGERS), state.pop(name + SCALES)) for name in names}
    floats = {f"{n}.weight": integers * scale[:, None] for n, (integers, scale) in packed.items()}
    model = NeuroFMX.from_config(json.loads((folder / "config.json").read_text())).eval()
    model.load_state_dict(state | floats)
    for name, (integers, scale) in packed.items():
        part = model.get_submodule(name)
        assert isinstance(part, nn.Linear)
        model.set_submodule(name, _quantised(part, integers, scale))
    return model.requires_grad_(False)


def _quantised(
    part: nn.Linear, integers: Int8[Tensor, "out in"], scale: Float[Tensor, " out"]
) -> QuantisedLinear:
    zeros = torch.zeros_like(scale, dtype=torch.int64)
    with warnings.catch_warnings():
        # torch 2.13, which is pinned, says at every use that a later one will drop these tensors.
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
        weight = torch._make_per_channel_quantized_tensor(integers, scale.double(), zeros, 0)
    made = QuantisedLinear(part.in_features, part.out_features, part.bias is not None)
    made.set_weight_bias(weight, None if part.bias is None else part.bias.detach())
    return made
