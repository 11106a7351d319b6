"""Run the whole pipeline on real recordings and keep what it says, for README and the reader.

    python benchmarks/recordings.py [m1 hpc ssvep ca1] [-S 'evaluate.methods=[all]'] [--ours]

Each data set runs in a fresh copy of the project, so nothing is left over from another run. It
writes benchmarks/recordings/<dataset>.csv (storage/evaluate/results.csv as it is),
<dataset>-cost.json (seconds and peak memory of each stage), the table in README.md between its
two `results` marks, and docs/results.md, which has every method. Both are made from all data sets
that are kept; `--tables` makes them anew and runs nothing. `--ours` fits none of the other methods,
which know nothing of our model, and keeps their rows of the run before.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from measuring import put_between
from runs import link_data

from neurofmx.evaluation import METRICS
from neurofmx.evaluation.pages import best_other
from neurofmx.project import OVERALL

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "recordings"
FOLDS = ROOT / "benchmarks" / "folds"
CURVES = ROOT / "benchmarks" / "curves"
TOGETHER = ROOT / "benchmarks" / "together"
MARKS = ("<!-- results -->", "<!-- /results -->")
DATASETS = (
    *("m1", "hpc", "ssvep", "ca1", "demo"),
    *("ca1_days", "heading", "gestures", "decision", "categories", "song"),
)
MAIN = ("r2", "balanced_accuracy", "auc", "circular_error", "circular_median", "bits_per_spike")
SHIFTED = "shifted"
HEAD = """# What was measured

Written by `python benchmarks/recordings.py`, from the tables in
[benchmarks/recordings/](../benchmarks/recordings); no figure here is typed by hand. Of several
recordings the median and the range, of one the figure and its 95 % interval (block bootstrap, one
training seed). Seconds are of one recording: to answer, and for other methods to be fitted too.
`docs/evaluation.md` says what the methods and levels are. `circular_error` (mean) and
`circular_median` are in degrees, less is better."""
METHODS = ("neurofmx", "untrained", "mean")
OURS = "evaluate.methods=[mean]"
ROW = ["recording", "task", "metric", "level", "method"]
PARTS = (
    "datasets",
    "params.yaml",
    "dvc.yaml",
    ".dvc",
    ".dvcignore",
    "neurofmx",
    "storage/README.md",
)


def run(
    dataset: str,
    folder: Path,
    kept: Path = RESULTS,
    name: str = "",
    last: str = "report",
    shots: dict[str, Any] | None = None,
    settings: Sequence[str] = (),
    **card: Any,
) -> None:
    """Run one data set in a copy of the project and keep its results.

    Args:
        kept: Folder that they go to.
        name: What they are called there, if not as the data set.
        last: Stage.
        shots: Settings of few-shot curves, which are then drawn and kept in place of results.
        settings: Of params.yaml in place of its own, as `neurofmx run -S` takes them.
        card: Fields of the card in place of its own.
    """
    project = copied(folder)
    path = project / "datasets" / f"{dataset}.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | card, sort_keys=False))
    command(project, "run", "--dataset", dataset, "--until", last, *chosen(settings))
    results = Path("evaluate", "results.csv")
    if shots is not None:
        (project / "shots.yaml").write_text(yaml.safe_dump(shots))
        command(project, "few-shot", "shots.yaml")
        results = Path("few_shot", dataset, "curves.csv")
    keep(project, results, kept, name or dataset)


def copied(folder: Path) -> Path:
    """A copy of the project in a folder, with the data beside it and nothing in its storage."""
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
    return project


def keep(project: Path, results: Path, kept: Path, name: str) -> None:
    """Keep a table of a project's storage, and what each stage cost."""
    storage = project / "storage"
    kept.mkdir(exist_ok=True)
    shutil.copy(storage / results, kept / f"{name}.csv")
    cost = {
        path.parent.name: {
            k: json.loads(path.read_text())[k] for k in ("seconds", "peak_memory_mb")
        }
        for path in storage.glob("*/metrics.json")
    }
    told = json.dumps(cost, indent=1, sort_keys=True) + "\n"
    (kept / f"{name}-cost.json").write_text(told)


