"""Tables of the report, as the template shows them."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

OURS = "neurofmx"
TITLES = {"r2": "Regression", "circular_error": "Angles"}  # of what is scored by other than classes


def render(**content: Any) -> str:
    """The page, with plotly in it once and nothing from elsewhere."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    figures = {name: Markup(part) for name, part in content.pop("figures").items()}
    page = environment.get_template("report.html.j2")
    return page.render(plotly=Markup(get_plotlyjs()), figures=figures, **content)


def main_figures(results: pd.DataFrame) -> pd.DataFrame:
    """Without the rows of single dimensions."""
    return results[~results["metric"].str.contains("[", regex=False)]


def results_tables(results: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Rows of the main figures by kind of metric, a column per method, ours first."""
    tables = {}
    rows = main_figures(results)
    titles = rows["metric"].map(lambda metric: TITLES.get(metric, "Classification"))
    for title, chosen in rows.groupby(titles, sort=False):
        by_place: dict[tuple, dict[str, Any]] = _medians(chosen)
        for row in chosen.itertuples():
            place = (row.task, row.recording, row.level, row.metric)
            by_place.setdefault(place, {})[row.method] = _figure(row)
        names = ("task", "recording", "level", "metric")
        tables[str(title)] = {
            "methods": list(dict.fromkeys(chosen["method"])),
            "rows": [
                dict(zip(names, place, strict=True)) | {"by": by} for place, by in by_place.items()
            ],
        }
    return tables


def _medians(rows: pd.DataFrame) -> dict[tuple, dict[str, Any]]:
    """Of each method, the median over the recordings of a level, where there are several."""
    found: dict[tuple, dict[str, Any]] = {}
    for (task, level, metric), part in rows.groupby(["task", "level", "metric"], sort=False):
        n = part["recording"].nunique()
        for method, value in part.groupby("method")["value"].median().items() if n > 1 else ():
            shown = {"value": f"{value:.3f}", "interval": ""}
            found.setdefault((task, f"median of {n}", level, metric), {})[method] = shown
    return found


def _figure(row: Any) -> dict[str, str]:
    interval = f"[{row.low:.3f}, {row.high:.3f}]" if pd.notna(row.low) else ""
    return {"value": f"{row.value:.3f}", "interval": interval}


def compared(results: pd.DataFrame, errors: Collection[str] = ()) -> list[str]:
    """For each task, in how many recordings a simple method is better than ours.

    Args:
        errors: Metrics of which less is better.
    """
    lines = []
    for (task, metric), rows in main_figures(results).groupby(["task", "metric"], sort=False):
        wide = rows.pivot(index="recording", columns="method", values="value")
        for method in [name for name in wide if name not in (OURS, "shifted", "mean")]:
            gain = wide[method] - wide[OURS]
            better = int(((-gain if metric in errors else gain) >= 0).sum())
            if better:
                lines.append(
                    f"{task}: {method} is as good as ours or better by {metric} in {better} of "
                    f"{len(wide)} recordings."
                )
    return lines


def tuning_rows(scores: pd.DataFrame) -> list[list[str]]:
    """Per kind and recording: how many were tested and tuned, and how well."""
    rows = []
    for (kind, recording), part in scores.groupby(["kind", "recording"], sort=False):
        best = part.groupby("unit").agg(r2=("r2", "max"), q=("q", "min"))
        tuned = int((best["q"] < 0.05).sum())
        shown = (f"{best['r2'].median():.3f}", f"{best['r2'].max():.3f}")
        rows.append([kind, recording, str(len(best)), str(tuned), *shown])
    return rows


def warning_rows(warnings: dict[str, list[str]]) -> list[list[str]]:
    """Per check: how often it warned, and one of its warnings."""
    found: dict[str, list[str]] = {}
    for recording, lines in warnings.items():
        for line in lines:
            found.setdefault(line.partition(":")[0], []).append(f"{recording}: {line}")
    return [[check, lines[0], str(len(lines))] for check, lines in sorted(found.items())]
