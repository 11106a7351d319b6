"""Tables of the report, as the template shows them."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

OURS = "neurofmx"
OVERALL = "all"  # in place of a recording: all of one level together
SMALL = 5e-3  # figures below it are shown by their digits


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
    """Without the rows of single dimensions and of all recordings together."""
    single = ~results["metric"].str.contains("[", regex=False)
    return results[single & (results["recording"] != OVERALL)]


def results_tables(results: pd.DataFrame, titles: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Rows of the main figures by kind of metric, a column per method, ours first.

    Args:
        titles: Heading of the table that each metric stands in.
    """
    tables = {}
    rows, together = main_figures(results), results[results["recording"] == OVERALL]
    for title, chosen in rows.groupby(rows["metric"].map(titles), sort=False):
        by_place = _means(together[together["metric"].map(titles) == title], chosen)
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


def _means(together: pd.DataFrame, rows: pd.DataFrame) -> dict[tuple, dict[str, Any]]:
    """Of each method, the mean over the recordings of a level, where there are several."""
    n = rows.groupby(["task", "level", "metric"])["recording"].nunique()
    found: dict[tuple, dict[str, Any]] = {}
    for row in together.itertuples():
        place = f"mean of {n[row.task, row.level, row.metric]}"
        found.setdefault((row.task, place, row.level, row.metric), {})[row.method] = _figure(row)
    return found


def _figure(row: Any) -> dict[str, str]:
    interval = f"[{_number(row.low)}, {_number(row.high)}]" if pd.notna(row.low) else ""
    value = _number(row.value) if pd.notna(row.value) else "undefined"
    return {"value": value, "interval": interval}


def _number(value: float) -> str:
    """Three decimals; of a squared error in small units three digits."""
    return f"{value:.3f}" if value == 0 or abs(value) >= SMALL else f"{value:.2e}"


def compared(results: pd.DataFrame, errors: Collection[str] = ()) -> list[str]:
    """For each task, in how many recordings a simple method is better than ours.

    Args:
        errors: Metrics of which less is better.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for (task, metric), rows in main_figures(results).groupby(["task", "metric"], sort=False):
        wide = rows.pivot(index="recording", columns="method", values="value")
        for method in [name for name in wide if name not in (OURS, "shifted", "mean")]:
            gain = wide[method] - wide[OURS]
            better = int(((-gain if metric in errors else gain) >= 0).sum())
            if better:
                said = f"by {metric} in {better} of {len(wide)}"
                found.setdefault((str(task), str(method)), []).append(said)
    return [
        f"{task}: {method} is as good as ours or better {', '.join(said)} recordings."
        for (task, method), said in found.items()
    ]


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
