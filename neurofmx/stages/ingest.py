"""Read the recordings that the card names into Zarr: one layout, SI units, provenance."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from neurofmx.config import StageParams
from neurofmx.data import store
from neurofmx.data.cards import Card, load_card
from neurofmx.data.manifests import load_manifest
from neurofmx.data.reading import by_recording, read_recording
from neurofmx.data.signal_cards import SignalCard
from neurofmx.data.sources.base import Access, Asset
from neurofmx.data.sources.synthetic import keep_only
from neurofmx.stages import base

CODE = (
    "data/arrays.py",
    "data/dialects",
    "data/reading.py",
    "data/readers",
    "data/store.py",
    "data/stored.py",
    "data/storing.py",
    "signal/clocks.py",
    "types.py",
    "stages/ingest.py",
)
READ_FROM_CARD = (
    "path",
    "modality",
    "which",
    "optional",
    "keep",
    "stamps",
    "nominal",
    "size",
    "position_unit",
)


class Params(StageParams):
    """Parameters of ingest.

    Attributes:
        workers: Processes that read recordings side by side.
        access: Files of an archive are downloaded whole, or read over the network in ranges.
    """

    workers: int = Field(2, ge=1)
    access: Access = "download"


def run(params: Params) -> None:
    """Write `storage/ingest/<recording>.zarr` for each recording of the data set."""
    with base.measured("ingest") as report:
        card = load_card(params.dataset)
        assets = load_manifest(card).assets
        keep_only(base.folder("ingest"), _stems(assets) if base.made(card) else set())
        jobs = [_job(card, *one, params) for one in by_recording(card, assets).items()]
        statuses = base.fan_out("ingest", jobs, ingest_recording, params.workers)
        done, rejected = base.usable(statuses), base.rejected(statuses)
        report.values |= {
            "recordings": len(done),
            "quarantined": len(rejected),
            "source_mb": round(sum(asset.size for asset in assets) / 1e6, 3),
        }
        base.write_manifest("ingest", card.name, done, quarantined=rejected)


def ingest_recording(
    path: Path, key: str, name: str, assets: list[Asset], card: Card, raw: Path, access: Access
) -> None:
    """Fetch the files of one recording, read them and write them as Zarr.

    Raises:
        UserError: A file is gone or is not the one in the manifest.
        DataError: A file cannot be used.
    """
    places = [card.source.fetch(asset, raw, access) for asset in assets]
    found = {
        "sha256": {asset.path: asset.sha256 or card.source.identity(asset) for asset in assets},
        "licence": card.licence,
        "synthetic": card.synthetic,
    }
    with read_recording(name, places, card) as recording:
        store.write(replace(recording, provenance=recording.provenance | found), path, key)


def _job(card: Card, recording: str, assets: list[Asset], params: Params) -> base.Job:
    inputs = {
        "assets": {asset.path: card.source.identity(asset) for asset in assets},
        "signals": {name: _reading(signal) for name, signal in card.signals.items()},
        "dataset": [card.name, card.licence, card.synthetic, card.dialect],
        "schema": store.SCHEMA,
        "code": base.code_version(*CODE),
    }
    arguments = (recording, assets, card, base.raw_folder(card), params.access)
    return base.Job(recording, inputs, arguments, sum(asset.size for asset in assets))


def _reading(signal: SignalCard) -> dict[str, Any]:
    """The part of a signal's card that ingest depends on."""
    return {key: getattr(signal, key) for key in READ_FROM_CARD}


def _stems(assets: list[Asset]) -> set[str]:
    return {Path(asset.path).stem for asset in assets}
