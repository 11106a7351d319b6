"""A project on disk: its root, its parameters, and its pipeline as DVC runs it."""

import csv
import difflib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

from rich.markup import escape
from rich.table import Table
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter

from neurofmx.config import PARAMS_FILE, StageParams, build, read_yaml
from neurofmx.data.cards import Card, load_card
from neurofmx.errors import TransientError, UserError
from neurofmx.stages import STAGES

STORAGE = Path("storage")
ERROR_FILE = STORAGE / "error.json"  # of the stage that is running or has failed
RESULTS = STORAGE / "evaluate" / "results.csv"
REPORT = STORAGE / "report" / "index.html"
OVERALL = "all"  # rows of all recordings together, which RESULTS holds beside those of each
OURS = "neurofmx"  # its rows in RESULTS; the other methods are shown beside it
CONTROLS = ("zero_shot", "probe", "untrained", "mean")
MAIN: dict[str, Callable[..., str]] = {
    "r2": max,
    "balanced_accuracy": max,
    "circular_error": min,
    "bits_per_spike": max,
}
NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}


class _Representer(RoundTripRepresenter):
    """Ours alone: hdmf changes how the library's own writes an empty value."""


_Representer.add_representer(
    type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "")
)


def find_root(start: Path) -> Path:
    """The folder with `params.yaml`, at `start` or above it.

    Raises:
        UserError: There is none.
    """
    for folder in (start, *start.parents):
        if (folder / PARAMS_FILE).is_file():
            return folder
    raise UserError(
        f"no {PARAMS_FILE} in {start} or above it: run inside a NeuroFM-X project (a clone of it)"
    )


def chosen_card() -> Card:
    """The card that `params.yaml` names.

    Raises:
        UserError: The file or the card is wrong.
    """
    return _card(read_yaml(PARAMS_FILE))


def stage_params(stage: str) -> type[StageParams]:
    """The class `Params` of a stage; importing it is left until it is needed (torch is slow)."""
    return import_module(f"neurofmx.stages.{stage}").Params


def set_params(assignments: Iterable[str]) -> list[str]:
    """Write `section.key=value` into `params.yaml`, comments kept; nothing unless all are right.

    Returns:
        A line for each key that changed, "tokenize.seed: 0 → 1".

    Raises:
        UserError: An unknown section or key, a value of the wrong type, or no such dataset.
    """
    read_yaml(PARAMS_FILE)  # for its messages where the file is no YAML
    editor = YAML()
    editor.Representer = _Representer
    editor.width = 100
    document = editor.load(PARAMS_FILE)
    pairs = [_parse(assignment) for assignment in assignments]
    assigned = [_assign(document, keys, value) for keys, value in pairs]
    for section in dict.fromkeys(keys[0] for keys, _ in pairs):
        _check(document, section)
    changes = [change for change in assigned if change]
    if changes:
        temporary = PARAMS_FILE.with_name(f".{PARAMS_FILE}.tmp")
        editor.dump(document, temporary)
        assert YAML(typ="safe").load(temporary) == document, "what was written is what was meant"
        os.replace(temporary, PARAMS_FILE)
    return changes


def reproduce(until: str | None = None) -> int:
    """`dvc repro`, its output straight to ours.

    Returns:
        0, or the exit code of the stage that failed, which DVC itself does not pass on.
    """
    ERROR_FILE.unlink(missing_ok=True)
    command = [sys.executable, "-m", "dvc", "repro", *([until] if until else [])]
    code = subprocess.run(command, env=_environment()).returncode
    if code and ERROR_FILE.exists():
        # A disk that is too full for these few bytes leaves the file empty.
        text = ERROR_FILE.read_text()
        return json.loads(text)["exit_code"] if text else TransientError.exit_code
    return code


def results_table(card: Card) -> Table:
    """Our main figures with their intervals, beside the best of the other methods and controls.

    Several recordings share a row: their median and, for ours, the lowest and highest. Cells have
    lines, so that a row fits in a narrow terminal.
    """
    with RESULTS.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["recording"] != OVERALL]
    title = f"{card.name} (SYNTHETIC data)" if card.synthetic else card.name
    table = Table(title=title, show_lines=True)
    for column in ("task", OURS, "best other", "controls"):
        table.add_column(column, no_wrap=True)
    figures: dict[tuple[str, ...], dict[str, list[dict[str, str]]]] = {}
    for row in rows:
        if row["metric"] in MAIN:
            key = tuple(row[column] for column in ("task", "level", "metric"))
            figures.setdefault(key, {}).setdefault(row["method"], []).append(row)
    for (task, level, metric), by_method in figures.items():
        ours = by_method.get(OURS, [])
        controls = [
            f"{_figure(by_method[method], interval=False)} {method}"
            for method in CONTROLS
            if method in by_method
        ]
        place = f"{task}\n{metric}\n{level} ({len(ours)})"
        cells = [place, _figure(ours), _best(by_method, metric), "\n".join(controls)]
        table.add_row(*(escape(cell) for cell in cells))
    return table


