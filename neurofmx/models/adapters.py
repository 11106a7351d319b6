"""Adapt a pretrained core to a recording that it has never seen.

An adapted model is another view of its core: it shares the memory of all that stays frozen, and
owns what it trains or adds. Any number of them lie on one core at the cost of what differs, can
answer at the same time, and never change the core. What differs is also all that is written.
"""

import copy
import fnmatch
import re
from collections.abc import Callable
from typing import Literal, cast

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from neurofmx.config import Params
from neurofmx.errors import UserError
from neurofmx.models.neurofmx import Known, NeuroFMX, Vocabulary
from neurofmx.tokenizers import Tokenizer
from neurofmx.tokenizers.units import NEW

# The projections of Mamba and of attention, and what is added to a residual stream.
PROJECTIONS = r"(backbone|perceiver)\..*\b(in_proj|out_proj|to_query|to_key_value|out)"
BRANCHES = r"(backbone|perceiver)\..*\b(out_proj|out|feed_forward)"
UNITS = ("tokenizers.*.units.gain.*", "tokenizers.*.units.bias.*")


class AdapterOptions(Params):
    """Sizes of what an adapter adds.

    Attributes:
        rank: Of the updates of `lora`.
        dropout: On the inputs of those updates.
        width: Of the hidden layer of `bottleneck`.
    """

    rank: PositiveInt = 8
    dropout: float = Field(0.0, ge=0, lt=1)
    width: PositiveInt = 16


class Bottleneck(nn.Module):
    """A frozen layer and a small residual network behind it: y + W₂ GELU(W₁ y), y = layer(x).

    W₂ starts at zero, so that the model starts as its core.

    Args:
        layer: Ends in a linear map.
        width: Hidden features.
    """

    def __init__(self, layer: nn.Module, width: int):
        super().__init__()
        self.base_layer = layer
        last = [part for part in layer.modules() if isinstance(part, nn.Linear)][-1]
        outputs = last.out_features
        into, out = nn.Linear(outputs, width), nn.Linear(width, outputs)
        nn.init.zeros_(out.weight)
        nn.init.zeros_(out.bias)
        self.bottleneck = nn.Sequential(into, nn.GELU(), out).to(last.weight)

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch out"]:
        """What the layer gives, corrected."""
        y = self.base_layer(x)
        return y + self.bottleneck(y)


def unit_id(model: NeuroFMX, options: AdapterOptions) -> tuple[str, ...]:
    """Embeddings of the units and the readout of the tasks.

    Source: "unit identification" in POYO, Azabou et al. 2023, arXiv:2310.16046, section 3.3.
    """
    return (*UNITS, "decode.*")


def lora(model: NeuroFMX, options: AdapterOptions) -> tuple[str, ...]:
    """`unit_id`, and W + B A for each projection of Mamba and attention, B starting at zero.

    Source: Hu et al. 2021, arXiv:2106.09685; their α only scales the learning rate, so α = rank.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model  # late: it takes seconds
    except ImportError as error:
        raise UserError(
            "the adapter is 'lora', which needs peft: pip install 'neurofmx[train]', "
            "or choose 'unit_id' or 'bottleneck'"
        ) from error
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.rank,
        lora_dropout=options.dropout,
        target_modules=[name for name, _ in _find(model, PROJECTIONS)],
    )
    inject_adapter_in_model(config, model)
    return (*unit_id(model, options), "*.lora_A.*", "*.lora_B.*")


def bottleneck(model: NeuroFMX, options: AdapterOptions) -> tuple[str, ...]:
    """`unit_id`, and a small network behind every Mamba mixer, attention and feed-forward.

    Source: Houlsby et al. 2019, arXiv:1902.00751.
    """
    for name, layer in _find(model, BRANCHES):
        model.set_submodule(name, Bottleneck(layer, options.width))
    return (*unit_id(model, options), "*.bottleneck.*")


def head(model: NeuroFMX, options: AdapterOptions) -> tuple[str, ...]:
    """The readout of the tasks alone; new units keep the embeddings that they are drawn.

    Source: linear probing; Alain & Bengio 2016, arXiv:1610.01644.
    """
    return ("decode.*",)


def full(model: NeuroFMX, options: AdapterOptions) -> tuple[str, ...]:
    """Everything: fine-tuning, whose file is as large as the model's.

    Source: full fine-tuning in POYO, Azabou et al. 2023, arXiv:2310.16046, section 3.3.
    """
    return ("*",)


AdapterName = Literal["unit_id", "lora", "bottleneck", "head", "full"]

# Each adds its layers to a model and says which parameters it trains, by pattern of their names.
ADAPTERS: dict[AdapterName, Callable[[NeuroFMX, AdapterOptions], tuple[str, ...]]] = {
    "unit_id": unit_id,
    "lora": lora,
    "bottleneck": bottleneck,
    "head": head,
    "full": full,
}


def adapt(
    model: NeuroFMX,
    vocabulary: Vocabulary,
    adapter: AdapterName,
    seed: int,
    options: AdapterOptions | None = None,
) -> NeuroFMX:
    """A view of the model that reads other channels and trains only what the adapter names.

    Untrained it answers exactly as the model does about channels that both know.

    Args:
        model: Pretrained; it stays as it is, and must while views of it are in use.
        vocabulary: Channels of the new recording; those of the others go, regions stay.
        adapter: Row of `ADAPTERS`.
        seed: Of all that is new.
        options: Sizes of what is added.
    """
    adapted = view(model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        rewire(adapted, vocabulary)
        insert(adapted, adapter, options or AdapterOptions())
    return adapted


def rewire(model: NeuroFMX, vocabulary: Vocabulary) -> None:
    """Give a trained model other channels: known ones keep their embeddings, the others go."""
    for name, tokenizer in model.tokenizers.items():
        units, new = cast(Tokenizer, tokenizer).units, vocabulary.get(name, Known([], []))
        old = set(units.keys)
        units.subset([key for key in new.keys if key in old])
        units.extend(new.keys, new.regions, NEW)


def view(model: NeuroFMX) -> NeuroFMX:
    """The same model, frozen: modules of its own over the same memory."""
    memo: dict[int, Tensor] = {id(buffer): buffer for buffer in model.buffers()}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    return copy.deepcopy(model, memo)


def insert(view: NeuroFMX, adapter: AdapterName, options: AdapterOptions) -> None:
    """Add an adapter's layers to a view, and give the view what it is to train as its own."""
    trained = ADAPTERS[adapter](view, options)
    view.train(view.training)  # the new layers are in the mode of the others
    for name, parameter in view.named_parameters():
        parameter.requires_grad = any(fnmatch.fnmatch(name, pattern) for pattern in trained)
        if parameter.requires_grad:
            parameter.data = parameter.detach().clone()


def _find(model: NeuroFMX, pattern: str) -> list[tuple[str, nn.Module]]:
    """Modules by a pattern of their whole names.

    Raises:
        ValueError: There is none, or they have an adapter already.
    """
    found = [(name, part) for name, part in model.named_modules() if re.fullmatch(pattern, name)]
    taken = [name for name, part in found if hasattr(part, "base_layer")]
    if taken or not found:
        raise ValueError(
            f"{taken[0]} has an adapter already; one lies on a plain core, so merge that first"
            if taken
            else f"no layer of the model is named as {pattern}"
        )
    return found
