"""validate: checks over everything that ingest wrote; what fails goes to quarantine with reasons.

<table>.parquet    summary tables: recordings, units, streams, trials, alignment, inspector
quarantine.json    recording → reasons, with those that ingest turned away
warnings.json      recording → what is odd but no reason to stop
gx/                Great Expectations' own files and its Data Docs; they carry times of runs
"""

import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dask
import pandas as pd
from dask.callbacks import Callback
from pydantic import Field

from neurofmx.config import StageParams
from neurofmx.data import expectations, store, tables
from neurofmx.data.cards import Card, load_card
from neurofmx.data.checks import checks_of, graded
from neurofmx.data.manifests import load_manifest
from neurofmx.data.reading import by_recording
from neurofmx.errors import DataError
from neurofmx.stages import base

INSPECTION = 8 * 2**20  # bytes that take as long to summarise as a file takes to inspect
NAMED = 5  # rows that break one check of one recording and are told one by one


class Params(StageParams):
    """Parameters of validate.

    Attributes:
        workers: Processes that share many recordings; where they are few, threads that share the
            blocks of a signal.
        max_quarantined: Share of the recordings in quarantine beyond which the stage fails.
        inspector: Look at the source files with nwbinspector.
    """

    workers: int = Field(2, ge=1)
    max_quarantined: float = Field(0.5, ge=0, le=1)
    inspector: bool = True


def run(params: Params) -> None:
    """Summarise every ingested recording, check the summaries, and list what passes.

    Raises:
        DataError: Too many recordings, or all of them, are in quarantine.
    """
    with base.measured("validate") as report:
        card, target = load_card(params.dataset), base.folder("validate")
        checks, ingest = checks_of(card.checks), base.read_manifest("ingest")
        summaries = _summaries(ingest["outputs"], card, params)
        whole = graded(tables.joined([summary.tables for summary in summaries]), checks)
        for name, table in whole.items():
            base.write_table(target / f"{name}.parquet", table)
        findings = expectations.validate(whole, checks, target)
        reasons = _reasons(findings, "critical")
        reasons |= {name: [f"ingest: {why}"] for name, why in ingest["quarantined"].items()}
        reasons |= {s.recording: [f"unreadable: {s.problem}"] for s in summaries if s.problem}
        warnings = _reasons(findings, "warning")
        base.write_json(target / "quarantine.json", reasons)
        base.write_json(target / "warnings.json", warnings)
        passed = {name: key for name, key in ingest["outputs"].items() if name not in reasons}
        _write_status(target, ingest["outputs"], summaries, reasons)
        _say(passed, reasons, warnings, target)
        report.values |= {
            "recordings": len(passed),
            "quarantined": len(reasons),
            "warnings": sum(len(lines) for lines in warnings.values()),
        }
        _check_share(len(passed), reasons, params.max_quarantined)
        joined = {name: "; ".join(lines) for name, lines in reasons.items()}
        base.write_manifest("validate", card.name, passed, quarantined=joined)


@dataclass(frozen=True)
class Summary:
    """The rows of a recording, or the problem that left none, and the seconds that it took."""

    recording: str
    tables: tables.Tables
    seconds: float
    problem: str = ""


def _summaries(ingested: dict[str, str], card: Card, params: Params) -> list[Summary]:
    """A summary of each recording, in the order of their names, and a line about it."""
    sources = _sources(card, ingested) if params.inspector else {}
    sizes = [
        base.size(_stored(name)) + INSPECTION * len(sources.get(name, [])) for name in ingested
    ]
    apart = base.processes_pay(sizes, params.workers)
    inside = 1 if apart else params.workers  # threads
    one = dask.delayed(_summary, pure=False)
    tasks = [one(name, card, sources.get(name, []), inside) for name in sorted(ingested)]
    with Callback(posttask=_announce):
        scheduler = "processes" if apart else "synchronous"
        return list(dask.compute(*tasks, scheduler=scheduler, num_workers=params.workers))


