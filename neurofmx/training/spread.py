"""Engines of many processes, alike or each with a shard; and every engine, by name."""

import contextlib
from typing import cast

import torch.distributed as dist
from torch import nn

from neurofmx.training.deepspeed_engine import DeepSpeedEngine
from neurofmx.training.engines import Engine, EngineName, LocalEngine, blocks, refuse
from neurofmx.training.lesson import Lesson


class DDPEngine(Engine):
    """Many processes with the whole model each, whose gradients are averaged.

    Source: Li et al. 2020, arXiv:2006.15704.
    """

    spread = True

    def wrapped(self, lesson: Lesson) -> nn.Module:
        """In `DistributedDataParallel`: a batch need not reach every head."""
        from torch.nn.parallel import DistributedDataParallel

        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(
            lesson, device_ids=ids, find_unused_parameters=True, broadcast_buffers=False
        )

    def parts(self, last: bool) -> contextlib.AbstractContextManager:
        """Gradients meet in the last part alone."""
        return contextlib.nullcontext() if last else self.module.no_sync()  # type: ignore[operator]


class FSDPEngine(Engine):
    """Many processes, each with a shard of the weights, gathered block by block when it is needed.

    Products are in `fit.precision` by autocast, as under every engine; shards, and what is reduced,
    are float32.

    Source: Zhao et al. 2023, arXiv:2304.11277; torch's `fully_shard`.
    """

    spread = shards = True

    def refuse(self) -> None:
        """Muon needs whole matrices, GradNorm a graph that is gone through more than once."""
        refuse("fsdp", self.settings.name == "muon", "optimizer.name is 'muon'", "adamw")
        gradnorm = self.lesson.weighting_name == "gradnorm"
        refuse("fsdp", gradnorm, "weighting is 'gradnorm'", "fixed")

    def wrapped(self, lesson: Lesson) -> nn.Module:
        """Sharded in place: each block by itself, and all else together."""
        from torch.distributed.fsdp import fully_shard

        mesh = dist.init_device_mesh(self.device.type, (self.world,))
        lesson.tied = True  # ranks have to reduce the same gradients, whatever their windows reach
        for block in blocks(lesson):
            fully_shard(block, mesh=mesh)
        return cast(nn.Module, fully_shard(lesson, mesh=mesh))

    def parts(self, last: bool) -> contextlib.AbstractContextManager:
        """Gradients meet in the last part alone."""
        self.module.set_requires_gradient_sync(last)  # type: ignore[operator]
        return contextlib.nullcontext()


ENGINES: dict[EngineName, type[Engine]] = {
    "local": LocalEngine,
    "ddp": DDPEngine,
    "fsdp": FSDPEngine,
    "deepspeed": DeepSpeedEngine,
}
