"""What evaluate has found so far, and the tables and pages that it leaves."""

import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from neurofmx.data.cards import Card
from neurofmx.errors import DataError
from neurofmx.evaluation import Level, Problem
from neurofmx.evaluation.commands import Reproduction
from neurofmx.evaluation.comparisons import Answered, null_tests, paired_tests
from neurofmx.evaluation.pages import OURS, pages
from neurofmx.evaluation.table import (
    COLUMNS,
    SHIFTED,
    Score,
    Scored,
    figures,
    overall,
    picture,
    scores,
)
from neurofmx.stages import STAGES, base
from neurofmx.stages.fits import STAGE


@dataclass
class Found:
    """Scores of all recordings so far.

    Attributes:
        draws, block, seed: Of the bootstrap.
        rows: Of results.csv, without what all rows share.
        tuned: Recording → task → method → what it chose, or under `left_out` why it has no answer.
    """

    draws: int
    block: float
    seed: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    answers: list[Answered] = field(default_factory=list)
    pictures: list[pd.DataFrame] = field(default_factory=list)
    statuses: list[base.Status] = field(default_factory=list)
    tuned: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(
        self, problem: Problem, scored: list[Scored], left_out: dict[str, str], level: Level
    ) -> None:
        """Score what every method answered to a task of a recording, ours first."""
        name, answer = problem.recording.id, scored[0].prediction.values
        chose = {s.method: s.prediction.settings for s in scored}
        why = {method: {"left_out": reason} for method, reason in left_out.items()}
        self.tuned.setdefault(name, {})[problem.task] = chose | why
        shifted = replace(scored[0], method=SHIFTED)
        for each in (*scored, shifted):
            self.add_scores(scores(problem, each, level, self.block))
        truth = problem.queries["test"].truth
        self.answers.append(Answered(name, problem.task, problem.kind, level, truth, answer))
        self.pictures.append(picture(problem, scored))

    def add_scores(self, made: list[Score]) -> None:
        """Scores, with a row for each of their figures."""
        self.scores += made
        self.rows += figures(made, self.draws, self.seed)

    def write(self, card: Card) -> pd.DataFrame:
        """Leave all tables, pages and the manifest; returns results.csv.

        Raises:
            DataError: There is no row.
        """
        folder = base.folder(STAGE)
        statuses = pd.DataFrame([asdict(status) for status in self.statuses])
        base.write_table(folder / "status.parquet", statuses)
        if not self.rows:
            reasons = "\n".join(f"  {s.recording}: {s.reason}" for s in self.statuses)
            raise DataError(f"{STAGE}: no recording can be scored\n{reasons}")
        rows = [*self.rows, *overall(self.scores, self.draws, self.seed)]
        again = Reproduction.here(card.name, STAGES[: STAGES.index(STAGE) + 1])
        common = {"dataset": card.name}
        told = [common | row | {"command": again.command(row["method"])} for row in rows]
        results = pd.DataFrame(told)[list(COLUMNS)]
        tables = {
            "results.csv": results,
            "tests.csv": paired_tests(self.scores, OURS, self.draws, self.seed),
            "nulls.csv": null_tests(self.answers),
        }
        for name, table in tables.items():
            _write_text(folder / name, table.to_csv(index=False, float_format="%.6g"))
        for name, text in pages(results, card).items():
            _write_text(folder / name, text)
        pictures = pd.concat(self.pictures, ignore_index=True)
        base.write_table(folder / "predictions.parquet", pictures)
        base.write_json(folder / "tuned.json", self.tuned)
        outputs = {
            # Seconds are a measurement, and what a command has to say depends on what is committed.
            name: base.digest(
                table.drop(columns=["seconds", "command"], errors="ignore").to_csv(
                    float_format="%.6g"
                )
            )
            for name, table in tables.items()
        }
        same = pages(results.assign(seconds=0.0, command=""), card)
        outputs |= {name: base.digest(text) for name, text in same.items()}
        for name in ("predictions.parquet", "tuned.json"):
            outputs[name] = base.file_digest(folder / name)
        left_out = {s.recording: s.reason for s in self.statuses if s.outcome == "skipped"}
        base.write_manifest(STAGE, card.name, outputs, left_out=left_out)
        return results


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
