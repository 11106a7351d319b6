"""Parameters: `params.yaml` and dataset cards become frozen models that forbid unknown keys.

`params.yaml` has the two keys that all stages share (`dataset`, `seed`) and a section for each
stage. Overrides are `neurofmx run -S pretrain.fit.epochs=40` or the same of `dvc exp run`.
"""

import difflib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from neurofmx.errors import UserError

PARAMS_FILE = Path("params.yaml")


class Params(BaseModel):
    """Base of every configuration: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StageParams(Params):
    """What every stage knows besides its own section.

    Attributes:
        dataset: Name of a card in `datasets/`.
        seed: Seed of everything random in the stage.
    """

    dataset: str
    seed: int = 0


M = TypeVar("M", bound=BaseModel)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping.

    Raises:
        UserError: The file is absent, unreadable as YAML, or no mapping.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; run from the project's folder, where it lies")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}; a mapping of keys is needed")
    return content


def build(cls: type[M], content: dict[str, Any], where: str) -> M:
    """`cls` from plain values, or one readable message about every wrong key.

    Raises:
        UserError: Names each key, what it was, and the choices.
    """
    try:
        return cls.model_validate(content)
    except ValidationError as error:
        lines = [_explain(cls, problem) for problem in error.errors()]
        raise UserError(f"{where} is not usable:\n" + "\n".join(f"  {x}" for x in lines)) from error


def load_params(stage: str, cls: type[M], path: Path = PARAMS_FILE) -> M:
    """The parameters of one stage: its section of `params.yaml` and the shared keys."""
    content = read_yaml(path)
    shared = {key: content[key] for key in StageParams.model_fields if key in content}
    section = content.get(stage) or {}
    return build(cls, {**shared, **section}, f"section {stage!r} of {path}")


def _explain(cls: type[BaseModel], problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        choices = _fields_at(cls, problem["loc"][:-1])
        close = difflib.get_close_matches(str(problem["loc"][-1]), choices, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return f"{key}: unknown key.{hint} Known keys: {', '.join(sorted(choices))}"
    return f"{key}: {problem['msg']} (it was {problem['input']!r})"


def _fields_at(cls: Any, location: tuple) -> list[str]:
    """Names of the fields of the model that lies at `location` inside `cls`."""
    for part in location:
        if not isinstance(part, str) or part not in getattr(cls, "model_fields", {}):
            continue  # a list index or the key of a mapping: the model behind it stays
        cls = _model_in(cls.model_fields[part].annotation)
    return list(getattr(cls, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """The first pydantic model inside an annotation such as `dict[str, Task] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
