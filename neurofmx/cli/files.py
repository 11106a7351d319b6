"""Commands about cards, what files hold, and models as files."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from neurofmx import project
from neurofmx.cli.shown import console
from neurofmx.data.cards import FOLDER, load_card, save_card
from neurofmx.errors import UserError


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
