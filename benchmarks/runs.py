"""A small project to measure in, and stages run afresh in it."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import made
import yaml

from neurofmx.data.cards import Card, load_card, save_card
from neurofmx.data.manifests import resolve, save_manifest
from neurofmx.stages import align, base, ingest

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Run:
    """Where a run works and how large its recordings are."""

    folder: Path
    quick: bool

    def size(self, whole: float, quick: float) -> Any:
        """One of two sizes."""
        return quick if self.quick else whole

    def session(self) -> Path:
        """A recording with LFP, spikes, behaviour and trials; 144 MB of LFP."""
        path = self.folder / "session.nwb"
        if not path.exists():
            made.session(path, self.size(600.0, 20.0), 96, 1250.0, 100)
        return path


@contextlib.contextmanager
def project(
    folder: Path, data: Path | dict[str, Any], signals: dict[str, Any], **card: Any
) -> Iterator[Path]:
    """A project with one card, resolved; it is the working directory."""
    source = {"kind": "local", "path": data} if isinstance(data, Path) else data
    task = {"signal": {"kind": "regression", "signal": next(iter(signals))}}
    fields = {"title": "made for a benchmark", "licence": "made", "synthetic": True} | card
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump({"dataset": "made"}))
    with contextlib.chdir(folder):
        save_card(Card(name="made", source=source, signals=signals, tasks=task, **fields))
        save_manifest(resolve(load_card("made")))
        yield folder


@contextlib.contextmanager
def shipped(folder: Path, dataset: str, **changes: Any) -> Iterator[Card]:
    """A card of datasets/, with parts of it replaced, ingested and aligned, unvalidated.

    Its project is new, so that nothing is left over from another run, and the working directory.
    """
    content = yaml.safe_load((ROOT / "datasets" / f"{dataset}.yaml").read_text()) | changes
    home = folder / dataset
    home.mkdir(parents=True)
    link_data(folder)
    with contextlib.chdir(home):
        save_card(Card.model_validate(content))
        card = load_card(dataset)
        save_manifest(resolve(card))
        staged(ingest, dataset)()
        base.write_manifest("validate", dataset, base.read_manifest("ingest")["outputs"])
        staged(align, dataset)()
        yield card


def link_data(folder: Path) -> None:
    """Real recordings where cards look for them from a project in this folder."""
    data = os.environ.get("NEUROFMX_DATA") or ROOT.parent / "shared" / "data"
    (folder / "shared").mkdir(exist_ok=True)
    (folder / "shared" / "data").symlink_to(Path(data).resolve())


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Stages say what they do; here that would be noise."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        old, base.console.file = base.console.file, nowhere
        yield
        base.console.file = old


def staged(stage: Any, dataset: str = "made", **params: Any) -> Callable[[], None]:
    """Run a stage."""

    def task() -> None:
        with silent():
            stage.run(stage.Params(dataset=dataset, **params))

    return task


def remove(path: Path) -> None:
    """Take a file or a folder away, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
