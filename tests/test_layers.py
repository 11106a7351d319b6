"""Who may import whom, as the design has it; the code is read, not imported."""

from pathlib import Path

import pytest
from sources import ROOT, file_of, imports

# Low to high; those on one line do not know each other, a package knows itself.
LAYERS = (
    ("errors", "types", "sequence", "batches", "config", "modalities"),
    ("signal",),
    ("data", "tokenizers"),
    ("objectives",),
    ("models",),
    ("training",),
    ("evaluation", "interpretability", "serving"),
    ("stages",),
    ("project",),
    ("search", "results"),
    ("cli",),
    ("__main__",),
)
FOUNDATION = set(LAYERS[0])  # files, not packages: `config` raises the errors of `errors`
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}


def violations(root: Path) -> list[str]:
    """A line for every import of `neurofmx` that goes up or sideways."""
    found = []
    for path in sorted((root / "neurofmx").rglob("*.py")):
        layer = _layer(path, root)
        for name in sorted(imports(path, root)):
            target = file_of(name, root) if name.split(".")[0] == "neurofmx" else None
            if target is None or layer is None or _layer(target, root) is None:
                continue
            if not _allowed(layer, _layer(target, root)):
                found.append(f"{path.relative_to(root)} imports {name}")
    return found


def _layer(path: Path, root: Path) -> str | None:
    """First part of the path below `neurofmx/`; None for `neurofmx/__init__.py`, open to all."""
    name = path.relative_to(root / "neurofmx").parts[0].removesuffix(".py")
    return None if name == "__init__" else name


def _allowed(layer: str, target: str) -> bool:
    if layer in FOUNDATION and target in FOUNDATION:
        return True
    return layer == target or HEIGHT[target] < HEIGHT[layer]


def test_every_import_goes_down():
    assert violations(ROOT) == []


def test_every_package_has_a_layer():
    names = {_layer(path, ROOT) for path in (ROOT / "neurofmx").rglob("*.py")}
    assert names - {None} <= set(HEIGHT)


def test_flows_know_nothing_of_neurofmx():
    for path in (ROOT / "flows").rglob("*.py"):
        assert not [name for name in imports(path) if name.split(".")[0] == "neurofmx"], path


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("data/nwb.py", "from neurofmx.stages import base"),  # up
        ("data/nwb.py", "from neurofmx.tokenizers import base"),  # a sibling
        ("signal/clocks.py", "import neurofmx.data.store"),
        ("models/heads.py", "from ..training import loop"),  # relative
        ("evaluation/metrics.py", "def late():\n    from neurofmx import interpretability"),
        ("types.py", "from neurofmx.data import store"),
        ("stages/ingest.py", "from importlib import import_module as i\nimport neurofmx.cli"),
    ],
)
def test_a_planted_violation_is_caught(tmp_path, file, line):
    for package in ("data", "stages", "tokenizers", "training", "interpretability"):
        (tmp_path / "neurofmx" / package).mkdir(parents=True)
        (tmp_path / "neurofmx" / package / "__init__.py").touch()
    for module in ("data/store.py", "stages/base.py", "tokenizers/base.py", "training/loop.py"):
        (tmp_path / "neurofmx" / module).touch()
    (tmp_path / "neurofmx" / "cli.py").touch()
    assert violations(tmp_path) == []

    planted = tmp_path / "neurofmx" / file
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(line + "\n")

    assert len(violations(tmp_path)) == 1