def _best(by_method: dict[str, list[dict[str, str]]], metric: str) -> str:
    """The other method with the best median, and that."""
    medians = {
        name: median(values)
        for name, rows in by_method.items()
        if name not in (OURS, "shifted", *CONTROLS)
        and (values := [float(row["value"]) for row in rows if row["value"]])
    }
    if not medians:
        return "–"
    name = MAIN[metric](medians, key=medians.__getitem__)
    return f"{medians[name]:.3f}\n{name}"


def _figure(rows: list[dict[str, str]], interval: bool = True) -> str:
    """One recording: "0.91" over "[0.88, 0.93]"; several: over "(0.79 to 0.88)"."""
    values = [float(row["value"]) for row in rows if row["value"]]
    if not values:
        return "–" if rows else ""
    if len(values) > 1:
        extent = f"\n({min(values):.3f} to {max(values):.3f})"
    else:
        low, high = rows[0]["low"], rows[0]["high"]
        extent = f"\n[{float(low):.3f}, {float(high):.3f}]" if low and high else ""
    return f"{median(values):.3f}{extent if interval else ''}"


def _environment() -> dict[str, str]:
    """Ours, with this interpreter's commands first: `neurofmx` in `dvc.yaml` is then this one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path}


def _parse(assignment: str) -> tuple[list[str], Any]:
    name, equals, text = assignment.partition("=")
    if not equals:
        raise UserError(
            f"-S {assignment}: give it as section.key=value, e.g. -S pretrain.fit.steps=100"
        )
    try:
        return name.split("."), YAML(typ="safe").load(text)
    except YAMLError as error:
        raise UserError(f"-S {assignment}: {text!r} is not a YAML value: {error}") from error


def _assign(document: dict[str, Any], keys: list[str], value: Any) -> str | None:
    """Set one key and say so, or None where it had this value already."""
    shared = list(StageParams.model_fields)
    if keys[0] not in (shared if len(keys) == 1 else STAGES):
        _unknown(".".join(keys), [*shared, *(f"{s}.KEY" for s in STAGES)])
    node: Any = document
    for depth, key in enumerate(keys[:-1]):
        if node.get(key) is None:
            node[key] = {}
        node = node[key]
        if not isinstance(node, dict):
            raise UserError(f"-S {'.'.join(keys)}: {'.'.join(keys[: depth + 1])} has no keys below")
    old = node.get(keys[-1])
    _put(node, keys[-1], value)
    return None if old == value else f"{'.'.join(keys)}: {old} → {value}"


def _put(node: Any, key: str, value: Any) -> None:
    """Set a key; the comment behind one that held a list or keys stays behind it.

    The library would write what follows such a comment on the same line.
    """
    said = node.ca.items.pop(key, None) if isinstance(node.get(key), list | dict) else None
    node[key] = value
    found = [
        token
        for part in said or ()
        if part
        for token in (part if isinstance(part, list) else [part])
    ]
    if found:
        node.yaml_add_eol_comment(found[0].value.partition("\n")[0].lstrip("# "), key)


def _unknown(name: str, choices: Sequence[str]) -> NoReturn:
    close = difflib.get_close_matches(name.split(".")[0], [c.split(".")[0] for c in choices], n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UserError(f"-S {name}: unknown key.{hint} Known: {', '.join(choices)}")


def _check(document: dict[str, Any], section: str) -> None:
    if section in STAGES:
        content = {**_shared(document), **document[section]}
        build(stage_params(section), content, f"section {section!r} of {PARAMS_FILE}")
    else:
        _card(document)


def _card(document: dict[str, Any]) -> Card:
    return load_card(build(StageParams, _shared(document), str(PARAMS_FILE)).dataset)


def _shared(document: dict[str, Any]) -> dict[str, Any]:
    return {key: document[key] for key in StageParams.model_fields if key in document}
