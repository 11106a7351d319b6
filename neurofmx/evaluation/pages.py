"""The table of results as other programs, readers and papers take it.

results.json    all rows, in the order of results.csv; undefined numbers are null
results.html    a page by itself: the main figures, with what each cost and how it is made again
results.tex     a tabular (booktabs) for each task and main metric
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from neurofmx.data.cards import Card
from neurofmx.evaluation.levels import LEVELS
from neurofmx.evaluation.metrics import MAIN, METRICS
from neurofmx.evaluation.table import OVERALL, SHIFTED

OURS = "neurofmx"
CONTROLS = ("zero_shot", "probe", "untrained", "mean")  # beside ours, but no other method
SPIKES = "bits_per_spike"  # by which answers to what is told of spikes are scored
SHOWN = (*MAIN.values(), SPIKES)
ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        **{char: f"\\{char}" for char in "&%$#_{}"},
    }
)


def pages(results: pd.DataFrame, card: Card) -> dict[str, str]:
    """File name → its text.

    Args:
        results: Rows of results.csv.
    """
    return {
        "results.json": as_json(results),
        "results.html": as_html(results, card),
        "results.tex": as_latex(results, card),
    }


def as_json(results: pd.DataFrame) -> str:
    """An array with an object for each row, on a line of its own."""
    rows = [
        json.dumps({name: _plain(value) for name, value in row.items()}, ensure_ascii=False)
        for row in results.to_dict("records")
    ]
    return "[\n" + ",\n".join(rows) + "\n]\n"


def _plain(value: Any) -> Any:
    """As in results.csv: six digits, and nothing where a number is undefined."""
    if not isinstance(value, float):
        return value
    return None if pd.isna(value) else float(f"{value:.6g}")


def as_html(results: pd.DataFrame, card: Card) -> str:
    """One page with nothing from elsewhere."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    sections = [
        {"task": task, "metric": metric, "variant": variant(metric), "rows": _cells(rows, metric)}
        for task, metric, rows in _groups(results)
    ]
    levels = {name: about for name, about in LEVELS.items() if name in set(results["level"])}
    page = environment.get_template("results.html.j2")
    return page.render(card=card, sections=sections, levels=levels)


def _groups(results: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Rows of the main figures by task and metric."""
    main = results[results["metric"].isin(SHOWN)]
    for (task, metric), rows in main.groupby(["task", "metric"], sort=False):
        yield str(task), str(metric), rows


def variant(metric: str) -> str:
    """What a figure of results.csv is exactly."""
    if metric == SPIKES:
        return "log-likelihood gained over each unit's mean rate, in bits per spike"
    return METRICS[metric].variant


def best_other(figures: "pd.Series[float]", metric: str) -> Any:
    """Label of the best figure that is neither ours nor a control's, None where there is none.

    Args:
        figures: Indexed by method last.
    """
    methods = figures.index.get_level_values(-1)
    others = figures[~methods.isin((OURS, SHIFTED, *CONTROLS))].dropna()
    if others.empty:
        return None
    less = metric in METRICS and METRICS[metric].is_error
    return others.idxmin() if less else others.idxmax()


def _cells(rows: pd.DataFrame, metric: str) -> list[dict[str, Any]]:
    """A row of the page for each recording and method, recordings in their order."""
    cells = []
    single = rows[rows["recording"] != OVERALL].groupby("level")["recording"].nunique()
    for (level, recording), part in rows.groupby(["level", "recording"], sort=False):
        best = best_other(part.set_index("method")["value"], metric)
        place = f"mean of {single[level]}" if recording == OVERALL else recording
        for row in part.itertuples():
            cells.append(
                {
                    "recording": place,
                    "level": level,
                    "method": row.method,
                    "value": f"{row.value:.3f}" if pd.notna(row.value) else "undefined",
                    "interval": _interval(row.low, row.high),
                    "seconds": f"{row.seconds:.3g}",
                    "parameters": f"{row.parameters:,}",
                    "command": row.command,
                    "ours": row.method == OURS,
                    "best": row.method == best,
                }
            )
    return cells


def _interval(low: float, high: float) -> str:
    return f"[{low:.3f}, {high:.3f}]" if pd.notna(low) and pd.notna(high) else ""


def as_latex(results: pd.DataFrame, card: Card) -> str:
    """Tabulars to be copied one by one, above each row the command that makes its figure again.

    Of several recordings it is the median, with the lowest and highest; of one its interval.
    """
    synthetic = "SYNTHETIC data. " if card.synthetic else ""
    about = f"{card.name}. {synthetic}Needs booktabs. Bold: ours; underlined: the best other."
    single = results[results["recording"] != OVERALL]
    tables = [_tabular(task, metric, rows) for task, metric, rows in _groups(single)]
    return "\n".join([f"% {_line(about)}\n", *tables])


def _tabular(task: str, metric: str, rows: pd.DataFrame) -> str:
    medians = rows.groupby(["level", "method"], sort=False)["value"].median()
    best = [best_other(part, metric) for _, part in medians.groupby("level", sort=False)]
    lines = [
        f"% {_line(task)}: {_line(variant(metric))}",
        r"\begin{tabular}{llrr}",
        r"\toprule",
        rf"method & held out & recordings & {_escaped(metric)} \\",
        r"\midrule",
    ]
    for (level, method), part in rows.groupby(["level", "method"], sort=False):
        style = r"\textbf" if method == OURS else r"\underline" if (level, method) in best else ""
        cells = (_styled(_escaped(str(method)), style), _escaped(str(level)), str(len(part)))
        lines.append(f"% {_line(part['command'].iloc[0])}")
        lines.append(rf"{' & '.join(cells)} & {_styled(_figure(part), style)} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _figure(rows: pd.DataFrame) -> str:
    values = rows["value"].dropna()
    if values.empty:
        return "undefined"
    if len(rows) == 1:
        row = rows.iloc[0]
        return f"{row['value']:.3f} {_interval(row['low'], row['high'])}".strip()
    return f"{values.median():.3f} ({values.min():.3f} to {values.max():.3f})"


def _styled(text: str, style: str) -> str:
    return f"{style}{{{text}}}" if style else text


def _escaped(text: str) -> str:
    return text.translate(ESCAPES)


def _line(text: str) -> str:
    """On one line, so that all of it is behind the comment's %."""
    return " ".join(text.splitlines())
