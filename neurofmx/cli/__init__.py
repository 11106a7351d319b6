"""The command line: a command for each stage, and what a person needs around them.

A failure that a person can mend ends in a message and the exit code of its kind (2 user, 3 data,
75 transient); any other exception keeps its traceback. A stage that fails leaves its exit code in
`storage/error.json`, because `dvc repro` swallows the exit code of its command.
"""

import ast
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

import neurofmx
from neurofmx import project, results
from neurofmx.cli import benchmarks, files, scores
from neurofmx.cli.shown import console, stderr
from neurofmx.config import PARAMS_FILE, load_params
from neurofmx.data.manifests import load_manifest
from neurofmx.errors import NeuroFMXError, TransientError, UserError, is_transient
from neurofmx.stages import STAGES

app = typer.Typer(
    name="neurofmx",
    help=neurofmx.__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run a command; a failure that its user can mend is a message, never a traceback."""
    for name, value in project.NO_TELEMETRY.items():
        os.environ.setdefault(name, value)
    try:
        with mendable():
            app()
    except NeuroFMXError as error:
        stderr.print(f"[red]error:[/] {escape(str(error))}")
        sys.exit(error.exit_code)


@contextmanager
def mendable() -> Iterator[None]:
    """Turn a full disk, a lost connection and the like into a `TransientError`."""
    try:
        yield
    except (OSError, MemoryError) as error:
        if not is_transient(error):
            raise
        raise TransientError(
            f"{error or 'out of memory'}. What was finished is kept; free space or memory or wait, "
            "then run the same command again."
        ) from error


@contextmanager
def _error_file(stage: str) -> Iterator[None]:
    """Leave `storage/error.json` unless the stage ends well.

    It is there from the start: a killed stage leaves it too, and a full disk, which takes no new
    file, still takes the few bytes that change.
    """
    path = project.ERROR_FILE
    path.parent.mkdir(exist_ok=True)
    _write_error(path, "w", 1, f"{stage} was killed, or ended in a traceback")
    try:
        yield
    except NeuroFMXError as error:
        _write_error(path, "r+", error.exit_code, str(error))
        raise
    path.unlink()


def _write_error(path: Path, mode: str, exit_code: int, message: str) -> None:
    with path.open(mode) as file:
        json.dump({"exit_code": exit_code, "message": message[:2000]}, file)
        file.truncate()


def _stage_command(stage: str) -> Callable[[], None]:
    def command() -> None:
        os.chdir(project.find_root(Path.cwd()))
        with _error_file(stage), mendable():
            module = import_module(f"neurofmx.stages.{stage}")
            module.run(load_params(stage, module.Params))

    return command


def _help(stage: str) -> str:
    """What the stage's docstring says, without importing it (torch takes seconds)."""
    path = Path(neurofmx.stages.__file__).with_name(f"{stage}.py")
    source = path.read_text()
    docstring = ast.get_docstring(ast.parse(source)) or ""
    return docstring.partition("\n")[0].removeprefix(f"{stage}: ")


for _stage in STAGES:
    app.command(_stage, help=_help(_stage), rich_help_panel="Stages")(_stage_command(_stage))


@app.command()
def run(
    dataset: Annotated[str | None, typer.Option(help="Name of a card in datasets/.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("-S", metavar="SECTION.KEY=VALUE", help="Change a parameter; repeatable."),
    ] = None,
    until: Annotated[str | None, typer.Option(help=f"Last stage: {', '.join(STAGES)}.")] = None,
) -> None:
    """Run the pipeline: what is stale is computed, then the results and what moved are shown."""
    if until not in (None, *STAGES):
        raise UserError(f"--until {until}: no such stage; choose from {', '.join(STAGES)}")
    os.chdir(project.find_root(Path.cwd()))
    chosen = [f"dataset={dataset}"] if dataset else []
    for change in project.set_params([*chosen, *(changes or [])]):
        console.print(f"{PARAMS_FILE}: {escape(change)}")
    card = project.chosen_card()
    load_manifest(card)  # DVC only says that a file is absent
    scored = until is None or STAGES.index(until) >= STAGES.index("evaluate")
    before = results.read_earlier() if scored else None
    code = project.reproduce(until)
    if code:
        raise typer.Exit(code)
    if scored:
        console.print(project.results_table(card))
        for line in results.movement(before):
            console.print(escape(line))
    if until in (None, "report"):
        console.print(f"Report: {project.REPORT.resolve()}")


for _command in (
    *(scores.few_shot, scores.compare, scores.seeds, scores.search),
    *(files.inspect, files.card, files.resolve, files.compress, files.export),
    *(benchmarks.falcon, benchmarks.moabb),
):
    app.command()(_command)
app.add_typer(benchmarks.nlb, name="nlb")


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Show it.")] = False) -> None:
    if version:
        console.print(f"neurofmx {neurofmx.__version__}")
        raise typer.Exit