def _summary(name: str, card: Card, sources: list[Path], workers: int) -> Summary:
    start, problem = time.perf_counter(), ""
    try:
        with base.threads(workers):
            found = tables.summarise(name, store.read(_stored(name)), card, sources)
    except DataError as error:
        found, problem = tables.joined([]), str(error)
    return Summary(name, found, round(time.perf_counter() - start, 3), problem)


def _announce(key: Any, result: Any, *_: Any) -> None:
    """A line as a recording is summarised; blocks of its signals are tasks, too."""
    if isinstance(result, Summary):
        outcome = f"unreadable: {result.problem}" if result.problem else "summarised"
        base.console.print(f"  {result.recording}  {outcome} {result.seconds:.1f} s")


def _stored(recording: str) -> Path:
    return base.STORAGE / "ingest" / f"{recording}.zarr"


def _sources(card: Card, ingested: dict[str, str]) -> dict[str, list[Path]]:
    """The NWB files of each recording that lie here; streamed ones are not inspected."""
    raw = base.raw_folder(card)
    files = by_recording(card, load_manifest(card).assets)
    places = {name: [card.source.place(a, raw) for a in files.get(name, [])] for name in ingested}
    here = {n: [p for p in ps if p.suffix == ".nwb" and p.exists()] for n, ps in places.items()}
    return here


def _reasons(findings: list[expectations.Finding], severity: str) -> dict[str, list[str]]:
    """Recording → what was found, in the order of the checks' names.

    Of many rows that break one check, hundreds of units say, the first few stand for all.
    """
    lines: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for finding in findings:
        if finding.severity == severity:
            lines[finding.recording][finding.check].append(f"{finding.check}: {finding.reason}")
    return {
        recording: [line for found in of_check.values() for line in _first(found)]
        for recording, of_check in lines.items()
    }


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - NAMED
    return lines if more <= 0 else [*lines[:-more], f"{lines[0].split(':')[0]}: and {more} more"]


def _write_status(
    target: Path,
    ingested: dict[str, str],
    summaries: list[Summary],
    reasons: dict[str, list[str]],
) -> None:
    rows, seconds = [], {summary.recording: summary.seconds for summary in summaries}
    for name in sorted({*ingested, *reasons}):
        why = "; ".join(reasons.get(name, []))
        status = base.Status(
            name,
            "quarantined" if why else "done",
            ingested.get(name, ""),
            seconds.get(name, 0.0),
            why,
        )
        rows.append(asdict(status))
    base.write_table(target / "status.parquet", pd.DataFrame(rows))


def _say(
    passed: dict[str, str],
    reasons: dict[str, list[str]],
    warnings: dict[str, list[str]],
    target: Path,
) -> None:
    for name in passed:
        base.console.print(f"  {name}  passed, {len(warnings.get(name, []))} warnings")
    for name, lines in sorted(reasons.items()):
        base.console.print(f"  {name}  [yellow]quarantined[/]: {'; '.join(lines)}")
    base.console.print(f"  Data Docs: {target / expectations.DOCS}")


def _check_share(passed: int, reasons: dict[str, list[str]], most: float) -> None:
    """Raise a DataError where nothing, or too little, is left."""
    share = len(reasons) / max(1, passed + len(reasons))
    if passed and share <= most:
        return
    raise DataError(
        f"validate: {len(reasons)} of {passed + len(reasons)} recordings are in quarantine; "
        f"validate.max_quarantined allows a share of {most:g}, and one recording has to pass. "
        f"Why:\n{_by_check(reasons)}\n"
        "Details are in storage/validate/quarantine.json. Mend the files; or, where the data are "
        "right and a threshold is not, give the card its own, such as checks: {saturation: "
        "{max: 0.02}}; or raise validate.max_quarantined in params.yaml"
    )


def _by_check(reasons: dict[str, list[str]]) -> str:
    """A line for each check with the recordings that break it and one of their reasons."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for name, lines in sorted(reasons.items()):
        for line in lines:
            check, _, why = line.partition(": ")
            found[check].setdefault(name, why)
    return "\n".join(
        f"  {check} ({len(of)} of them): {name}: {why}"
        for check, of in found.items()
        for name, why in [next(iter(of.items()))]
    )
