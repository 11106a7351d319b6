"""Read the recordings that the card names into Zarr: one layout, SI units, provenance."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from neurofmx.config import StageParams
from neurofmx.data import store
from neurofmx.data.cards import Card, SignalCard, load_card
from neurofmx.data.nwb import read_nwb, recording_id
from neurofmx.data.sources import SOURCES
from neurofmx.data.sources.local import Asset
from neurofmx.data.sources.synthetic import keep_only
from neurofmx.errors import UserError
from neurofmx.stages import base

CODE = ("data/nwb.py", "data/nwb_signals.py", "data/store.py", "types.py", "stages/ingest.py")


class Params(StageParams):
    """Parameters of ingest.

    Attributes:
        workers: Processes that read recordings side by side.
    """

    workers: int = Field(2, ge=1)


def run(params: Params) -> None:
    """Write `storage/ingest/<recording>.zarr` for each recording of the data set."""
    with base.measured("ingest") as report:
        card = load_card(params.dataset)
        target = base.folder("ingest")
        if card.source.kind != "synthetic":
            keep_only(target, set())
        assets = SOURCES[card.source.kind](card.source, params.seed, target)
        jobs = [_job(card, name, asset) for name, asset in by_recording(card, assets).items()]
        statuses = base.fan_out("ingest", jobs, ingest_recording, params.workers)
        done, rejected = base.usable(statuses), base.rejected(statuses)
        report.values |= {
            "recordings": len(done),
            "quarantined": len(rejected),
            "source_mb": round(sum(asset.size for asset in assets) / 1e6, 3),
        }
        base.write_manifest("ingest", card.name, done, quarantined=rejected)


def by_recording(card: Card, assets: list[Asset]) -> dict[str, Asset]:
    """Each file under the id of its recording.

    Raises:
        UserError: Two files have one id, or `adapt` names a recording that there is not.
    """
    files = defaultdict(list)
    for asset in assets:
        files[recording_id(asset.path)].append(asset)
    for name, same in files.items():
        if len(same) > 1:
            both = " and ".join(str(asset.path) for asset in same)
            raise UserError(f"two recordings have the id {name!r}: {both}; rename one of the files")
    absent = set(card.adapt) - set(files)
    if absent:
        raise UserError(
            f"adapt of card {card.name!r} names {', '.join(sorted(absent))}, "
            f"which is no recording; there are: {', '.join(sorted(files))}"
        )
    return {name: same[0] for name, same in files.items()}


def ingest_recording(path: Path, key: str, asset: Asset, card: Card) -> None:
    """Read one NWB file and write it as Zarr.

    Raises:
        DataError: The file cannot be used.
    """
    found = {"sha256": asset.sha256, "licence": card.licence, "synthetic": card.synthetic}
    with read_nwb(asset.path, card.signals, card.name) as recording:
        store.write(replace(recording, provenance=recording.provenance | found), path, key)


def _job(card: Card, recording: str, asset: Asset) -> base.Job:
    inputs = {
        "sha256": asset.sha256,
        "signals": {name: _reading(signal) for name, signal in card.signals.items()},
        "dataset": [card.name, card.licence, card.synthetic],
        "schema": store.SCHEMA,
        "code": base.code_version(*CODE),
    }
    return base.Job(recording, inputs, (asset, card), asset.size)


def _reading(signal: SignalCard) -> list[Any]:
    """The part of a signal's card that ingest depends on."""
    return [signal.path, signal.modality]
