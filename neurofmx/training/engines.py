"""Who carries out a training step: this process, or many, alike or each with a shard.

An engine owns a lesson's optimiser and whatever wraps it. It runs a part of a step, goes back from
its loss, and moves the weights; it writes and reads everything that a step depends on. The loop
knows nothing else of it, and a run takes the same steps under any of them.

    local       one process
    ddp         many, each with the whole model; gradients are averaged
    fsdp        many, each with a shard of weights, gradients and optimiser (FSDP2)
    deepspeed   many, by DeepSpeed with ZeRO (`deepspeed_engine`)

Source: Li et al. 2020 (DDP), arXiv:2006.15704; Zhao et al. 2023 (FSDP), arXiv:2304.11277.
"""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from neurofmx.batches import Batch, HeadName, ModelOutput
from neurofmx.config import Params
from neurofmx.errors import UserError
from neurofmx.training.curriculum import Lot
from neurofmx.training.lesson import Lesson, Sums
from neurofmx.training.optim import Average, OptimizerParams, optimizers

EngineName = Literal["local", "ddp", "fsdp", "deepspeed"]
AVERAGE = "average"  # where the running mean of the weights lies in a checkpoint
# One process is one process. A thread of torch's own says so too, which no context would reach.
warnings.filterwarnings("ignore", message="torch.distributed is disabled")


class EngineParams(Params):
    """How the work of a step is spread and how much memory it may take.

    Attributes:
        zero: Stage of ZeRO: 1 shards the optimiser, 2 gradients too, 3 weights too.
        offload: Where DeepSpeed keeps the optimiser: with the model, in the host's memory, or on
            a disk (`offload_folder`).
        offload_folder: A folder on a fast disk.
        recompute: Forget what blocks computed on the way forward and compute it again on the way
            back: a third more work for a fraction of the memory (Chen et al. 2016,
            arXiv:1604.06174).
        compile: Compile the Perceiver with torch.compile; what Mamba blocks run is
            `model.backend`.
    """

    zero: Literal[1, 2, 3] = 1
    offload: Literal["none", "cpu", "nvme"] = "none"
    offload_folder: str = ""
    recompute: bool = False
    compile: bool = False