def kept_of_others(before: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
    """The rows of now, and those of other methods that were fitted before to what is asked now.

    Raises:
        SystemExit: The train mean has another score than before, so windows are others.
    """
    columns = [*now.columns]
    before, now = before.set_index(ROW), now.set_index(ROW)
    mean = now[now.index.get_level_values("method") == "mean"]
    same = np.isclose(before["value"].reindex(mean.index), mean["value"], atol=1e-5, equal_nan=True)
    if not same.all():
        raise SystemExit(
            f"{mean.index[~same][0]} is told by the mean otherwise than before: what is asked has "
            "changed, so run it without --ours"
        )
    again = set(now.index.get_level_values("method"))
    asked = set(now.index.droplevel("method"))
    others = [row for row in before.index if row[-1] not in again and row[:-1] in asked]
    return pd.concat([now, before.loc[others]]).reset_index()[columns]


def chosen(settings: Sequence[str]) -> list[str]:
    """Settings as `neurofmx run` takes them."""
    return [part for setting in settings for part in ("-S", setting)]


def command(project: Path, *given: str) -> None:
    """Run our command there."""
    environment = os.environ | {"PYTHONPATH": str(project)}
    command = [sys.executable, "-m", "neurofmx", *given]
    subprocess.run(command, cwd=project, env=environment, check=True)


def table() -> str:
    """Median over recordings of every kept data set, as Markdown."""
    rows = []
    for dataset in DATASETS:
        if not (RESULTS / f"{dataset}.csv").exists():
            continue
        results = pd.read_csv(RESULTS / f"{dataset}.csv")
        cost = json.loads((RESULTS / f"{dataset}-cost.json").read_text())
        seconds = sum(cost[stage]["seconds"] for stage in ("pretrain", "adapt"))
        judged = reached(results)
        for (task, level, metric), found in _medians(results).items():
            if metric == "bits_per_spike":
                continue
            cells = [f"{found[m]:.2f}" if m in found else "" for m in METHODS]
            best = best_other(found, metric)
            other = f"{found[best]:.2f} ({best})" if best else ""
            rows.append(
                f"| {dataset} | {task}, {metric} | {level} | **{cells[0]}** | {other} | "
                f"{('no', 'yes')[judged[task, level, metric]] if best else ''} | "
                f"{cells[1]} | {cells[2]} | {seconds:.0f} s |"
            )
    columns = ("data set", "task, metric", "level (recordings)", "NeuroFM-X", "best other")
    columns += ("reached", "untrained", "chance", "trained in")
    head = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    yes = sum("| yes |" in row for row in rows)
    about = (
        f"The best other method is reached where our 95 % interval (of several recordings that of "
        f"their mean) holds or is above what it has: in {yes} of {len(rows)} rows."
    )
    return "\n".join([*head, *rows, "", about])


def reached(results: pd.DataFrame) -> dict[tuple[str, str, str], bool]:
    """Whether our interval, of several recordings that of their mean, reaches the best other."""
    found = {}
    results = results[results["metric"].isin(MAIN)]
    for (task, level, metric), part in results.groupby(["task", "level", "metric"]):
        together = part["recording"] == OVERALL
        n = part[~together]["recording"].nunique()
        rows = part[together if together.any() else ~together].set_index("method")
        value, ours = rows["value"], rows.loc[METHODS[0]]
        if (best := best_other(value, metric)) is None:
            continue
        less = metric in METRICS and METRICS[metric].is_error
        end = ours["low" if less else "high"]
        end = ours["value"] if pd.isna(end) else end  # too few blocks for an interval
        reach = end <= value[best] if less else end >= value[best]
        found[task, f"{level} ({n})", metric] = bool(reach)
    return found


def page() -> str:
    """Every kept data set: each task's main score by every method, as Markdown."""
    parts = [HEAD]
    for dataset in DATASETS:
        path = RESULTS / f"{dataset}.csv"
        if path.exists():
            results = pd.read_csv(path)
            single = results[(results["recording"] != OVERALL) & results["metric"].isin(MAIN)]
            card = yaml.safe_load((ROOT / "datasets" / f"{dataset}.yaml").read_text())
            made_up = " (SYNTHETIC data)" if card.get("synthetic") else ""
            parts.append(f"## {dataset}{made_up}\n\n{card['title']}.\n\n{_methods(single)}")
    return "\n\n".join([*parts, *_together(), *_folds(), *_curves()]) + "\n"


def _together() -> list[str]:
    """A part for the model of all data sets, beside those of one each, where it is kept."""
    columns = ("data set", "task, metric", "level (recordings)", "together", "alone", "best other")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for dataset in DATASETS:
        paths = [folder / f"{dataset}.csv" for folder in (TOGETHER, RESULTS)]
        if not all(path.exists() for path in paths):
            continue
        both, alone = (_medians(pd.read_csv(path)) for path in paths)
        for task, level, metric in (key for key in both if key in alone):
            found = [told[task, level, metric] for told in (both, alone)]
            cells = [f"{x[METHODS[0]]:.3f}" for x in found]
            best = best_other(found[-1], metric)
            cells.append(f"{found[-1][best]:.3f} ({best})" if best else "")
            lines.append(f"| {dataset} | {task}, {metric} | {level} | {' | '.join(cells)} |")
    about = (
        "`together` is a model that was pretrained on all sets and has then gone on with this one "
        "(`python benchmarks/together.py`); `alone` is the control, from initial weights, which "
        "saw this set for as long as the other went on with it. Medians over recordings."
    )
    return [f"## One model of all data sets\n\n{about}\n\n" + "\n".join(lines)] * (len(lines) > 2)


def _medians(results: pd.DataFrame) -> dict[tuple[str, str, str], pd.Series]:
    """Median over recordings by method, of each task, level (and their number) and metric."""
    results = results[(results["recording"] != OVERALL) & results["metric"].isin(MAIN)]
    return {
        (task, f"{level} ({group['recording'].nunique()})", metric): group.groupby("method")[
            "value"
        ].median()
        for (task, level, metric), group in results.groupby(["task", "level", "metric"])
    }


def _folds() -> list[str]:
    """A part for each data set of which folds are kept, their tested recordings together."""
    parts, found = [], {}
    for path in sorted(FOLDS.glob("*.csv")):
        dataset, fold = path.stem.split("-", 1)
        found.setdefault(dataset, {})[fold] = pd.read_csv(path)
    for dataset, folds in found.items():
        results = pd.concat(folds.values())
        single = results[(results["recording"] != OVERALL) & results["metric"].isin(MAIN)]
        about = f"Held out in turn (`python benchmarks/folds.py {dataset}`): {', '.join(folds)}."
        parts.append(f"## {dataset}, folds\n\n{about}\n\n{_methods(single)}")
    return parts


def _curves() -> list[str]:
    """A part for each data set of which few-shot curves are kept."""
    parts = []
    kept: dict[str, list[pd.DataFrame]] = {}
    for path in sorted(CURVES.glob("*.csv")):
        kept.setdefault(path.stem.split("-")[0], []).append(pd.read_csv(path))
    for dataset, tables in kept.items():
        curves = pd.concat(tables)
        about = (
            "Labelled shots of recordings that pretraining never saw: mean over recordings and "
            f"draws, lowest and highest (`python benchmarks/folds.py --shots {dataset}`). "
            "`scratch` is the same model without pretraining, `zero_shot` is pretrained and has "
            "seen none; `docs/evaluation.md` says what the others are."
        )
        head = "| task, metric | shots | method | mean | lowest to highest | seconds | fits |"
        lines = [head, "|---|---|---|---|---|---|---|"]
        by = ["task", "metric", "shots", "method"]
        for (task, metric, shots, method), rows in curves.groupby(by, sort=False):
            value, seconds = rows["value"], rows["seconds"].median()
            lines.append(
                f"| {task}, {metric} | {shots} | {method} | {value.mean():.3f} "
                f"| {value.min():.3f} to {value.max():.3f} | {seconds:.3g} | {len(rows)} |"
            )
        parts.append(f"## {dataset}, few shots\n\n{about}\n\n" + "\n".join(lines))
    return parts


def _methods(results: pd.DataFrame) -> str:
    head = "| task, metric | level (recordings) | method | median | lowest to highest "
    lines = [head + "| seconds | parameters |", "|---|---|---|---|---|---|---|"]
    for (task, level, metric), group in results.groupby(["task", "level", "metric"], sort=False):
        for method, rows in group.groupby("method", sort=False):
            if method == SHIFTED:
                continue
            value = rows["value"].dropna()
            span = f"{value.min():.3f} to {value.max():.3f}"
            if len(rows) == 1:
                low, high = rows["low"].iloc[0], rows["high"].iloc[0]
                span = f"[{low:.3f}, {high:.3f}]" if pd.notna(low) else ""
            name = f"**{method}**" if method == METHODS[0] else method
            lines.append(
                f"| {task}, {metric} | {level} ({len(rows)}) | {name} | {value.median():.3f} "
                f"| {span} | {rows['seconds'].median():.3g} | {rows['parameters'].max()} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("datasets", nargs="*", default=DATASETS)
    parser.add_argument("-S", dest="settings", action="append", default=[], help="key=value")
    parser.add_argument("--ours", action="store_true", help="keep the rows of other methods")
    parser.add_argument("--tables", action="store_true", help="make the tables anew, run nothing")
    RESULTS.mkdir(exist_ok=True)
    given = parser.parse_args()
    for dataset in [] if given.tables else given.datasets:
        path = RESULTS / f"{dataset}.csv"
        before = pd.read_csv(path) if given.ours else None
        with tempfile.TemporaryDirectory() as folder:
            run(dataset, Path(folder), settings=[*given.settings, *[OURS] * given.ours])
        if before is not None:
            kept_of_others(before, pd.read_csv(path)).to_csv(path, index=False)
    put_between(MARKS, table())
    (ROOT / "docs" / "results.md").write_text(page())


if __name__ == "__main__":
    main()
