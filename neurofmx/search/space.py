"""What is searched: keys of `params.yaml`, each with the values that it may take."""

import copy
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from neurofmx.config import Params, StageParams, build
from neurofmx.errors import UserError
from neurofmx.project import stage_params
from neurofmx.stages import STAGES

STAGE = "pretrain"
WINDOWS = (*StageParams.model_fields, *STAGES[: STAGES.index(STAGE)], "pretrain.beside")
# What may change while a run goes on.
MOVABLE = (
    "pretrain.fit.optimizer.lr",
    "pretrain.fit.optimizer.weight_decay",
    "pretrain.fit.optimizer.clip",
    "pretrain.fit.objectives.",
    "pretrain.fit.options.",
    "pretrain.fit.loader.augment.",
    "pretrain.model.dropout",
)


class Range(Params):
    """Values that a key may take; exactly one of the four is given.

    Attributes:
        uniform: Any number between two.
        log: The same, each factor as likely.
        integer: Any whole number from one to another, both included.
        choice: One of these, of any kind.
    """

    uniform: tuple[float, float] | None = None
    log: tuple[float, float] | None = None
    integer: tuple[int, int] | None = None
    choice: list[Any] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _usable(self) -> "Range":
        given = self.model_dump(exclude_none=True)
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(type(self).model_fields)}")
        if self.choice is None and not self.ends[0] < self.ends[1]:
            raise ValueError(f"the first number is to be the smaller; they were {self.ends}")
        if self.log and self.log[0] <= 0:
            raise ValueError(f"log begins above 0; it was {self.log[0]}")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """Least and largest number."""
        found = self.uniform or self.log or self.integer
        assert found
        return float(found[0]), float(found[1])

    @property
    def probes(self) -> list[Any]:
        """Values that all have to be usable: of numbers the ends, and one that is not whole."""
        if self.choice is not None:
            return self.choice
        low, high = self.ends
        return list(self.integer or (low, high, low + 0.3 * (high - low)))

    def value(self, drawn: Any) -> Any:
        """What is trained with: of numbers four digits, within the ends; of choices see `text`."""
        if self.choice is not None:
            return yaml.safe_load(drawn)
        kept = min(max(drawn, self.ends[0]), self.ends[1])
        return int(kept) if self.integer else float(f"{kept:.4g}")


class SearchParams(Params):
    """A search.

    Attributes:
        keys: What each searched key of `params.yaml` may be.
        trials: How many are trained; of pbt, the population.
        algorithm: How keys are chosen and which trials are stopped; `run` explains each.
        parallel: Trials at once; on a cluster a pbt has as many as there is room for.
        cpus, gpus: That Ray keeps for each trial.
        grace: Looks at the valid split before asha may stop a trial, or between exchanges of pbt.
        seed: Of the draws.
    """

    keys: dict[str, Range] = Field(min_length=1)
    trials: int = Field(20, ge=1)
    algorithm: Literal["random", "asha", "pbt", "optuna", "optuna+asha"] = "asha"
    parallel: int = Field(1, ge=1)
    cpus: float = Field(1.0, gt=0)
    gpus: float = Field(0.0, ge=0)
    grace: int = Field(2, ge=1)
    seed: int = Field(0, ge=0)

    def values(self, config: dict[str, Any]) -> dict[str, Any]:
        """Key → value of what Tune drew."""
        return {key: spec.value(config[key]) for key, spec in self.keys.items()}

    def config(self, values: dict[str, Any]) -> dict[str, Any]:
        """What Tune would have drawn for these."""
        return {k: values[k] if s.choice is None else text(values[k]) for k, s in self.keys.items()}


def text(value: Any) -> str:
    """A value as YAML on one line: in tables, after `-S key=`, and as Tune knows a choice."""
    lines = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    return lines.removesuffix("...\n").strip()


def changed(content: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """`params.yaml` with some keys changed.

    Raises:
        UserError: A key lies below one that has a value.
    """
    made = copy.deepcopy(content)
    for key, value in values.items():
        node, (*above, last) = made, key.split(".")
        for part in above:
            if node.get(part) is None:
                node[part] = {}
            node = node[part]
            if not isinstance(node, dict):
                raise UserError(f"{key}: {part} is {node!r} in params.yaml and has no keys below")
        node[last] = value
    return made


def check(params: SearchParams, content: dict[str, Any]) -> None:
    """Hold every key against the stage's parameters, at its ends or with each choice.

    Raises:
        UserError: Names the key, and says what is wrong with it.
    """
    shared = {key: content[key] for key in StageParams.model_fields if key in content}
    for key, spec in params.keys.items():
        _searchable(key, params.algorithm)
        for probe in spec.probes:
            section = changed(content, {key: probe})[STAGE]
            build(stage_params(STAGE), shared | section, f"{key} = {text(probe)}")


def _searchable(key: str, algorithm: str) -> None:
    stage = key.split(".")[0]
    if stage in WINDOWS or key.startswith(WINDOWS[-1]):
        why = "it changes the windows, and losses on other windows cannot be compared"
    elif stage not in STAGES:
        why = f"unknown key. Known: {STAGE}.KEY, as in params.yaml"
    elif stage != STAGE:
        why = f"{stage} comes after {STAGE}, whose valid loss is what trials are compared by"
    elif algorithm == "pbt" and not key.startswith(MOVABLE):
        why = f"pbt changes keys while a trial goes on, as it can {', '.join(MOVABLE)}"
    else:
        return
    raise UserError(f"{key}: {why}. Set it in params.yaml, and search other keys of {STAGE}")
