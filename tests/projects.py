"""Small projects to run: this one's pipeline and code in another folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from sources import ROOT

from neurofmx.data.cards import load_card
from neurofmx.data.manifests import resolve, save_manifest
from neurofmx.project import NO_TELEMETRY

PARTS = ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore", "datasets", "flows", "neurofmx")
SKIP = shutil.ignore_patterns("__pycache__")


def make_project(folder: Path) -> Path:
    """A clone with nothing computed: what git would bring, under Git and DVC."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=SKIP)
        else:
            shutil.copy(source, folder / part)
    (folder / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, folder / ".dvc" / name)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def pin(dataset: str, folder: Path) -> None:
    """Write the manifest of a card, as `neurofmx resolve` does."""
    here = folder / "datasets"
    save_manifest(resolve(load_card(dataset, here)), here / "manifests")


def environment(folder: Path) -> dict[str, str]:
    """The project's own code and this interpreter's commands come first; one thread each."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"PATH": path, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **NO_TELEMETRY, **own}


def command(
    folder: Path, *words: str, check: bool = True, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a project; what it printed is shown when it fails."""
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment(folder) | variables,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done
