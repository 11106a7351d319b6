"""The command line: a command for each stage, and what a person needs around them.

A failure that a person can mend ends in a message and the exit code of its kind (2 user, 3 data,
75 transient); any other exception keeps its traceback. A stage that fails leaves its exit code in
`storage/error.json`, because `dvc repro` swallows the exit code of its command.
"""

import ast
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

import neurofmx
from neurofmx import project, results
from neurofmx.config import PARAMS_FILE, build, load_params, read_yaml
from neurofmx.data.cards import FOLDER, load_card, save_card
from neurofmx.data.manifests import load_manifest
from neurofmx.errors import NeuroFMXError, TransientError, UserError, is_transient
from neurofmx.stages import STAGES

WIDTH = None if sys.stdout.isatty() else 120  # columns of a table in a log
console = Console(highlight=False, soft_wrap=True, width=WIDTH)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
def inspect(
    path: Annotated[
        str,
        typer.Argument(help="A recording's file, a folder or URL of shards, or a model's folder."),
    ],
    window: Annotated[str | None, typer.Option(help="Of shards: key of the one to draw.")] = None,
    html: Annotated[Path, typer.Option(help="Of shards: where it is drawn.")] = Path("window.html"),
) -> None:
    """Show what is in a recording's file, in shards such as storage/tokenize, or in a model.

    Of shards one window is drawn, the first of the train split unless another is named.
    """
    if "://" in path or (Path(path) / "index.parquet").exists():
        _inspect_shards(path, window, html)
        return
    if window is not None:
        raise UserError(f"--window {window}: {path} holds no shards, and so no windows")
    if (Path(path) / "config.json").exists():
        _inspect_model(path)
        return
    from neurofmx.data.describe import describe  # late: pynwb takes a second

    console.print(describe(Path(path)))


def _inspect_model(folder: str) -> None:
    from neurofmx.models import NeuroFMX, checkpoint  # late, as above

    model = NeuroFMX.from_pretrained(folder)
    table = Table("part", "kind", "parameters", "share", title=folder, title_justify="left")
    for part, kind, parameters, share in checkpoint.parameter_table(model):
        table.add_row(part, kind, f"{parameters:,}", f"{share:.1%}")
    table.add_row("whole", type(model).__name__, f"{model.num_parameters():,}", "", style="bold")
    console.print(table)
    for name, known in model.vocabulary.items():
        console.print(f"{name}: {len(known.keys)} units or channels, {len(known.regions)} regions")


def _inspect_shards(folder: str, window: str | None, html: Path) -> None:
    from neurofmx.data import contents  # late, as above
    from neurofmx.data.shards import Shards

    shards = Shards(folder)
    sample = shards[contents.find(shards, window)]
    console.print(contents.describe(shards, sample))
    from neurofmx.interpretability.window import draw  # later still: it takes seconds

    html.parent.mkdir(parents=True, exist_ok=True)
    draw(sample, shards).write_html(html)
    console.print(f"Window {sample.key} is drawn in {html.resolve()}")


@app.command()
def card(
    path: Annotated[Path, typer.Argument(help="A recording's file, or a folder of them.")],
    name: Annotated[str, typer.Option(help="The card becomes datasets/NAME.yaml.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite the card.")] = False,
) -> None:
    """Write a dataset card from recordings, for a person to edit, and pin their files."""
    root = project.find_root(Path.cwd())
    if not path.is_absolute():
        path = Path(os.path.relpath(path, root))
    os.chdir(root)
    target = FOLDER / f"{name}.yaml"
    if target.exists() and not force:
        raise UserError(f"{target} exists and may hold a person's edits; --force overwrites it")
    from neurofmx.data import manifests  # late, as above
    from neurofmx.data.suggest import suggest

    made = suggest(path, name)
    manifests.save_manifest(manifests.resolve(made))
    console.print(
        f"Wrote {save_card(made)}: {len(made.signals)} signals, tasks {', '.join(made.tasks)}.\n"
        "Edit it: the modality of each signal and whether it is an input, the tasks, windows and "
        f"split, the licence.\nThen: neurofmx run --dataset {name}"
    )