class Engine:
    """One process, one device; what is true of the others too is here.

    Args:
        lesson: Trained in place.
        params: What it may do.
        optimizer: How weights move.
        steps: Of the run, for the schedule.
        parts: That a step comes in.
    """

    asynchronous: ClassVar[bool] = True  # whether `save` may go on behind the next steps
    spread: ClassVar[bool] = False  # over many processes
    shards: ClassVar[bool] = False  # of the weights

    def __init__(
        self,
        lesson: Lesson,
        params: EngineParams,
        optimizer: OptimizerParams,
        steps: int,
        parts: int = 1,
    ):
        self.rank, self.world = joined() if self.spread else (0, 1)
        self.device = device(self.rank)
        self.lesson, self.params, self.settings, self.steps = lesson, params, optimizer, steps
        self.accumulated = parts
        self.refuse()
        lesson.to(self.device)
        _prepare_blocks(lesson, params)
        self.module: nn.Module = self.wrapped(lesson)
        self.optimizers = self._optimizers()
        keep = optimizer.ema
        self.average = Average(lesson.parameters(), keep) if keep else None

    def refuse(self) -> None:
        """Say no to what it cannot do.

        Raises:
            UserError: Something was asked that it cannot do.
        """

    def wrapped(self, lesson: Lesson) -> nn.Module:
        """The lesson as the engine runs it."""
        return lesson

    def _optimizers(self) -> list[Any]:
        return optimizers(self.lesson.named_parameters(), self.settings)

    def run(
        self, batch: Batch, asked: Sums, lot: Lot, share: float
    ) -> tuple[Float[Tensor, ""], Sums]:
        """The loss of a part of a step, and its sums, as `Lesson` gives them."""
        return self.module(batch, asked, lot, share)

    def ask(self, batch: Batch, heads: list[HeadName]) -> ModelOutput:
        """What the model says, with nothing hidden; ranks that hold shards call it together."""
        return self.module(batch, heads=heads)

    def backward(self, loss: Float[Tensor, ""], last: bool) -> None:
        """Add the gradient of a part of a step; gradients meet after the last one."""
        loss.backward()

    def parts(self, last: bool) -> contextlib.AbstractContextManager:
        """Around the forward and backward of a part of a step."""
        return contextlib.nullcontext()

    def step(self, number: int) -> float:
        """Clip, move the weights, and forget the gradients.

        Returns:
            The norm of the gradient before it was clipped; where it is not finite nothing moves.
        """
        with_grad = [p for p in self.lesson.parameters() if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(with_grad, self.settings.clip)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        if norm.isfinite():
            self._set_rate(number)
            for optimizer in self.optimizers:
                optimizer.step()
            if self.average is not None:
                self.average.update(number)
        self.forget()
        return norm.item()

    def forget(self) -> None:
        """Drop gradients."""
        self.lesson.zero_grad(set_to_none=True)

    def _set_rate(self, number: int) -> None:
        rate = self.settings.lr * self.settings.rate(number, self.steps)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate

    def sum(self, x: Tensor) -> Tensor:
        """Over ranks, without gradient."""
        x = x.detach().clone()
        if self.world > 1:
            dist.all_reduce(x)
        return x

    def barrier(self) -> None:
        """Until all ranks are here."""
        if self.world > 1:
            self.sum(torch.zeros(1, device=self.device))

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, weights are their running mean, where there is one."""
        with contextlib.nullcontext() if self.average is None else self.average.in_place():
            yield

    def weights(self) -> dict[str, Tensor]:
        """The model's whole state on rank 0, in the host's memory; elsewhere nothing. All call."""
        found = {}
        for name, x in self.lesson.model.state_dict().items():
            whole = x.full_tensor() if isinstance(x, DTensor) else x
            if self.rank == 0:
                found[name] = whole.detach().cpu().contiguous()
        return found

    def take(self, weights: dict[str, Tensor]) -> None:
        """Put whole weights into the model; every rank has them."""
        own = self.lesson.model.state_dict()
        with torch.no_grad():
            for name, x in weights.items():
                _fill(own[name], x.to(self.device))

    def save(self, folder: Path, behind: bool = False) -> Any:
        """Write everything that the next step depends on; all ranks call it.

        Args:
            behind: Return when it is copied, and write while training goes on.

        Returns:
            What `result()` of waits until it is written; None where it is.
        """
        state, alone = self._state(), not self.spread
        if behind:
            return dcp.async_save(state, checkpoint_id=folder, no_dist=alone)
        dcp.save(state, checkpoint_id=folder, no_dist=alone)
        return None

    def load(self, folder: Path) -> None:
        """Take up what `save` wrote, maybe at another number of ranks."""
        reader = dcp.FileSystemReader(folder)
        there = set(reader.read_metadata().state_dict_metadata)
        self._make_room(there)
        state = {name: x for name, x in self._state().items() if name in there}
        dcp.load(state, storage_reader=reader, no_dist=not self.spread)

    def _state(self) -> dict[str, Tensor]:
        """Tensors by name: of the lesson, of the optimisers by parameter, of the running mean."""
        found = {f"lesson.{name}": x for name, x in self.lesson.state_dict().items()}
        for name, parameter in self.lesson.named_parameters():
            for optimizer in self.optimizers:
                for key, x in optimizer.state.get(parameter, {}).items():
                    found[f"optimizer.{name}.{key}"] = x
        if self.average is not None:
            names = [n for n, p in self.lesson.named_parameters() if p.requires_grad]
            found |= {f"{AVERAGE}.{n}": x for n, x in zip(names, self.average.mean, strict=True)}
        return found

    def _make_room(self, there: set[str]) -> None:
        """Give optimisers the tensors that a checkpoint has of them, to be filled."""
        for name, parameter in self.lesson.named_parameters():
            for optimizer in self.optimizers:
                owned = any(parameter is p for g in optimizer.param_groups for p in g["params"])
                for key in ("step", "exp_avg", "exp_avg_sq", "momentum_buffer"):
                    if owned and f"optimizer.{name}.{key}" in there:
                        made = torch.zeros(()) if key == "step" else torch.zeros_like(parameter)
                        made = made.to(self.device) if key == "step" else made.detach()
                        optimizer.state[parameter].setdefault(key, made)


class LocalEngine(Engine):
    """One process, one device.

    Source: stochastic gradient descent, Robbins & Monro 1951; the optimisers name theirs.
    """


def refuse(engine: str, found: bool, what: str, instead: str) -> None:
    """Say no to what an engine cannot do, where it was asked for."""
    if found:
        raise UserError(
            f"fit.engine is {engine!r}, under which this cannot be had: {what}; take {instead}, or "
            "the engine local or ddp"
        )


def blocks(lesson: Lesson) -> list[nn.Module]:
    """Modules that repeat: what is sharded, recomputed or compiled by itself."""
    model = lesson.model
    streams = cast(Any, model.backbone.streams)
    return [*(block for stream in streams for block in stream.blocks), *model.perceiver.layers]


def _prepare_blocks(lesson: Lesson, params: EngineParams) -> None:
    from functools import partial

    from torch.utils.checkpoint import checkpoint

    if params.compile:
        lesson.model.perceiver.compile(dynamic=True)
    for block in blocks(lesson) if params.recompute else ():
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def device(rank: int) -> torch.device:
    """This process's: its own GPU where there are any."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(own)
    return own


def joined() -> tuple[int, int]:
    """Join the other processes that a launcher started; alone, be a world of one.

    Returns:
        Rank and number of ranks.
    """
    if not dist.is_initialized():
        alone = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "RANK": "0", "LOCAL_RANK": "0"}
        for name, value in (alone | {"WORLD_SIZE": "1"}).items():
            os.environ.setdefault(name, value)
        if torch.cuda.is_available():
            dist.init_process_group("cpu:gloo,cuda:nccl")
        else:
            dist.init_process_group("gloo")
    return dist.get_rank(), dist.get_world_size()


def _fill(own: Tensor, whole: Tensor) -> None:
    """Copy a whole tensor into one that may be a shard of it."""
    if isinstance(own, DTensor):
        from torch.distributed.tensor import distribute_tensor

        whole = distribute_tensor(whole, own.device_mesh, own.placements)
    own.copy_(whole)
