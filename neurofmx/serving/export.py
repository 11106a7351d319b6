"""One step of a causal model as a file that needs none of this code: `torch.export` and ONNX.

    output, state = model.step(**inputs, state=state)

A step is a pure function: what it carries from bin to bin comes in and goes out. State and output
may be nested; in the files they are flat, and each tensor's name is the path to it.

    step.onnx              for onnxruntime, in whatever language
    step.pt2               for torch.export.load
    step.json              names, in the order in which tensors go in and come out
    state.safetensors      the state before the first bin
"""

import json
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from numpy import ndarray
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from neurofmx.config import Params, build
from neurofmx.errors import UserError
from neurofmx.serving.bessel import DECOMPOSITIONS

PROTOBUF = 1.8e9  # bytes; beyond 2 GB weights lie beside the graph, in `step.onnx.data`


class Signature(Params):
    """Names of tensors, as `step.json` holds them: inputs and state go in, outputs and `after` out.

    Attributes:
        after: Of the state that a step leaves, in the order of `state`, as which it goes in next.
    """

    inputs: list[str]
    state: list[str]
    outputs: list[str]
    after: list[str]


def export_step(
    model: nn.Module, inputs: dict[str, Tensor], state: Any, folder: Path | str
) -> Path:
    """Write the step of a model with inputs of these shapes; returns the folder.

    Args:
        model: Has `step(**inputs, state=state)`, whose result is (output, state).
        inputs: Of one step, by the name of the argument.
        state: Before the first step: tensors, nested in tuples, lists or dicts.

    Raises:
        UserError: ONNX is not installed.
        ValueError: The step changes the state's structure, shapes or types.
    """
    folder = Path(folder)
    flat = _Flat(model.eval(), inputs, state)
    # A fresh state may hold one tensor twice, which a trace would take for one input.
    tensors = [t.clone() for t in (*inputs.values(), *_leaves(state))]
    with torch.no_grad():
        signature = flat.signature(*model.step(**inputs, state=state))  # type: ignore[operator]
        program = torch.export.export(flat, tuple(tensors))
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".step.") as name:
        made = Path(name)
        _write_onnx(program, signature, made / "step.onnx")
        torch.export.save(program, made / "step.pt2")
        initial = zip(signature.state, tensors[len(inputs) :], strict=True)
        save_file({name: t.cpu() for name, t in initial}, made / "state.safetensors")
        (made / "step.json").write_text(signature.model_dump_json(indent=1) + "\n")
        for file in sorted(made.iterdir(), key=lambda file: file.suffix == ".json"):
            os.replace(file, folder / file.name)
    return folder


class OnnxStep:
    """An exported step in onnxruntime, which carries its state from call to call.

    Args:
        folder: What `export_step` wrote.
        threads: Of the processor.

    Raises:
        UserError: There is no step in the folder, or onnxruntime is not installed.
    """

    def __init__(self, folder: Path | str, threads: int = 1):
        folder = Path(folder)
        if not (folder / "step.json").exists():
            raise UserError(f"{folder} holds no step.json; export_step writes one")
        try:
            import onnxruntime  # late: an extra
        except ImportError as error:
            raise UserError(_MISSING) from error
        content = json.loads((folder / "step.json").read_text())
        self.signature = build(Signature, content, str(folder / "step.json"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            str(folder / "step.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.initial = load_file(folder / "state.safetensors")
        self.reset()

    def reset(self) -> None:
        """Forget all bins."""
        self.state = dict(self.initial)

    def __call__(self, **inputs: Shaped[ndarray, "..."]) -> dict[str, Shaped[ndarray, "..."]]:
        """Outputs of one step, by name."""
        names = self.signature
        found = self.session.run(names.outputs + names.after, inputs | self.state)
        outputs = dict(zip(names.outputs, found, strict=False))
        left = found[len(names.outputs) :]
        self.state = dict(zip(names.state, left, strict=True))
        return outputs


class _Flat(nn.Module):
    """The step as a function of tensors to tensors."""

    def __init__(self, model: nn.Module, inputs: dict[str, Tensor], state: Any):
        super().__init__()
        self.model, self.inputs = model, list(inputs)
        self.before, self.spec = _paths("state", state), pytree.tree_structure(state)
        self.kinds = [(tuple(t.shape), t.dtype) for t in _leaves(state)]

    def forward(self, *tensors):
        inputs = dict(zip(self.inputs, tensors, strict=False))
        state = pytree.tree_unflatten(list(tensors[len(inputs) :]), self.spec)
        output, state = self.model.step(**inputs, state=state)  # type: ignore[operator]
        # What goes through as it came needs a name of its own in the graph.
        return (*_leaves(output), *(t.clone() for t in _leaves(state)))

    def signature(self, output: Any, state: Any) -> Signature:
        """The names, once it is clear that the state can go in again."""
        kinds = [(tuple(t.shape), t.dtype) for t in _leaves(state)]
        if pytree.tree_structure(state) != self.spec or kinds != self.kinds:
            raise ValueError(
                f"a step of {type(self.model).__name__} leaves a state of other structure, shapes "
                f"or types than it takes: {kinds} after {self.kinds}"
            )
        return Signature(
            inputs=self.inputs,
            state=self.before,
            outputs=_paths("output", output),
            after=_paths("after", state),
        )


_MISSING = "ONNX is not installed: pip install 'neurofmx[serve]'"


def _write_onnx(program: torch.export.ExportedProgram, names: Signature, file: Path) -> None:
    size = sum(t.numel() * t.element_size() for t in program.state_dict.values())
    try:
        torch.onnx.export(
            program.run_decompositions(DECOMPOSITIONS),
            f=str(file),
            input_names=names.inputs + names.state,
            output_names=names.outputs + names.after,
            external_data=size > PROTOBUF,
            custom_translation_table={torch.ops.aten.scalar_tensor.default: _number},
            verbose=False,
        )
    except ImportError as error:
        raise UserError(_MISSING) from error


def _number(s: int | float, dtype: int = -1, **_: Any) -> Any:
    """A number in the precision that it is to have; onnxscript would round it to float32 first."""
    from onnxscript import ir, opset18  # late: an extra

    kind = ir.DataType.FLOAT if dtype == -1 else ir.DataType(dtype)
    return opset18.Constant(value=ir.tensor(np.array(s, kind.numpy())))  # type: ignore[arg-type]


def _leaves(tree: Any) -> list[Tensor]:
    return pytree.tree_leaves(tree)


def _paths(root: str, tree: Any) -> list[str]:
    """A name for each tensor: `state.0.1.ssm`."""
    paths, _ = pytree.tree_flatten_with_path(tree)
    parts = (re.findall(r"[^\[\].']+", pytree.keystr(path)) for path, _ in paths)
    return [".".join([root, *part]) for part in parts]
