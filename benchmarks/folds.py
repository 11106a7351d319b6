"""Hold each person, session or day out in turn, and keep what the pipeline says of it.

    python benchmarks/folds.py [ssvep gestures ca1_days] [--only NAME …]

A fold is a card of datasets/ with another `split`, run in a fresh copy of the project. Each writes
benchmarks/folds/<data set>-<fold>.csv (storage/evaluate/results.csv as it is) and its cost when it
has ended, so that a run that is cut off leaves the folds before. `python benchmarks/recordings.py
--tables` puts them into docs/results.md.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from recordings import FOLDS as KEPT
from recordings import run

PEOPLE = ("subject01", "subject02", "subject03", "subject07", "subject09")
WEARERS = ("person12345", "person21547", "person45612")
TRIALS = {"by": "trial", "train": 0.6, "valid": 0.1, "guard": 0.0}
TIME = {"by": "time", "train": 0.6, "valid": 0.1, "guard": 1.0}


def _apart(names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    return {name: {"split": TRIALS | {"test_on": [f"{name}*"]}, "adapt": []} for name in names}


# Data set → fold → fields of its card.
FOLDS: dict[str, dict[str, dict[str, Any]]] = {
    "ssvep": _apart(PEOPLE),
    "gestures": _apart(WEARERS)
    | {"session2": {"split": TRIALS | {"train_on": ["*-1"], "test_on": ["*-2"]}}},
    "ca1_days": {
        f"day{day + 1}": {
            "split": TIME | {"train_on": [f"*-day{day}"], "test_on": [f"*-day{day + 1}"]}
        }
        for day in (1, 2, 3, 4)
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("datasets", nargs="*", default=FOLDS)
    parser.add_argument("--only", nargs="*", default=[], help="folds by name; else all")
    given = parser.parse_args()
    for dataset in given.datasets:
        for fold, card in FOLDS[dataset].items():
            if not given.only or fold in given.only:
                with tempfile.TemporaryDirectory() as folder:
                    run(dataset, Path(folder), KEPT, f"{dataset}-{fold}", "evaluate", **card)


if __name__ == "__main__":
    main()
