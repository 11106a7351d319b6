"""What a recording must satisfy, as Great Expectations over the summary tables.

Each row of `CHECKS` is one expectation about one column of one table. A row of the table that
breaks a critical check puts its recording in quarantine; one that breaks a warning is listed.
"""

import logging
import os
import shutil
from dataclasses import dataclass, field
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Any, Literal

from neurofmx.data.tables import Tables
from neurofmx.modalities import MODALITIES

# Columns that tell which thing a row is about.
KEYS = {
    "recordings": ["recording"],
    "signals": ["recording", "signal"],
    "units": ["recording", "signal", "unit"],
    "trials": ["recording", "signal"],
    "inspector": ["recording", "location", "message"],
}


@dataclass(frozen=True)
class Check:
    """One expectation.

    Attributes:
        table: Summary table that it looks at.
        expectation: Class in `great_expectations.expectations`.
        settings: Its arguments.
        where: Only rows that hold these values are looked at.
        severity: `critical` quarantines the recording, `warning` is only listed.
        needed: What the value has to be, and what to do where it is not.
    """

    table: str
    expectation: str
    settings: dict[str, Any]
    severity: Literal["critical", "warning"]
    needed: str
    where: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, order=True)
class Finding:
    """A row of a table that breaks a check."""

    recording: str
    check: str
    severity: str
    reason: str


def _between(
    table: str,
    column: str,
    low: float | None,
    high: float | None,
    severity: Literal["critical", "warning"],
    needed: str,
    where: dict[str, str] | None = None,
) -> Check:
    settings: dict[str, Any] = {"column": column}
    settings |= {} if low is None else {"min_value": low}
    settings |= {} if high is None else {"max_value": high}
    return Check(table, "ExpectColumnValuesToBeBetween", settings, severity, needed, where or {})


CHECKS: dict[str, Check] = {
    "unique_recording": Check(
        "recordings",
        "ExpectColumnValuesToBeUnique",
        {"column": "id"},
        "critical",
        "an id of its own; rename one of the source files",
    ),
    "unique_unit": Check(
        "units",
        "ExpectCompoundColumnsToBeUnique",
        {"column_list": ["recording", "signal", "unit"]},
        "critical",
        "an id of its own for every unit; renumber `units.id` in the source",
    ),
    "not_empty": _between(
        "signals", "n", 1.0, None, "critical",
        "at least 1; take the signal out of the card or fetch the file again",
        {"kind": "samples"},
    ),
    "active_unit": _between(
        "signals", "n_active", 1.0, None, "critical",
        "at least 1 unit with a spike; check the sorting's output",
    ),
    "times_are_numbers": _between(
        "signals", "n_nan_times", None, 0.0, "critical",
        "0; every sample and event needs a time",
    ),
    "times_ascend": _between(
        "signals", "n_backwards", None, 0.0, "critical",
        "0; a clock was reset or blocks are out of order: mend the times in the source",
    ),
    "times_differ": _between(
        "signals", "n_repeated", None, 0.0, "warning",
        "0; of samples with one time align keeps the first",
    ),
    "input_nan": _between(
        "signals", "nan_fraction", None, 0.01, "critical",
        "at most 0.01; repair or drop the channels that are NaN",
        {"role": "input"},
    ),
    "other_nan": _between(
        "signals", "nan_fraction", None, 0.01, "warning",
        "at most 0.01; align masks these samples",
        {"role": "other"},
    ),
    "saturation": _between(
        "signals", "saturation", None, 1e-3, "warning",
        "at most 0.001 of samples stuck at a channel's extreme; check gain and dead channels",
    ),
    "spikes_inside": _between(
        "units", "n_outside", None, 0.0, "critical",
        "0 spikes outside the continuous recording; check that spike times are in seconds",
    ),
    "refractory": _between(
        "units", "violations", None, 0.05, "warning",
        "at most 0.05 of intervals below 1.5 ms; the unit may be several neurons",
    ),
    "presence": _between(
        "units", "presence", 0.9, None, "warning",
        "spikes in at least 0.9 of the minutes; the unit may have drifted away",
    ),
    "intervals_are_numbers": _between(
        "trials", "n_nan", None, 0.0, "critical",
        "0; every interval needs a start and a stop",
    ),
    "start_before_stop": _between(
        "trials", "n_reversed", None, 0.0, "critical",
        "0 intervals that stop before or where they start; mend them in the source",
    ),
    "inspector": Check(
        "inspector",
        "ExpectColumnValuesToNotBeInSet",
        {"column": "level", "value_set": ["blocking"]},
        "critical",
        "no critical message of nwbinspector about structure; mend the file",
    ),
    "inspector_metadata": Check(
        "inspector",
        "ExpectColumnValuesToNotBeInSet",
        {"column": "level", "value_set": ["serious"]},
        "warning",
        "archives ask for it; nothing here depends on it",
    ),
} | {
    f"usual_rate_{name}": _between(
        "signals", "rate", *modality.rates, "warning",
        f"a rate of {modality.rates[0]:g} to {modality.rates[1]:g} Hz; check the source's times",
        {"kind": "samples", "modality": name},
    )
    for name, modality in MODALITIES.items()
    if modality.rates[1] > 0
}  # fmt: skip


