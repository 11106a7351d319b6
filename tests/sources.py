"""Imports of our source files, read from their syntax trees; nothing is imported."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def imports(path: Path, root: Path = ROOT) -> set[str]:
    """Dotted names that a file imports, wherever in it; relative ones are made absolute."""
    package = path.relative_to(root).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
        elif _is_lazy(node):
            found.add(node.args[0].value)
    return found


def _is_lazy(node: ast.AST) -> bool:
    """`import_module("neurofmx.data.describe")`: the name is written out."""
    return (
        isinstance(node, ast.Call)
        and getattr(node.func, "id", getattr(node.func, "attr", "")) == "import_module"
        and isinstance(node.args[0], ast.Constant)
    )


def file_of(name: str, root: Path = ROOT) -> Path | None:
    """The file of ours that a dotted name lies in: `neurofmx.data.store.read` → store.py."""
    parts = name.split(".")
    while parts:
        path = root.joinpath(*parts)
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
        parts.pop()
    return None


def closure(path: Path, root: Path = ROOT) -> set[Path]:
    """Every file of ours that a file needs, itself included, package `__init__`s left out."""
    seen, todo = set(), [path]
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        todo += [f for f in (file_of(name, root) for name in imports(current, root)) if f]
    return {found for found in seen if found != root / "neurofmx" / "__init__.py"}