@app.command()
def resolve(dataset: Annotated[str, typer.Argument(help="Name of a card in datasets/.")]) -> None:
    """Find the files of a data set and pin them in datasets/manifests/, to be committed."""
    os.chdir(project.find_root(Path.cwd()))
    from neurofmx.data import manifests  # late, as above

    made, path = load_card(dataset), manifests.FOLDER / f"{dataset}.json"
    old = manifests.read_manifest(path) if path.exists() else None
    new = manifests.resolve(made)
    manifests.save_manifest(new)
    for change in manifests.changes(old, new):
        console.print(f"  {escape(change)}")
    version = f" of version {new.version}" if new.version else ""
    size = sum(asset.size for asset in new.assets) / 1e6
    console.print(f"{path}: {len(new.assets)} files{version}, {size:,.1f} MB")


@app.command()
def compress(
    model: Annotated[Path, typer.Argument(help="Folder of a model, such as storage/pretrain.")],
    out: Annotated[Path, typer.Option(help="Folder that the smaller one is written to.")],
    int8: Annotated[bool, typer.Option("--int8", help="Weights of 8 bits, for a CPU.")] = False,
    prune: Annotated[
        float | None, typer.Option(help="Share of the weights, the least, to set to 0.")
    ] = None,
) -> None:
    """Make a pretrained model smaller; both at once will do.

    A smaller size that learns from a larger one is trained: see pretrain.teacher in params.yaml.
    """
    if not int8 and prune is None:
        raise UserError("nothing to do: give --int8, --prune SHARE, or both")
    if prune is not None and not 0 < prune < 1:
        raise UserError(f"--prune {prune}: give a share between 0 and 1")
    if out.resolve() == model.resolve():
        raise UserError(f"--out {out} is the model's own folder, which stays as it is")
    import torch  # late, as above

    from neurofmx.models import NeuroFMX, compress

    made = NeuroFMX.from_pretrained(model)
    made = made if prune is None else compress.prune(made, prune)
    weights = torch.cat([part.weight.flatten() for part in compress.linear_maps(made).values()])
    if int8:
        compress.save_int8(out, compress.quantise(made))
    else:
        made.save_pretrained(out)
    files = (out / (compress.WEIGHTS if int8 else "model.safetensors"), model / "model.safetensors")
    sizes = [f"{file}: {file.stat().st_size / 1e6:,.2f} MB" for file in files]
    zeros = f"{int((weights == 0).sum()):,} of {len(weights):,}"
    console.print(
        f"{sizes[0]} ({sizes[1]}); {zeros} weights of the linear maps of backbone and Perceiver "
        "are 0"
    )


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="Folder of a causal model.")],
    recording: Annotated[str, typer.Option(help="Whose channels come.")],
    out: Annotated[Path, typer.Option(help="Folder that the files are written to.")],
    shards: Annotated[str, typer.Option(help="That know the channels.")] = "storage/tokenize",
    signal: Annotated[list[str] | None, typer.Option(help="That comes, if not all do.")] = None,
) -> None:
    """Write a model's step in real time as files for onnxruntime and torch.export."""
    from neurofmx.serving import export_decoder  # late, as above

    console.print(escape(export_decoder(model, recording, out, shards, signal)))


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Show it.")] = False) -> None:
    if version:
        console.print(f"neurofmx {neurofmx.__version__}")
        raise typer.Exit


