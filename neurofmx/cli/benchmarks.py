"""Commands that score by others' benchmarks."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from typer.core import TyperGroup

from neurofmx import project
from neurofmx.cli.shown import console
from neurofmx.data.cards import load_card
from neurofmx.errors import UserError


class _WriteUnlessNamed(TyperGroup):
    """A group whose command is `write` unless another is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = args[:1] == ["--help"] or (bool(args) and args[0] in self.commands)
        return super().parse_args(ctx, args if named else ["write", *args])


nlb = typer.Typer(
    cls=_WriteUnlessNamed,
    help="Neural Latents Benchmark: a submission, or its score on the val part.",
)


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
