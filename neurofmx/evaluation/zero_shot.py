"""What a model knows of recordings that it has never seen, with nothing fitted on them.

The model answers as it is: no readout, no embedding and no setting is chosen on the target. What it
has of the target is how its channels are normalised, from signals without labels, and who the
channels are where the card says that recordings share them (`same`); other units answer by the
embedding that stands for every unit it does not know.

A linear readout of frozen features is no zero-shot answer: that is a probe.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from neurofmx.data import store
from neurofmx.data.cards import FOLDER, load_card
from neurofmx.data.shards import Shards
from neurofmx.errors import UserError
from neurofmx.evaluation.baselines import Prediction, Problem
from neurofmx.evaluation.queries import read_queries
from neurofmx.evaluation.table import Score, Scored, figures, overall, scores
from neurofmx.evaluation.tasks import SELF_KINDS, EvaluationTask, TaskRegistry
from neurofmx.models import NeuroFMX
from neurofmx.training.inference import answers
from neurofmx.types import AlignedRecording

METHOD = "zero_shot"


@dataclass(frozen=True)
class ZeroShotEvaluator:
    """Scores of a model on recordings that it was not trained on.

    Attributes:
        model: Pretrained.
        storage: Folder of the stages, of which align and tokenize have run.
        seen: Recordings that it was trained on; None: those whose channels it knows by name.
        cards: Folder of the cards.
        draws, block, seed: Of the bootstrap, as in the stage evaluate.
    """

    model: NeuroFMX
    storage: Path | str = "storage"
    seen: Collection[str] | None = None
    cards: Path | str = FOLDER
    draws: int = 1000
    block: float = 5.0
    seed: int = 0

    def evaluate(self, task_registry: TaskRegistry) -> pd.DataFrame:
        """A row for each figure of each task and recording, as in `results.csv`.

        Tasks of other data sets than the one that lies in storage are left out.

        Raises:
            UserError: Nothing is left to score; says why of each task.
        """
        shards, reasons = Shards(Path(self.storage) / "tokenize"), {}
        found: list[Score] = []
        for name in task_registry:
            task = task_registry.get(name)
            reason = self._unfit(task, shards)
            if reason:
                reasons[name] = reason
                continue
            found += [s for r in self._unseen(shards) for s in self._scores(r, task, shards)]
        if not found:
            told = "\n".join(f"  {name}: {reason}" for name, reason in reasons.items())
            raise UserError(
                f"no recording of {shards.name} is new to the model and asked for a task that it "
                f"knows\n{told}"
            )
        rows = figures(found, self.draws, self.seed) + overall(found, self.draws, self.seed)
        return pd.DataFrame([{"dataset": shards.name} | row for row in rows])

    def _unfit(self, task: EvaluationTask, shards: Shards) -> str:
        """Why a task cannot be scored here; empty where it can."""
        if task.task_type in SELF_KINDS:
            return "it asks no label"
        if task.dataset != shards.name:
            return f"its data set is {task.dataset}"
        if task.target not in self.model.config.tasks:
            known = ", ".join(self.model.config.tasks) or "none"
            return f"the model has no head for {task.target}; it has {known}"
        return ""

    def _unseen(self, shards: Shards) -> list[str]:
        seen = self.seen
        if seen is None:
            parts = self.model.vocabulary.values()
            seen = {owner for part in parts for owner, _ in part.keys}
        return [name for name in shards.recordings.labels if name not in seen]

    def _scores(self, recording: str, task: EvaluationTask, shards: Shards) -> list[Score]:
        test = shards.positions("test", [recording]).tolist()
        asked = read_queries(shards, task.target, test) if test else None
        if not asked:
            return []
        aligned = store.read(Path(self.storage) / "align" / f"{recording}.zarr")
        assert isinstance(aligned, AlignedRecording)
        card = load_card(task.dataset, Path(self.cards))
        problem = Problem(aligned, card, task.target, shards, {"test": test}, {"test": asked})
        told = answers(self.model, shards, test)[task.target]
        scored = Scored(METHOD, Prediction(told.prediction, 0, spread=told.spread), 0.0)
        level = "recording" if task.level == "trial" else task.level  # it was not trained on
        return scores(problem, scored, level, self.block)