class _WriteUnlessNamed(TyperGroup):
    """A group whose command is `write` unless another is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = args[:1] == ["--help"] or (bool(args) and args[0] in self.commands)
        return super().parse_args(ctx, args if named else ["write", *args])


nlb = typer.Typer(help="Neural Latents Benchmark: a submission, or its score on the val part.")
app.add_typer(nlb, name="nlb", cls=_WriteUnlessNamed)


@nlb.command("write")
def nlb_write(
    dataset: Annotated[
        str | None, typer.Option(help="A card nlb_*; else that of params.yaml.")
    ] = None,
    bin_ms: Annotated[int, typer.Option(help="Width of a bin: 5 or 20.")] = 20,
    smoothed: Annotated[
        bool, typer.Option("--smoothed", help="Counts in place of features: the simple baseline.")
    ] = False,
    test: Annotated[Path | None, typer.Option(help="NWB file of the test part, to submit.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the two files.")] = Path("storage/nlb"),
) -> None:
    """Write rates as the Neural Latents Benchmark takes them, and the truth of its val part."""
    if bin_ms not in (5, 20):
        raise UserError(f"--bin-ms {bin_ms}: the benchmark takes 5 or 20")
    test = test.resolve() if test else None
    os.chdir(project.find_root(Path.cwd()))
    from neurofmx.evaluation.benchmarks import nlb as benchmark  # late: torch takes seconds

    card = load_card(dataset) if dataset else project.chosen_card()
    method: benchmark.Method = "smoothed" if smoothed else "neurofmx"
    run = benchmark.Run.of(card, project.STORAGE, method)
    for name, groups in zip(
        ("submission.h5", "truth.h5"),
        benchmark.submission(run, bin_ms / 1e3, method, test),
        strict=True,
    ):
        if groups:
            benchmark.save(out / name, groups)
            console.print(f"{out / name}: {', '.join(groups)}")


@nlb.command("score")
def nlb_score(
    file: Annotated[Path, typer.Argument(help="A submission.")],
    truth: Annotated[
        Path | None, typer.Option(help="Of the same trials; else truth.h5 beside it.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file for all scores.")] = None,
) -> None:
    """Score a submission as the benchmark does: co-bps, fp-bps, vel R2 and psth R2."""
    from neurofmx.evaluation.benchmarks import nlb as benchmark  # late, as above

    known = benchmark.load(truth or file.with_name("truth.h5"))
    found = benchmark.score(benchmark.load(file), known)
    table = Table("data set", "score", "value")
    for group, scores in found.items():
        for name, value in scores.items():
            if isinstance(value, float):
                table.add_row(group, name, f"{value:.4f}")
    console.print(table)
    if out:
        out.write_text(json.dumps(found, indent=1) + "\n")


@app.command()
def falcon(
    data: Annotated[Path, typer.Argument(help="Folder with h1, m1 or m2, and minival in it.")],
    card: Annotated[str | None, typer.Option(help="falcon_*; else that of params.yaml.")] = None,
    batch_size: Annotated[int, typer.Option(help="Files that are decoded side by side.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for answers.")] = Path("storage/falcon"),
) -> None:
    """Score a causal model by FALCON's own evaluator on its public files."""
    data = data.resolve()
    os.chdir(project.find_root(Path.cwd()))
    from neurofmx.evaluation.benchmarks import falcon as benchmark  # late, as above

    chosen = load_card(card) if card else project.chosen_card()
    sessions = benchmark.Sessions(chosen, project.STORAGE)
    scores = benchmark.evaluate(sessions, data, "minival", batch_size, out=out)
    for name, value in scores.items():
        console.print(f"{name}: {value:.4f}")


@app.command()
def moabb(
    datasets: Annotated[list[str], typer.Argument(help="Of moabb.datasets: BNCI2014_001, …")],
    paradigm: Annotated[str, typer.Option(help="Of moabb.paradigms.")] = "LeftRightImagery",
    rate: Annotated[float, typer.Option(help="That trials are resampled to (Hz).")] = 128.0,
    evaluation: Annotated[
        str, typer.Option(help="What is held out: within (trials), sessions or subjects.")
    ] = "within",
    model: Annotated[Path | None, typer.Option(help="Pretrained; else from scratch.")] = None,
    subjects: Annotated[int | None, typer.Option(help="First so many; else all.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the table.")] = Path("storage/moabb"),
) -> None:
    """Score our classifier beside CSP + LDA by MOABB's own evaluation; MOABB downloads the data."""
    from neurofmx.evaluation.benchmarks import moabb as benchmark  # late, as above

    table = benchmark.compare(datasets, paradigm, rate, evaluation, model, subjects, out)
    for name, scores in table.groupby("pipeline")["score"]:
        console.print(f"{name}: {scores.mean():.4f} ± {scores.std():.4f} over {len(scores)}")
    console.print(f"Whole table: {out / 'results.csv'}")
