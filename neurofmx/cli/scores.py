"""Commands about how well models do: few shots, revisions, seeds, and a search."""

import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from neurofmx import project, results
from neurofmx.cli.shown import console
from neurofmx.config import PARAMS_FILE, build, read_yaml
from neurofmx.errors import UserError


def few_shot(
    settings: Annotated[
        Path | None, typer.Argument(help="YAML file of shots, draws, methods and so on.")
    ] = None,
    recordings: Annotated[
        list[str] | None, typer.Option("--recording", help="Repeatable; else the card's adapt.")
    ] = None,
) -> None:
    """Draw curves of scores over labelled shots, for recordings that pretraining never saw."""
    content = read_yaml(settings) if settings else {}
    os.chdir(project.find_root(Path.cwd()))
    from neurofmx.evaluation.curves import curves  # late: torch takes seconds
    from neurofmx.evaluation.few_shot import FewShotEvaluator, FewShotParams
    from neurofmx.models import NeuroFMX

    params = build(FewShotParams, content, str(settings or "few-shot"))
    card = project.chosen_card()
    chosen = recordings or card.adapt
    if not chosen:
        raise UserError(
            f"the card {card.name} keeps no recording out of pretraining (`adapt`), so there is "
            "none to draw few shots from; name some there and run the pipeline until pretrain"
        )
    model = NeuroFMX.from_pretrained(project.STORAGE / "pretrain")
    folder = project.STORAGE / "few_shot" / card.name
    table = curves(
        FewShotEvaluator(model, card, project.STORAGE, params), chosen, folder, console.print
    )
    shown = table.groupby(["task", "metric", "method", "shots"])["value"].agg(["mean", "size"])
    for (task, metric, method, shots), row in shown.iterrows():
        console.print(
            f"{task}  {metric}  {method}, {shots} shots: {row['mean']:.3f} ({row['size']:.0f})"
        )
    console.print(f"Table and curves: {folder.resolve()}")


def compare(
    a: Annotated[str, typer.Argument(help="Branch, tag, commit, experiment or CSV file.")] = "HEAD",
    b: Annotated[str, typer.Argument(help="The same; workspace is what lies here.")] = "workspace",
    method: Annotated[
        list[str] | None, typer.Option(help="Rows of these methods; repeatable. Else of ours.")
    ] = None,
    rows: Annotated[int, typer.Option(help="Shown at most; the file has all.")] = 30,
    out: Annotated[Path | None, typer.Option(help="CSV file for the whole table.")] = None,
) -> None:
    """Compare the results of two revisions, figure by figure."""
    out = out.resolve() if out else None
    tables = _results_of([a, b])
    from neurofmx.evaluation.revisions import compare as compared  # late: torch takes seconds

    wanted = method or [project.OURS]
    found = compared(*(table[table["method"].isin(wanted)] for table in tables))
    console.print(results.comparison_table(found, (a, b), rows))
    shown = min(rows, len(found.table))
    console.print(
        f"{shown} of {len(found.table)} figures that both have; {found.only_a} are in {a} alone, "
        f"{found.only_b} in {b} alone. Intervals hold no spread over training seeds."
    )
    if out:
        found.table.to_csv(out, index=False)
        console.print(f"Whole table: {out}")


def seeds(
    runs: Annotated[
        list[str], typer.Argument(help="Branches, tags, commits, experiments or CSV files.")
    ],
    method: Annotated[
        list[str] | None, typer.Option(help="Rows of these methods; repeatable. Else of all.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="CSV file for the whole table.")] = None,
) -> None:
    """Tell the spread of results over seeds from that over recordings."""
    out = out.resolve() if out else None
    tables = _results_of(runs)
    from neurofmx.evaluation.seeds import spread_over_seeds  # late, as above

    found = spread_over_seeds(dict(zip(runs, tables, strict=True)))
    if method:
        found = found[found["method"].isin(method)]
    console.print(results.seeds_table(found, runs))
    if out:
        found.to_csv(out, index=False)
        console.print(f"Whole table: {out}")


def _results_of(revisions: list[str]) -> list[Any]:
    """Tables of results; files are sought from the working folder, which becomes the root."""
    files = [str(Path(x).resolve()) if Path(x).is_file() else x for x in revisions]
    os.chdir(project.find_root(Path.cwd()))
    import io

    import pandas as pd  # late, as above

    return [pd.read_csv(io.StringIO(results.read_at(x))) for x in files]


def search(
    space: Annotated[Path, typer.Argument(help="YAML file of the keys, see docs/search.md.")],
    name: Annotated[
        str | None, typer.Option(help="Of the folder in storage/search; else the file's.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster; else this machine.")
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the best keys into params.yaml.")
    ] = False,
) -> None:
    """Search for parameters of pretraining with Ray Tune; run again, it goes on."""
    space = space.resolve()
    os.chdir(project.find_root(Path.cwd()))
    from neurofmx.search.picture import draw  # late: Ray and torch take seconds
    from neurofmx.search.run import search as run_search
    from neurofmx.search.space import SearchParams, text

    params = build(SearchParams, read_yaml(space), str(space))
    folder = project.STORAGE / "search" / (name or space.stem)
    trials = run_search(params, folder, address)
    if not trials.ranking:
        raise UserError(f"no trial came to its end: {next(iter(trials.all.values())).reason}")
    best = trials.ranking[0]
    draw(trials, folder / "plot.html")
    console.print(f"Best: {best.folder.name}, valid loss {trials.loss(best):.4f}")
    console.print(f"Table, plot and patch: {folder.resolve()}")
    assignments = [f"{key}={text(value)}" for key, value in best.keys.items()]
    if apply:
        for change in project.set_params(assignments):
            console.print(f"{PARAMS_FILE}: {escape(change)}")
    else:
        words = " ".join(f"-S {shlex.quote(assignment)}" for assignment in assignments)
        console.print(f"To take it: neurofmx run {escape(words)}")