def validate(tables: Tables, folder: Path) -> list[Finding]:
    """Every row that breaks a check, sorted; Data Docs and records of the run go to `folder`/gx.

    Args:
        tables: By name, as `neurofmx.data.tables` makes them.
        folder: Of the stage; an older `gx` in it is replaced.
    """
    shutil.rmtree(folder / "gx", ignore_errors=True)
    found = []
    for name, checkpoint in _checkpoints(folder).items():
        result = checkpoint.run(batch_parameters={"dataframe": tables[name]})
        for run in result.run_results.values():
            for outcome in run.results:
                found += _findings(outcome.to_json_dict())
    return sorted(set(found))


def data_docs(folder: Path) -> Path:
    """First page of the Data Docs that `validate` wrote."""
    return folder / "gx" / "uncommitted" / "data_docs" / "local_site" / "index.html"


def _checkpoints(folder: Path) -> dict[str, Any]:
    """A checkpoint for each table, which validates a data frame and adds it to the Data Docs."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when the library is imported
    import great_expectations as gx  # takes seconds to import
    from great_expectations.data_context.types.base import ProgressBarsConfig

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = gx.get_context(mode="file", project_root_dir=str(folder))
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("tables")
    docs = gx.checkpoint.UpdateDataDocsAction(name="data_docs")
    index = {"result_format": "COMPLETE"}
    checkpoints = {}
    for table, keys in KEYS.items():
        rows = [_expectation(name, check) for name, check in CHECKS.items() if check.table == table]
        suite = context.suites.add(gx.ExpectationSuite(table, expectations=rows))
        batch = source.add_dataframe_asset(table).add_batch_definition_whole_dataframe("all")
        definition = gx.ValidationDefinition(name=table, data=batch, suite=suite)
        checkpoints[table] = context.checkpoints.add(
            gx.Checkpoint(
                name=table,
                validation_definitions=[context.validation_definitions.add(definition)],
                actions=[docs],
                result_format=index | {"unexpected_index_column_names": keys},
            )
        )
    return checkpoints


def _expectation(name: str, check: Check) -> Any:
    from great_expectations import expectations
    from great_expectations.expectations.row_conditions import Column

    settings = check.settings | {"severity": check.severity, "notes": check.needed}
    conditions = [Column(column) == value for column, value in check.where.items()]
    if conditions:
        settings["row_condition"] = reduce(and_, conditions)
    return getattr(expectations, check.expectation)(**settings, meta={"check": name})


def _findings(outcome: dict[str, Any]) -> list[Finding]:
    """A finding for each row that an expectation rejected."""
    if outcome["success"]:
        return []
    name = outcome["expectation_config"]["meta"]["check"]
    rows = outcome["result"].get("unexpected_index_list")
    if not rows:
        raise RuntimeError(f"check {name!r} did not run: {outcome['exception_info']}")
    return [_finding(name, row) for row in rows]


def _finding(name: str, row: dict[str, Any]) -> Finding:
    check = CHECKS[name]
    keys = KEYS[check.table]
    thing = ", ".join(f"{key} {row[key]}" for key in keys[1:])
    values = [f"{column} is {_short(row[column])}" for column in row if column not in keys]
    what = ": ".join(part for part in (thing, ", ".join(values)) if part)
    return Finding(row["recording"], name, check.severity, f"{what}; needed: {check.needed}")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
