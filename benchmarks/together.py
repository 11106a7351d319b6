"""Pretrain one model on all data sets together, then go on with it on each, and keep what it says.

    python benchmarks/together.py [m1 hpc …] [--core FOLDER]

Each data set has a copy of the project. One model is pretrained on the train parts of all (`beside`
of `pretrain`), each seen as often as it would be alone; then each data set's own pretraining starts
from it (`start`) and is otherwise what it is alone. It writes benchmarks/together/<data set>.csv
(storage/evaluate/results.csv as it is) and <data set>-cost.json; core-cost.json is of the model of
all. `--core` takes that from a folder where an earlier run kept it, or keeps it there. The control,
from initial weights, is what benchmarks/recordings.py keeps; its `--tables` sets both side by side.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from recordings import OURS, TOGETHER, chosen, command, copied, keep

DATASETS = (  # all but the demo, which is made up
    *("m1", "hpc", "heading", "song", "decision"),
    *("ca1_days", "ca1", "ssvep", "gestures", "categories"),
)
SAME = {"ca1"}  # whose recordings another data set has


def pretrained(datasets: list[str], folder: Path, core: Path) -> None:
    """Pretrain on all and leave the model in `core`."""
    projects = {}
    for name in datasets:
        projects[name] = copied(folder / name)
        command(projects[name], "run", "--dataset", name, "--until", "tokenize")
    first, *others = datasets
    beside = ",".join(str(projects[name] / "storage" / "tokenize") for name in others)
    settings = chosen([f"pretrain.beside=[{beside}]"])
    command(projects[first], "run", "--dataset", first, "--until", "pretrain", *settings)
    keep(projects[first], Path("pretrain", "history.csv"), TOGETHER, "core")
    shutil.copytree(projects[first] / "storage" / "pretrain", core)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("datasets", nargs="*", default=DATASETS)
    parser.add_argument("--core", type=Path, help="folder of the model of all")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        core = (given.core or Path(folder) / "core").resolve()
        if not core.exists():
            pretrained([n for n in given.datasets if n not in SAME], Path(folder), core)
        settings = chosen([f"pretrain.start={core}", OURS])
        for name in given.datasets:
            project = copied(Path(folder) / "after" / name)
            command(project, "run", "--dataset", name, "--until", "evaluate", *settings)
            keep(project, Path("evaluate", "results.csv"), TOGETHER, name)
            shutil.rmtree(project)


if __name__ == "__main__":
    main()
