"""Hold each person, session or day out in turn, and keep what the pipeline says of it.

    python benchmarks/folds.py [ssvep gestures ca1_days] [--only NAME …]
    python benchmarks/folds.py --shots [ssvep gestures gestures-person12345 … ca1 ca1_days]

A fold is a card of datasets/ with another `split`, run in a fresh copy of the project. Each writes
benchmarks/folds/<data set>-<fold>.csv (storage/evaluate/results.csv as it is) and its cost when it
has ended, so that a run that is cut off leaves the folds before. With `--shots` recordings are kept
for adapt instead, and benchmarks/curves/<data set>.csv (gestures: one for each person, whose later
sessions are tested) has the few-shot curves of them. `python benchmarks/recordings.py --tables`
puts both into docs/results.md.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from recordings import CURVES, run
from recordings import FOLDS as KEPT

PEOPLE = ("subject01", "subject02", "subject03", "subject07", "subject09")
WEARERS = ("person12345", "person21547", "person45612")
TRIALS = {"by": "trial", "train": 0.6, "valid": 0.1, "guard": 0.0}
TIME = {"by": "time", "train": 0.6, "valid": 0.1, "guard": 1.0}


def _apart(names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    return {name: {"split": TRIALS | {"test_on": [f"{name}*"]}, "adapt": []} for name in names}


OURS = ("scratch", "head", "unit_id", "full")


def _later_sessions(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    later = [f"{name}-2", f"{name}-3"]
    card = {"adapt": [f"{name}-1"], "split": TRIALS | {"test_on": later}}
    return card, {"shots": [1, 5], "methods": ["lda", "tangent", *OURS], "test_on": later}


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
# Data set → fields of its card, by which one person or animal is new, and what curves compare.
SHOTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ssvep": (
        {"adapt": ["subject09-2013_04_09-17_39_37", "subject09-2013_04_09-17_32_29"]},
        {"shots": [1, 2], "methods": ["logistic", "tangent", *OURS]},
    ),
    # Shots of the first session of each person, in turn; both later sessions are tested.
    **{f"gestures-{name}": _later_sessions(name) for name in WEARERS},
    "ca1": (
        {"adapt": ["C7_M4-envB-day3"]},
        {"shots": [1, 3], "methods": ["ridge", *OURS]},
    ),
    # The last day of each mouse, after two to four that were trained on.
    "ca1_days": (
        {
            "adapt": ["C6_M4-envA-day4", "C7_M4-envA-day5", "C7_M4-envB-day3"],
            "split": TIME,
        },
        {"shots": [1, 3], "draws": 2, "methods": ["ridge", "scratch", "unit_id"]},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("datasets", nargs="*", help="else all")
    parser.add_argument("--only", nargs="*", default=[], help="folds by name; else all")
    parser.add_argument("--shots", action="store_true", help="few-shot curves in place of folds")
    given = parser.parse_args()
    asked = set(given.datasets)
    curves = [n for n in SHOTS if not asked or asked & {n, n.split("-")[0]}]
    for name in curves if given.shots else ():
        dataset, (card, settings) = name.split("-")[0], SHOTS[name]
        with tempfile.TemporaryDirectory() as folder:
            shots = {"draws": 3, "seeds": 1} | settings
            run(dataset, Path(folder), CURVES, name, "pretrain", shots, **card)
    for dataset in () if given.shots else given.datasets or FOLDS:
        for fold, card in FOLDS[dataset].items():
            if not given.only or fold in given.only:
                with tempfile.TemporaryDirectory() as folder:
                    run(dataset, Path(folder), KEPT, f"{dataset}-{fold}", "evaluate", **card)


if __name__ == "__main__":
    main()
