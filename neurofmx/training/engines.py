"""Who carries out a training step: this process, or DeepSpeed on many.

An engine owns the model's optimiser and schedule. It takes a loss and makes a step; it saves and
loads everything that a step depends on. The loop knows nothing else of it.
"""

import math
import os
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from neurofmx.config import Params
from neurofmx.errors import UserError


class OptimizerParams(Params):
    """AdamW with a linear warm-up and a cosine decay to zero.

    Attributes:
        lr: Largest learning rate.
        warmup: Share of the steps that the rate rises.
        clip: Largest norm of the gradient.
    """

    lr: float = 3e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0


class Engine(Protocol):
    """What the loop asks of an engine."""

    rank: int
    world: int
    device: torch.device

    def step(self, loss: Tensor) -> None:
        """One step of the optimiser and its schedule down the gradient of `loss`."""
        ...

    def save(self, folder: Path) -> None:
        """Write the state of model, optimiser and schedule into `folder`."""
        ...

    def load(self, folder: Path) -> None:
        """Take up what `save` wrote."""
        ...


def schedule(step: int, steps: int, warmup: float) -> float:
    """Learning rate at a step as a share of the largest: linear up, cosine down to 0.

    Source: Loshchilov & Hutter 2016, arXiv:1608.03983.
    """
    rise = max(1, round(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _optimizer(model: nn.Module, params: OptimizerParams, steps: int) -> tuple:
    """AdamW and its schedule; embeddings, norms and biases are not decayed."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": params.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=params.lr, betas=(0.9, 0.98))
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: schedule(step, steps, params.warmup)
    )
    return optimizer, rate


class LocalEngine:
    """One process, one device.

    Args:
        model: Trained in place.
        params: Optimiser.
        steps: Length of the schedule.
    """

    rank, world = 0, 1

    def __init__(self, model: nn.Module, params: OptimizerParams, steps: int):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model, self.params = model.to(self.device), params
        self.optimizer, self.rate = _optimizer(model, params, steps)

    def step(self, loss: Tensor) -> None:
        """Backward, clip, update."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        trained = [p for p in self.model.parameters() if p.grad is not None]
        nn.utils.clip_grad_norm_(trained, self.params.clip)
        self.optimizer.step()
        self.rate.step()

    def save(self, folder: Path) -> None:
        """Write `engine.pt`, all or nothing."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rate": self.rate.state_dict(),
        }
        torch.save(state, folder / ".engine.tmp")
        os.replace(folder / ".engine.tmp", folder / "engine.pt")

    def load(self, folder: Path) -> None:
        """Read `engine.pt`."""
        state = torch.load(folder / "engine.pt", map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rate.load_state_dict(state["rate"])


class DeepSpeedEngine:
    """DeepSpeed with ZeRO, in the processes that `torchrun` or `deepspeed` started.

    Its JSON is made from the typed parameters. Without a launcher it is a world of one.

    Raises:
        UserError: DeepSpeed is not installed.

    Source: Rajbhandari et al. 2019 (ZeRO), arXiv:1910.02054.
    """

    def __init__(self, model: nn.Module, params: OptimizerParams, steps: int, zero: int = 1):
        try:
            import deepspeed
        except ImportError as error:
            raise UserError(
                "pretrain.engine is 'deepspeed', which is not installed: "
                "pip install 'neurofmx[train]', or choose 'local'"
            ) from error
        for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}.items():
            os.environ.setdefault(name, value)
        for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
            os.environ.setdefault(name, value)
        # On a CPU DeepSpeed would first compile an all-reduce through shared memory: two minutes,
        # and a compile that is killed leaves a lock on which later runs hang. Gloo's serves.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.init_distributed("nccl" if torch.cuda.is_available() else "gloo")
        optimizer, rate = _optimizer(model, params, steps)
        self.engine, *_ = deepspeed.initialize(
            model=model, optimizer=optimizer, lr_scheduler=rate, config=self.config(params, zero)
        )
        self.rank, self.world = deepspeed.comm.get_rank(), deepspeed.comm.get_world_size()
        self.device = torch.device(self.engine.device)

    @staticmethod
    def config(params: OptimizerParams, zero: int) -> dict[str, Any]:
        """DeepSpeed's JSON for our parameters."""
        return {
            "train_micro_batch_size_per_gpu": 1,  # the loop sizes its own batches
            "gradient_clipping": params.clip,
            "zero_optimization": {"stage": zero},
            "zero_allow_untested_optimizer": True,
            "wall_clock_breakdown": False,
        }

    def step(self, loss: Tensor) -> None:
        """DeepSpeed's backward and step, which clip and follow the schedule."""
        self.engine.backward(loss)
        self.engine.step()

    def save(self, folder: Path) -> None:
        """Write a DeepSpeed checkpoint; every rank must call it."""
        self.engine.save_checkpoint(str(folder), tag="deepspeed")

    def load(self, folder: Path) -> None:
        """Read a DeepSpeed checkpoint of the same world size."""
        self.engine.load_checkpoint(str(folder), tag="deepspeed")


ENGINES: dict[str, type] = {"local": LocalEngine, "deepspeed": DeepSpeedEngine}
EngineName = Literal["local", "deepspeed"]
