"""A device that is not there, so that code for a GPU is tested where there is none.

Its tensors say that they are on it and hold their data on the processor, where all is done; but
what a GPU refuses, tensors of two devices in one operation, is refused here too, and what it would
have to fetch from the processor is counted.
"""

import contextlib
import types
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "elsewhere"
DEVICE = f"{NAME}:0"
WRITTEN = {"copy_", "index_put_", "_index_put_impl_"}  # into the first, from anywhere
MEET = WRITTEN | {"_to_copy", "to", "index"}  # a GPU takes indices from the processor
STRICT = {"cat", "stack"}  # take no single number from it, as others do


class Elsewhere(Tensor):
    """A tensor on the device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Elsewhere":
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        made = Tensor._make_wrapper_subclass(
            cls, held.shape, **layout, dtype=held.dtype, device=DEVICE
        )
        made.held = held
        return made

    def tolist(self) -> Any:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, op: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        return done(op, args, kwargs or {})


class There(TorchDispatchMode):
    """Inside, the device is there; `fetched` counts tensors that came from the processor."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched = 0

    def __enter__(self) -> "There":
        torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor` copies to it in two steps
        return super().__enter__()

    def __exit__(self, *given: Any) -> None:
        super().__exit__(*given)
        torch._C._set_only_lift_cpu_tensors(False)

    def __torch_dispatch__(self, op: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = done(op, args, kwargs or {})
        if op._schema.name.endswith(("::_to_copy", "::copy_")):
            into, source = (found, args[0]) if "_to_copy" in op._schema.name else args[:2]
            self.fetched += isinstance(into, Elsewhere) and not isinstance(source, Elsewhere)
        return found


def done(op: Any, args: tuple, kwargs: dict) -> Any:
    """Carry out an operation on what the tensors hold.

    Raises:
        RuntimeError: They are on two devices.
    """
    name, leaves = op._schema.name.partition("::")[2], tree_leaves((args, kwargs))
    ours = [x for x in leaves if isinstance(x, Elsewhere)]
    others = [x for x in leaves if isinstance(x, Tensor) and not isinstance(x, Elsewhere)]
    if ours and name not in MEET and any(x.dim() or name in STRICT for x in others):
        raise RuntimeError(f"{name} of tensors on {DEVICE} and on the processor")
    places = [x for x in leaves if isinstance(x, torch.device)]
    there = places[0].type == NAME if places else bool(ours)
    there = isinstance(args[0], Elsewhere) if name in WRITTEN else there
    same = {id(x.held): x for x in ours}

    def plain(x: Any) -> Any:
        if isinstance(x, torch.device):
            return torch.device("cpu")
        return x.held if isinstance(x, Elsewhere) else x

    def back(x: Any) -> Any:
        if not isinstance(x, Tensor) or not there:
            return x
        return same[id(x)] if id(x) in same else Elsewhere(x)

    return tree_map(back, op(*tree_map(plain, args), **tree_map(plain, kwargs)))


def _module() -> types.SimpleNamespace:
    """What torch asks of a device, `torch.cuda` being that of CUDA."""
    return types.SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        _is_in_bad_fork=lambda: False,
        current_device=lambda: 0,
        device_count=lambda: 1,
        manual_seed_all=lambda seed: None,
        get_rng_state=lambda device=0: torch.zeros(1),
        set_rng_state=lambda state, device=0: None,
        get_amp_supported_dtype=lambda: [torch.bfloat16],
        stream=lambda stream: contextlib.nullcontext(),
    )


_setup_privateuseone_for_python_backend(NAME, _module())
