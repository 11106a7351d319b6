"""How long, at what and by what means a model is trained."""

import math
from typing import Any, Literal, cast

from jaxtyping import Integer
from numpy import ndarray
from pydantic import Field, model_validator

from neurofmx.config import Params, build
from neurofmx.data.augment import AugmentParams
from neurofmx.data.loader import LoaderParams
from neurofmx.objectives import OBJECTIVES
from neurofmx.training.curriculum import CurriculumPhase
from neurofmx.training.engines import EngineName, EngineParams
from neurofmx.training.launch import LaunchParams
from neurofmx.training.optim import OptimizerParams
from neurofmx.training.weighting import WeightingName


class CheckpointParams(Params):
    """What is kept of a run while it goes on.

    Attributes:
        every: Steps between checkpoints.
        keep: Best checkpoints, by the valid split, that are kept beside the last.
        behind: Write while training goes on.
        stop_at: Step at which the run is saved and left, to be gone on with; None is its end.
        adopt: Go on from a checkpoint in the folder even if it was made with other parameters.
    """

    every: int = Field(50, ge=1)
    keep: int = Field(1, ge=0)
    behind: bool = True
    stop_at: int | None = Field(None, ge=1)
    adopt: bool = False


class FitParams(Params):
    """How long and for what a model is trained.

    Attributes:
        engine: Row of `ENGINES`.
        launch: Processes and machines that it is spread over.
        memory: What an engine may do to fit.
        precision: Of products; bfloat16 is by autocast: weights, their gradients, losses and the
            optimiser stay in float32.
        epochs: Times that every train window is seen; the steps follow from it. Phases of a
            curriculum share them out.
        epoch_steps: That an epoch counts for at least: a data set that is gone through in fewer is
            gone through more often, as it is steps that a model learns by.
        windows: Seen at most, whichever: as a large data set needs fewer epochs than a small one,
            it gets as many as come nearest below, but at least one. None: no limit. Of several
            data sets each is seen as often as it would be alone.
        batch_size: Windows of a step at most, over all ranks; None where loader.tokens_per_step
            says how large it is.
        accumulate: Parts that each rank's windows of a step come in, so that they need less memory.
        loader: How windows come to the model.
        objectives: Weight of each row of `OBJECTIVES`; 0 leaves it out.
        options: Options of objectives, by name.
        weighting: How their losses become one; row of `WEIGHTINGS`.
        phases: The curriculum; empty is one phase of everything.
        valid_every: Steps between looks at the valid split; the best weights are kept.
        checkpoint: What is kept while it goes on.
        bad_steps: Steps that may be left out as their loss is no number, before the run stops.
    """

    engine: EngineName = "local"
    launch: LaunchParams = LaunchParams()
    memory: EngineParams = EngineParams()
    precision: Literal["float32", "bfloat16"] = "float32"
    epochs: int = Field(20, ge=1)
    epoch_steps: int = Field(1, ge=1)
    windows: int | None = Field(None, ge=1)
    batch_size: int | None = Field(32, ge=1)
    accumulate: int = Field(1, ge=1)
    loader: LoaderParams = LoaderParams()
    optimizer: OptimizerParams = OptimizerParams()
    objectives: dict[str, float] = {"decode": 1.0, "masked": 0.1, "forecast": 0.1}
    options: dict[str, dict[str, Any]] = {}
    weighting: WeightingName = "fixed"
    phases: list[CurriculumPhase] = []
    valid_every: int = Field(50, ge=1)
    checkpoint: CheckpointParams = CheckpointParams()
    bad_steps: int = Field(10, ge=0)

    def epochs_of(self, tokens: Integer[ndarray, " window"]) -> int:
        """Times that a data set is gone through.

        Args:
            tokens: Of each of its train windows.
        """
        limit = self.loader.tokens_per_step
        size = len(tokens) / cast(int, self.batch_size) if limit is None else tokens.sum() / limit
        epochs = math.ceil(self.epochs * max(1, self.epoch_steps / max(1, math.ceil(size))))
        most = epochs if self.windows is None else self.windows // max(1, len(tokens))
        return max(1, min(epochs, most))

    @property
    def budget(self) -> dict[str, int | None]:
        """How large a step is."""
        return {"batch_size": self.batch_size, "tokens_per_step": self.loader.tokens_per_step}

    @model_validator(mode="after")
    def _usable(self) -> "FitParams":
        if (self.batch_size is None) == (self.loader.tokens_per_step is None):
            raise ValueError(
                "give either batch_size (windows) or loader.tokens_per_step, and leave the other "
                f"empty; they were {self.batch_size} and {self.loader.tokens_per_step}"
            )
        named = {n for phase in self.phases for n in phase.objectives}
        unknown = sorted((set(self.objectives) | set(self.options) | named) - set(OBJECTIVES))
        if unknown:
            raise ValueError(
                f"unknown objectives {', '.join(unknown)}; choose from {', '.join(OBJECTIVES)}"
            )
        for name, options in self.options.items():
            build(OBJECTIVES[name].Config, options, f"options.{name}")
        if self.engine == "local" and self.launch.many:
            raise ValueError("launch asks for several processes, and the engine local is one alone")
        return self


def adapting(epochs: int, epoch_steps: int = 1) -> FitParams:
    """How an adapter is trained, on a core that stays as it is."""
    optimizer = OptimizerParams(lr=1e-2, weight_decay=0.0)
    return FitParams(epochs=epochs, epoch_steps=epoch_steps, optimizer=optimizer)


def recipe() -> FitParams:
    """How all weights are trained, from their initial values or from pretrained ones."""
    return FitParams(
        epochs=100,
        epoch_steps=4,
        windows=80_000,
        optimizer=OptimizerParams(weight_decay=0.1, ema=0.99),
        loader=LoaderParams(augment=AugmentParams(channel_dropout=0.2, anonymous=0.2)),
    )
