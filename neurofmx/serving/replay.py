"""Windows of one shape, answered on CUDA as one graph.

A forward launches many small kernels, one after the other, from Python. A graph of all is captured
once and launched at once. What that gains is not yet measured.

    replay = Replay(model.to("cuda"), batch)
    replay(batch)["decode.velocity"]

Source: CUDA graphs, docs.pytorch.org, "CUDA semantics".
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neurofmx.batches import Batch, HeadName
from neurofmx.models import NeuroFMX

WARM_UP = 3  # runs before the capture, in which kernels are chosen and compiled


class Replay:
    """The answers of a model to batches that have the shapes of the first one.

    Args:
        model: On CUDA and not causal; its weights may change in place, but not move.
        batch: Any with these signals, tasks and shapes.
        heads: Which are to answer.
        dtype: Of products, by autocast.

    Raises:
        ValueError: The model is not on CUDA, or is causal: how many latents it has then depends on
            the data.
    """

    def __init__(
        self,
        model: NeuroFMX,
        batch: Batch,
        heads: Sequence[HeadName] = ("decode",),
        dtype: torch.dtype = torch.bfloat16,
    ):
        device = model.hidden_token.device
        if device.type != "cuda":
            raise ValueError(f"a replay needs CUDA, and the model is on {device.type!r}")
        if model.config.model.causal:
            raise ValueError("a causal model cannot be replayed; stream it, or export its step")
        # A copy, since the graph reads from where its batch lies, and others are written there.
        self._batch, self._graph = _copied(batch.to(device)), torch.cuda.CUDAGraph()
        model, aside = model.eval(), torch.cuda.Stream(device)

        def run() -> dict[str, Tensor]:
            # Weights that autocast caches would be of this capture, and gone after it.
            with torch.autocast("cuda", dtype, dtype != torch.float32, cache_enabled=False):
                return model(self._batch, heads=heads).heads

        with torch.no_grad(), torch.cuda.device(device):
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP):
                    run()
            torch.cuda.current_stream().wait_stream(aside)
            with torch.cuda.graph(self._graph):
                self._heads = run()

    def __call__(self, batch: Batch) -> dict[str, Float[Tensor, "..."]]:
        """Answers by head, until the next call, which writes over them.

        Raises:
            ValueError: The batch has other signals or shapes than the first.
        """
        into, given = dict(_tensors(self._batch)), dict(_tensors(batch))
        shapes, wanted = ({n: tuple(x.shape) for n, x in t.items()} for t in (given, into))
        if shapes != wanted:
            raise ValueError(
                f"a replay replays windows shaped as the first, {wanted}, not {shapes}"
            )
        for name, tensor in into.items():
            tensor.copy_(given[name], non_blocking=True)
        self._graph.replay()
        return self._heads


def _copied(batch: Batch) -> Batch:
    def copied(thing: Any) -> Any:
        tensors = {name: x.clone() for name, x in _fields(thing)}
        return dataclasses.replace(thing, **tensors)

    parts: Any = {part: {n: copied(x) for n, x in given.items()} for part, given in _parts(batch)}
    return dataclasses.replace(batch, **parts)


def _tensors(batch: Batch) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a batch, by its place in it."""
    for part, given in _parts(batch):
        for name, thing in given.items():
            yield from ((f"{part}.{name}.{field}", x) for field, x in _fields(thing))


def _parts(batch: Batch) -> list[tuple[str, dict[str, Any]]]:
    return [(part, getattr(batch, part)) for part in ("signals", "targets", "events")]


def _fields(thing: Any) -> Iterator[tuple[str, Tensor]]:
    for field in dataclasses.fields(thing):
        if isinstance(value := getattr(thing, field.name), Tensor):
            yield field.name, value
