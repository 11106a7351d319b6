"""align: one clock for every signal of a recording, rates kept or resampled as the card says.

Reads the recordings that validate passed from `storage/ingest/`; writes
`storage/align/<recording>.zarr`. Drift and residual of each fitted clock go to `metrics.json`.
"""

from pathlib import Path

from pydantic import Field

from neurofmx.config import StageParams
from neurofmx.data import store
from neurofmx.data.align import align
from neurofmx.data.cards import Card, load_card
from neurofmx.stages import base
from neurofmx.types import AlignedRecording

CODE = ("data/align.py", "data/arrays.py", "signal")
READ_FROM_CARD = ("nominal", "frames", "rate", "method", "max_gap")


class Params(StageParams):
    """Parameters of align.

    Attributes:
        workers: Processes that share the recordings.
    """

    workers: int = Field(2, ge=1)


def run(params: Params) -> None:
    """Align every recording that validate passed."""
    with base.measured("align") as report:
        card = load_card(params.dataset)
        jobs = [
            _job(name, key, card) for name, key in base.read_manifest("validate")["outputs"].items()
        ]
        statuses = base.fan_out("align", jobs, _work, params.workers)
        usable = base.usable(statuses)
        report.values["clocks"] = {name: _clocks(name) for name in usable} if card.clocks else {}
        base.write_manifest("align", card.name, usable, quarantined=base.rejected(statuses))


def _job(recording: str, key: str, card: Card) -> base.Job:
    inputs = {
        "validate": key,
        "signals": {
            name: {key: getattr(signal, key) for key in READ_FROM_CARD}
            for name, signal in card.signals.items()
        },
        "causal": card.causal,
        "clocks": {name: clock.model_dump() for name, clock in card.clocks.items()},
        "code": base.code_version(*CODE),
    }
    source = base.STORAGE / "ingest" / f"{recording}.zarr"
    return base.Job(recording, inputs, (source, card), base.size(source))


def _work(path: Path, key: str, source: Path, card: Card) -> None:
    store.write(align(store.read(source), card), path, key)


def _clocks(recording: str) -> dict[str, dict[str, float]]:
    """Drift (ppm), residual (s) and number of shared events of each device."""
    aligned = store.read(base.folder("align") / f"{recording}.zarr")
    assert isinstance(aligned, AlignedRecording)
    return {
        device: {"drift": clock.drift, "residual": clock.residual, "n_events": clock.n_events}
        for device, clock in aligned.clocks.items()
    }
