"""Checks as Great Expectations: a suite for each summary table, its findings and its Data Docs."""

import logging
import os
import shutil
from dataclasses import dataclass
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Any

from neurofmx.data.checks import Check
from neurofmx.data.tables import Tables

# Columns that tell which thing a row is about.
KEYS = {
    "recordings": ["recording"],
    "units": ["recording", "signal", "unit"],
    "streams": ["recording", "signal"],
    "trials": ["recording", "signal"],
    "alignment": ["recording", "clock"],
    "inspector": ["recording", "file", "location", "message"],
}
DOCS = "gx/uncommitted/data_docs/local_site/index.html"


@dataclass(frozen=True, order=True)
class Finding:
    """A row of a table that breaks a check."""

    recording: str
    check: str
    severity: str
    reason: str


def validate(tables: Tables, checks: dict[str, Check], folder: Path) -> list[Finding]:
    """Every row that breaks a check, sorted; Data Docs and records of the run go to `folder`/gx.

    Args:
        tables: By name, as `neurofmx.data.tables` makes them.
        checks: By name.
        folder: Of the stage; an older `gx` in it is replaced.
    """
    shutil.rmtree(folder / "gx", ignore_errors=True)
    context, found = _context(folder), []
    for name, checkpoint in _checkpoints(checks, context).items():
        result = checkpoint.run(batch_parameters={"dataframe": tables[name]})
        for run in result.run_results.values():
            for outcome in run.results:
                found += _findings(outcome.to_json_dict(), checks)
    context.build_data_docs()  # once: as an action of each checkpoint it takes most of the time
    return sorted(set(found))


def _context(folder: Path) -> Any:
    """Great Expectations with its files in `folder`/gx."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when the library is imported
    import great_expectations as gx  # takes seconds to import
    from great_expectations.data_context.types.base import ProgressBarsConfig

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = gx.get_context(mode="file", project_root_dir=str(folder))
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


def _checkpoints(checks: dict[str, Check], context: Any) -> dict[str, Any]:
    """A checkpoint for each table, which validates a data frame against its suite."""
    import great_expectations as gx

    source = context.data_sources.add_pandas("tables")
    checkpoints = {}
    for table, keys in KEYS.items():
        own = {name: check for name, check in checks.items() if check.table == table}
        rows = [_expectation(name, check) for name, check in own.items()]
        suite = context.suites.add(gx.ExpectationSuite(table, expectations=rows))
        batch = source.add_dataframe_asset(table).add_batch_definition_whole_dataframe("all")
        definition = gx.ValidationDefinition(name=table, data=batch, suite=suite)
        shown = sorted({column for check in own.values() for column in check.shown})
        index = {"result_format": "COMPLETE", "unexpected_index_column_names": keys + shown}
        checkpoints[table] = context.checkpoints.add(
            gx.Checkpoint(
                name=table,
                validation_definitions=[context.validation_definitions.add(definition)],
                result_format=index,
            )
        )
    return checkpoints


def _expectation(name: str, check: Check) -> Any:
    from great_expectations import expectations
    from great_expectations.expectations.row_conditions import Column

    bounds = {"column": check.column, "min_value": check.min, "max_value": check.max}
    settings = check.settings or {k: v for k, v in bounds.items() if v is not None}
    conditions = [Column(column) == value for column, value in check.where.items()]
    if conditions:
        settings = settings | {"row_condition": reduce(and_, conditions)}
    about = {"severity": check.severity, "notes": check.need, "meta": {"check": name}}
    text = f"{name}: {check.column}; needed: {check.need}"
    return getattr(expectations, check.expectation)(**settings, **about, description=text)


def _findings(outcome: dict[str, Any], checks: dict[str, Check]) -> list[Finding]:
    """A finding for each row that an expectation rejected."""
    if outcome["success"]:
        return []
    name = outcome["expectation_config"]["meta"]["check"]
    rows = outcome["result"].get("unexpected_index_list")
    if not rows:
        raise RuntimeError(f"check {name!r} did not run: {outcome['exception_info']}")
    return [_finding(name, checks[name], row) for row in rows]


def _finding(name: str, check: Check, row: dict[str, Any]) -> Finding:
    about = [f"{key} {row[key]}" for key in KEYS[check.table][1:]]
    told = [c for c in (check.column, *check.shown) if c in row and c not in KEYS[check.table]]
    values = [f"{column} is {_short(row[column])}" for column in told]
    what = ": ".join(part for part in (", ".join(about), ", ".join(values)) if part)
    return Finding(row["recording"], name, check.severity, f"{what}; needed: {check.need}")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
