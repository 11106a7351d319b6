"""What a model is evaluated on: questions to data sets, each with how far its answer has to carry.

A task names a card, what the card is asked (`target`), and the level of generalisation at which it
is scored. `TASKS` are those of `suites/core.yaml`; a YAML file of the same shape adds others. A
task whose card is resolved and cut into windows can be run; the others wait for their data.

    forecasting       the samples of a signal that lie ahead
    co_smoothing      channels that are hidden for a whole window, from the others
    reconstruction    stretches of all channels that are hidden, from what is around them

Those three ask no label. Source: levels of generalisation and co-smoothing, Pei et al. 2021 (NLB),
arXiv:2109.04463.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal, get_args

import yaml
from pydantic import Field

from neurofmx.config import Params, build, read_yaml
from neurofmx.errors import UserError
from neurofmx.types import TaskKind

SelfKind = Literal["forecasting", "co_smoothing", "reconstruction"]
SELF_KINDS: tuple[SelfKind, ...] = get_args(SelfKind)
Level = Literal["trial", "recording", "animal", "species"]
SUITE = Path(__file__).parent / "suites" / "core.yaml"


class EvaluationTask(Params):
    """One question to one data set.

    Attributes:
        title: What is asked, in a line.
        dataset: Name of a card.
        target: Task of that card; of a task without labels, the input signal.
        task_type: Kind of answer.
        species: Latin names.
        modality: Rows of `MODALITIES` that are read.
        level: What the scored part has in common with what was trained on: recordings seen earlier
            (`trial`), animals seen in other recordings, species seen in other animals, or nothing.
        tags: Words to choose by, such as reaching or speech.
    """

    title: str
    dataset: str
    target: str
    task_type: TaskKind | SelfKind
    species: list[str] = Field(min_length=1)
    modality: list[str] = Field(min_length=1)
    level: Level = "trial"
    tags: list[str] = []


class TaskRegistry:
    """Tasks by name.

    Args:
        tasks: To begin with.
    """

    def __init__(self, tasks: dict[str, EvaluationTask] | None = None):
        self._tasks = dict(tasks or {})

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def register(self, name: str, task: EvaluationTask) -> None:
        """Add a task.

        Raises:
            UserError: There is another of that name.
        """
        if self._tasks.get(name, task) != task:
            known = self._tasks[name]
            raise UserError(
                f"there is another task {name!r}, which asks {known.dataset} for {known.target}; "
                "choose another name"
            )
        self._tasks[name] = task

    def get(self, name: str) -> EvaluationTask:
        """A task.

        Raises:
            UserError: There is none of that name; lists those there are.
        """
        if name not in self._tasks:
            raise UserError(
                f"there is no task {name!r}; choose from {', '.join(sorted(self._tasks)) or 'none'}"
            )
        return self._tasks[name]

    def list_tasks(
        self,
        task_type: str | None = None,
        species: str | None = None,
        modality: str | None = None,
        tags: Collection[str] = (),
        dataset: str | None = None,
    ) -> list[str]:
        """Names of the tasks that fit everything that is given, in their order."""
        return [
            name
            for name, task in self._tasks.items()
            if task_type in (None, task.task_type)
            and (species is None or species in task.species)
            and (modality is None or modality in task.modality)
            and dataset in (None, task.dataset)
            and set(tags) <= set(task.tags)
        ]

    def load_from_yaml(self, path: Path | str) -> "TaskRegistry":
        """Add the tasks of a file, a name each.

        Raises:
            UserError: The file is absent, a key is wrong, or a name is taken by another task.
        """
        path = Path(path)
        if not path.exists():
            raise UserError(f"{path} does not exist; a suite is a YAML file of tasks by name")
        for name, content in read_yaml(path).items():
            self.register(name, build(EvaluationTask, content, f"{path}: {name}"))
        return self

    def save_to_yaml(self, path: Path | str) -> None:
        """Write all tasks, as `load_from_yaml` reads them."""
        content = {
            name: task.model_dump(mode="json", exclude_defaults=True)
            for name, task in self._tasks.items()
        }
        Path(path).write_text(
            yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
        )


TASKS = TaskRegistry().load_from_yaml(SUITE)
