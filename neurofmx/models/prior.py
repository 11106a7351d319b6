"""The prior of a model: what its latents are likely to be, given what one of its tasks says."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neurofmx.batches import Batch
from neurofmx.errors import UserError
from neurofmx.models.conditions import condition_dim, condition_of, conditioning
from neurofmx.models.diffusion import DiffusionPrior, Noise
from neurofmx.models.params import ModelParams, TaskSpec


class LatentPrior(DiffusionPrior):
    """A `DiffusionPrior` over the latents of a model, conditioned on a task or on none.

    Args:
        model: Its widths, and `model.prior`.
        tasks: Of the model.

    Raises:
        UserError: The condition is no task of the model.
    """

    def __init__(self, model: ModelParams, tasks: Mapping[str, TaskSpec]):
        assert model.prior is not None, "whoever builds it has asked for one"
        given = model.prior.condition
        if given and given not in tasks:
            raise UserError(
                f"model.prior.condition is {given!r}, which is no task; choose from "
                f"{', '.join(tasks)}, or leave it empty"
            )
        self.task, self.spec = given, tasks.get(given)
        options = model.prior.model_dump(exclude={"condition"})
        options |= {name: model.width(f"prior_{name}") for name in ("width", "n_layers")}
        spec = self.spec
        told = condition_dim(spec.kind, spec.outputs) if spec else 0
        shape = (model.width("latent_dim"), model.width("n_latents"))
        super().__init__(*shape, condition_dim=told, **options)

    def denoise(
        self, latents: Float[Tensor, "batch latent width"], batch: Batch, noise: Noise
    ) -> dict[str, Tensor]:
        """What it says of noised latents, and what it should, as `ModelOutput.heads` holds them."""
        condition = known = None
        if self.spec is not None and self.task in batch.targets:
            condition, known = condition_of(batch.targets[self.task], self.spec.outputs)
        said, truth = self(latents, noise, condition, known)
        return {"denoise.prediction": said, "denoise.truth": truth}

    def condition(self, value: str | Sequence[float]) -> Float[Tensor, "1 condition"]:
        """The condition that a class, or values in the task's own unit, make.

        Raises:
            UserError: There is no condition, or no such class.
        """
        spec = self.spec
        if spec is None:
            raise UserError("the prior has no condition; set model.prior.condition to a task")
        if not spec.classes:
            mean, scale = torch.tensor(spec.mean or 0.0), torch.tensor(spec.scale or 1.0)
            values = (torch.tensor([[float(x) for x in value]]) - mean) / scale
        elif value in spec.classes:
            values = torch.tensor([[float(spec.classes.index(str(value)))]])
        else:
            raise UserError(
                f"{self.task} has no class {value!r}; choose from {', '.join(spec.classes)}"
            )
        return conditioning(spec.kind, values, spec.outputs)
