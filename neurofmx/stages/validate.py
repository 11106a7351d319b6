"""validate: checks over everything that ingest wrote; what fails goes to quarantine with reasons.

<table>.parquet    summary tables: recordings, signals, units, trials, inspector
quarantine.json    recording → reasons, with those that ingest turned away
warnings.json      recording → what is odd but no reason to stop
gx/                Great Expectations' own files and its Data Docs; they carry times of runs
"""

import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import dask
import pandas as pd
from pydantic import Field

from neurofmx.config import StageParams
from neurofmx.data import checks, tables
from neurofmx.data.cards import Card, load_card
from neurofmx.data.nwb import recording_id
from neurofmx.data.sources import local
from neurofmx.errors import DataError, UserError
from neurofmx.stages import base


class Params(StageParams):
    """Parameters of validate.

    Attributes:
        workers: Processes that share the recordings, where there are many.
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
        ingest = base.read_manifest("ingest")
        summaries, seconds = _summaries(ingest["outputs"], card, params)
        for name, table in summaries.items():
            base.write_table(target / f"{name}.parquet", table)
        findings = checks.validate(summaries, target)
        reasons = _reasons(findings, "critical")
        reasons |= {name: [f"ingest: {why}"] for name, why in ingest["quarantined"].items()}
        warnings = _reasons(findings, "warning")
        base.write_json(target / "quarantine.json", reasons)
        base.write_json(target / "warnings.json", warnings)
        passed = {name: key for name, key in ingest["outputs"].items() if name not in reasons}
        _write_status(target, ingest["outputs"], seconds, reasons)
        _say(passed, reasons, warnings, target)
        report.values |= {
            "recordings": len(passed),
            "quarantined": len(reasons),
            "warnings": sum(len(lines) for lines in warnings.values()),
        }
        _check_share(len(passed), reasons, params.max_quarantined)
        joined = {name: "; ".join(lines) for name, lines in reasons.items()}
        base.write_manifest("validate", card.name, passed, quarantined=joined)


def _summaries(
    ingested: dict[str, str], card: Card, params: Params
) -> tuple[tables.Tables, dict[str, float]]:
    """The summary tables of all recordings, and the seconds that each took."""
    sources = _sources(card, ingested) if params.inspector else {}
    tasks = [
        dask.delayed(_timed, pure=False)(_stored(name), card, sources.get(name))
        for name in sorted(ingested)
    ]
    sizes = [base.size(_stored(name)) for name in ingested]
    scheduler = "processes" if base.processes_pay(sizes, params.workers) else "synchronous"
    parts = dask.compute(*tasks, scheduler=scheduler, num_workers=params.workers)
    seconds = dict(zip(sorted(ingested), (spent for _, spent in parts), strict=True))
    return tables.joined([part for part, _ in parts]), seconds


def _timed(path: Path, card: Card, source: Path | None) -> tuple[tables.Tables, float]:
    start = time.perf_counter()
    return tables.summarise(path, card, source), round(time.perf_counter() - start, 3)


def _stored(recording: str) -> Path:
    return base.STORAGE / "ingest" / f"{recording}.zarr"


def _sources(card: Card, ingested: dict[str, str]) -> dict[str, Path]:
    """The NWB file of each recording."""
    if card.source.kind == "synthetic":
        paths = sorted((base.STORAGE / "ingest" / "source").glob("*.nwb"))
    else:
        paths = [asset.path for asset in local.assets(card.source)]
    sources = {recording_id(path): path for path in paths}
    missing = sorted(set(ingested) - set(sources))
    if missing:
        raise UserError(
            f"the NWB file of {', '.join(missing)} is gone since ingest; run ingest again, or set "
            "validate.inspector to false to check what was ingested without its source"
        )
    return sources


def _reasons(findings: list[checks.Finding], severity: str) -> dict[str, list[str]]:
    """Recording → what was found, in the order of the checks' names."""
    lines = defaultdict(list)
    for finding in findings:
        if finding.severity == severity:
            lines[finding.recording].append(f"{finding.check}: {finding.reason}")
    return dict(lines)


def _write_status(
    target: Path, ingested: dict[str, str], seconds: dict[str, float], reasons: dict[str, list[str]]
) -> None:
    rows = []
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
    base.console.print(f"  Data Docs: {checks.data_docs(target)}")


def _check_share(passed: int, reasons: dict[str, list[str]], most: float) -> None:
    """Raise a DataError where nothing, or too little, is left."""
    share = len(reasons) / max(1, passed + len(reasons))
    if passed and share <= most:
        return
    lines = [f"  {name}: {line}" for name, found in sorted(reasons.items()) for line in found]
    raise DataError(
        f"validate: {len(reasons)} of {passed + len(reasons)} recordings are in quarantine; "
        f"validate.max_quarantined allows a share of {most:g}, and one recording has to pass\n"
        + "\n".join(lines)
    )
