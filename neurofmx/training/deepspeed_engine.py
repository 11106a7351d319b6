"""DeepSpeed: ZeRO shards the optimiser, then gradients, then weights over the processes.

Its JSON is made from the typed parameters. Products are in `fit.precision` by autocast, as under
every engine; what ZeRO shards and reduces is float32.

Source: Rajbhandari et al. 2019 (ZeRO), arXiv:1910.02054; offload, Ren et al. 2021,
arXiv:2101.06840, and Rajbhandari et al. 2021 (to NVMe), arXiv:2104.07857.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neurofmx.errors import UserError
from neurofmx.training.engines import Engine, blocks, refuse
from neurofmx.training.lesson import Lesson
from neurofmx.training.optim import optimizers

TAG = "deepspeed"
WORLD = "world.json"  # at how many ranks a checkpoint was written
# What stages 1 and 2 have to say of themselves to be converted to another number of ranks.
UNIVERSAL = {"universal_checkpoint_info": {"universal_checkpoint_version": 0.2}}


class DeepSpeedEngine(Engine):
    """Many processes by DeepSpeed.

    Raises:
        UserError: DeepSpeed is not installed, or cannot do what was asked.

    Source: Rajbhandari et al. 2019 (ZeRO), arXiv:1910.02054.
    """

    asynchronous = False
    spread = shards = True

    def refuse(self) -> None:
        """What ZeRO's shards or its one pass through the graph do not allow."""
        whole = self.params.zero == 3
        refuse(TAG, self.settings.name == "muon", "optimizer.name is 'muon'", "adamw")
        refuse(TAG, whole and self.settings.ema > 0, "optimizer.ema with zero: 3", "ema: 0")
        gradnorm = self.lesson.weighting_name == "gradnorm"
        refuse(TAG, gradnorm, "weighting is 'gradnorm'", "fixed")
        nvme = self.params.offload == "nvme"
        refuse(TAG, nvme and not self.params.offload_folder, "offload to nvme", "offload_folder")

    def wrapped(self, lesson: Lesson) -> nn.Module:
        """In DeepSpeed's engine, with our optimiser and schedule."""
        try:
            import deepspeed
        except ImportError as error:
            raise UserError(
                "fit.engine is 'deepspeed', which is not installed: pip install 'neurofmx[train]', "
                "or choose 'local', 'ddp' or 'fsdp'"
            ) from error
        # On a CPU DeepSpeed would first compile an all-reduce through shared memory: two minutes,
        # and a compile that is killed leaves a lock on which later runs hang. Gloo's serves.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.init_distributed("nccl" if torch.cuda.is_available() else "gloo")
        if self.params.zero == 3:
            _whole_where_used(lesson)
        (made,) = optimizers(lesson.named_parameters(), self.settings)
        made.total = self.sum  # each rank holds a part of every table
        self.engine, *_ = deepspeed.initialize(
            model=lesson, optimizer=made, config=self.config(), dist_init_required=False
        )
        return self.engine

    def _optimizers(self) -> list[Any]:
        return [self.engine.optimizer]

    def config(self) -> dict[str, Any]:
        """DeepSpeed's JSON for our parameters."""
        zero: dict[str, Any] = {"stage": self.params.zero}
        if self.params.offload != "none":
            zero["offload_optimizer"] = {"device": self.params.offload}
            if self.params.offload == "nvme":
                zero["offload_optimizer"]["nvme_path"] = self.params.offload_folder
        return {
            "train_micro_batch_size_per_gpu": 1,  # the loop sizes its own batches
            "gradient_accumulation_steps": self.accumulated,
            "gradient_clipping": self.settings.clip,
            "zero_optimization": zero,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "wall_clock_breakdown": False,
        }

    def backward(self, loss: Tensor, last: bool) -> None:
        """DeepSpeed's; a part's loss is its share already, so it is not divided again."""
        self.engine.set_gradient_accumulation_boundary(last)
        self.engine.backward(loss, scale_wrt_gas=False)
        if not last:
            self.engine.step()

    def parts(self, last: bool) -> contextlib.AbstractContextManager:
        """DeepSpeed knows by itself."""
        return contextlib.nullcontext()

    def step(self, number: int) -> float:
        """DeepSpeed clips and moves the weights."""
        self._set_rate(number)
        self.engine.step()
        if self.average is not None:
            self.average.update(number)
        norm = self.engine.get_global_grad_norm()
        return float(norm) if norm is not None else 0.0

    def forget(self) -> None:
        """Drop gradients; parts that DeepSpeed has taken already it keeps.

        Raises:
            UserError: It has taken some.
        """
        if self.accumulated > 1:
            raise UserError(
                "a part of a step has a loss that is no number, and DeepSpeed cannot drop the "
                "parts before it: look at the windows in the folder of bad steps, lower "
                "optimizer.lr, or set accumulate to 1 to skip such steps"
            )
        self.engine.zero_grad()

    def weights(self) -> dict[str, Tensor]:
        """As every engine; of stage 3 gathered parameter by parameter."""
        import deepspeed

        found = {}
        for name, x in self.lesson.model.state_dict(keep_vars=True).items():
            sharded = self.params.zero == 3 and isinstance(x, nn.Parameter)
            with deepspeed.zero.GatheredParameters([x], enabled=sharded):
                if self.rank == 0:
                    found[name] = x.detach().cpu().contiguous().clone()
        return found

    def take(self, weights: dict[str, Tensor]) -> None:
        """As every engine."""
        import deepspeed

        for name, x in self.lesson.model.state_dict(keep_vars=True).items():
            sharded = self.params.zero == 3 and isinstance(x, nn.Parameter)
            with (
                torch.no_grad(),
                deepspeed.zero.GatheredParameters([x], modifier_rank=0, enabled=sharded),
            ):
                x.copy_(weights[name].to(x.device))

    def save(self, folder: Path, behind: bool = False) -> Any:
        """A DeepSpeed checkpoint, from which `zero_to_fp32` also makes plain weights."""
        self.engine.save_checkpoint(str(folder), tag=TAG, client_state=UNIVERSAL)
        if self.rank == 0:
            (folder / WORLD).write_text(json.dumps(self.world))
            if self.average is not None:
                torch.save(self.average.mean, folder / "average.pt")
        return None

    def load(self, folder: Path) -> None:
        """Take it up; at another number of ranks by way of a universal checkpoint."""
        then = json.loads((folder / WORLD).read_text())
        tag = TAG
        if then != self.world:
            tag = "universal"
            if self.rank == 0:
                _convert(folder)
            self.barrier()
        self.engine._config.load_universal_checkpoint = then != self.world
        self.engine.load_checkpoint(str(folder), tag=tag)
        self.engine._config.load_universal_checkpoint = False
        if self.average is not None:
            mean = torch.load(folder / "average.pt", map_location=self.device, weights_only=True)
            for own, x in zip(self.average.mean, mean, strict=True):
                own.copy_(x)


def _whole_where_used(lesson: Lesson) -> None:
    """Tell ZeRO-3 where weights are used that no module's own `forward` asks for.

    Those of a block are gathered for its forward, and all others for that of the lesson: they are
    a small part, and methods like `tokenize` use them from outside.
    """
    from deepspeed.runtime.zero import register_external_parameter

    inside = set()
    for block in blocks(lesson):
        for parameter in block.parameters():
            inside.add(id(parameter))
            register_external_parameter(block, parameter)
    for parameter in lesson.parameters():
        if id(parameter) not in inside:
            register_external_parameter(lesson, parameter)


def _convert(folder: Path) -> None:
    """Write a checkpoint anew so that any number of ranks can read it."""
    made = folder / "universal"
    shutil.rmtree(made, ignore_errors=True)
    module = "deepspeed.checkpoint.ds_to_universal"
    command = [sys.executable, "-m", module, "--inject_missing_state"]
    command += ["--input_folder", str(folder / TAG), "--output_folder", str(made)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"RANK": "0"})
    if done.returncode:
        raise UserError(
            f"the checkpoint in {folder} was written by another number of processes and could not "
            f"be converted: {done.stderr[-500:]}. Start as many as then, or anew in an empty folder"
        )
