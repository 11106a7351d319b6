"""Run the whole pipeline on real recordings and keep what it says, for README and the reader.

    python benchmarks/recordings.py [m1 hpc ssvep ca1]

Each data set runs in a fresh copy of the project, so nothing is left over from another run. It
writes benchmarks/recordings/<dataset>.csv (storage/evaluate/results.csv as it is),
<dataset>-cost.json (seconds and peak memory of each stage), and the table in README.md between its
two `results` marks.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from measuring import put_between
from runs import link_data

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "recordings"
MARKS = ("<!-- results -->", "<!-- /results -->")
DATASETS = ("m1", "hpc", "ssvep", "ca1", "demo")
METHODS = ("neurofmx", "ridge", "logistic", "untrained", "mean")
PARTS = (
    "datasets",
    "params.yaml",
    "dvc.yaml",
    ".dvc",
    ".dvcignore",
    "neurofmx",
    "storage/README.md",
)


def run(dataset: str, folder: Path) -> None:
    """Run one data set in a copy of the project and keep its results."""
    project = folder / "project"
    for part in PARTS:
        source, target = ROOT / part, project / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(
                source, target, ignore=shutil.ignore_patterns("__pycache__", "tmp", "cache")
            )
        else:
            shutil.copy(source, target)
    link_data(folder)
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    environment = os.environ | {"PYTHONPATH": str(project)}
    command = [sys.executable, "-m", "neurofmx", "run", "--dataset", dataset]
    subprocess.run(command, cwd=project, env=environment, check=True)
    storage = project / "storage"
    shutil.copy(storage / "evaluate" / "results.csv", RESULTS / f"{dataset}.csv")
    cost = {
        path.parent.name: {
            k: json.loads(path.read_text())[k] for k in ("seconds", "peak_memory_mb")
        }
        for path in storage.glob("*/metrics.json")
    }
    (RESULTS / f"{dataset}-cost.json").write_text(json.dumps(cost, indent=1, sort_keys=True) + "\n")


def table() -> str:
    """Median over recordings of every kept data set, as Markdown."""
    rows = []
    for dataset in DATASETS:
        if not (RESULTS / f"{dataset}.csv").exists():
            continue
        results = pd.read_csv(RESULTS / f"{dataset}.csv")
        results = results[results["recording"] != "all"]
        seconds = sum(
            c["seconds"]
            for c in json.loads((RESULTS / f"{dataset}-cost.json").read_text()).values()
        )
        for (task, level, metric), group in results.groupby(["task", "level", "metric"]):
            if metric not in ("r2", "balanced_accuracy", "circular_error"):
                continue
            found = group.groupby("method")["value"].median()
            cells = [f"{found[m]:.2f}" if m in found else "" for m in METHODS]
            baseline = cells[1] or cells[2]
            n = group["recording"].nunique()
            rows.append(
                f"| {dataset} | {task}, {metric} | {level} ({n}) | **{cells[0]}** | {baseline} | "
                f"{cells[3]} | {cells[4]} | {seconds:.0f} s |"
            )
    columns = ("data set", "task, metric", "level (recordings)", "NeuroFM-X", "baseline")
    columns += ("untrained", "chance", "whole run")
    head = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return "\n".join([*head, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("datasets", nargs="*", default=DATASETS)
    RESULTS.mkdir(exist_ok=True)
    for dataset in parser.parse_args().datasets:
        with tempfile.TemporaryDirectory() as folder:
            run(dataset, Path(folder))
    put_between(MARKS, table())


if __name__ == "__main__":
    main()
