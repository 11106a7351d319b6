"""What a BIDS data set says beside a recording: who, which channels, what happened when.

A sidecar holds for every recording at or below its folder whose entities (`sub-01`, `task-rest`)
include its own; the nearest one counts, and JSON files complete each other (the inheritance
principle). Source: Gorgolewski et al. 2016, doi:10.1038/sdata.2016.44; Pernet et al. 2019 for EEG,
doi:10.1038/s41597-019-0104-8.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from neurofmx.errors import DataError

ROOT = "dataset_description.json"


@dataclass(frozen=True)
class Sidecars:
    """What lies beside one recording; all of it empty where there is no BIDS data set.

    Attributes:
        channels: `channels.tsv` by name of the channel.
        events: `events.tsv`.
        about: The recording's JSON (`TaskName`, `RecordingType`, …).
        participant: Row of `participants.tsv`.
        dataset: `dataset_description.json`.
    """

    subject: str = ""
    channels: pd.DataFrame | None = None
    events: pd.DataFrame | None = None
    about: dict[str, Any] = field(default_factory=dict)
    participant: dict[str, str] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)


def sidecars(path: Path) -> Sidecars:
    """The sidecars of a recording, if it lies below a `dataset_description.json`.

    Raises:
        DataError: One of them cannot be read.
    """
    # Links are not followed: in a DataLad clone they lead out of the data set.
    parents = list(path.absolute().parents)
    roots = [k for k, folder in enumerate(parents) if (folder / ROOT).exists()]
    if not roots:
        return Sidecars()
    folders = parents[: roots[0] + 1]
    *entities, suffix = path.stem.split("_")
    channels, events = (_nearest(folders, entities, f"{x}.tsv") for x in ("channels", "events"))
    about: dict[str, Any] = {}
    for inherited in reversed(_found(folders, entities, f"{suffix}.json")):
        about |= _json(inherited)
    named = [x for x in entities if x.startswith("sub-")]
    subject = named[0] if named else ""
    return Sidecars(
        subject=subject.removeprefix("sub-"),
        channels=None if channels is None else _by_name(channels),
        events=None if events is None else _table(events),
        about=about,
        participant=_participant(folders[-1] / "participants.tsv", subject),
        dataset=_json(folders[-1] / ROOT),
    )


def _found(folders: list[Path], entities: list[str], ending: str) -> list[Path]:
    """Files that hold for a recording, the nearest and most particular first."""
    found = []
    for folder in folders:
        names = [p for p in folder.iterdir() if p.name.split("_")[-1] == ending]
        mine = [p for p in names if set(p.name.split("_")[:-1]) <= set(entities)]
        found += sorted(mine, key=lambda p: (-len(p.name.split("_")), p.name))
    return found


def _nearest(folders: list[Path], entities: list[str], ending: str) -> Path | None:
    return next(iter(_found(folders, entities, ending)), None)


def _by_name(path: Path) -> pd.DataFrame:
    table = _table(path, dtype=str)
    if "name" not in table or table["name"].duplicated().any():
        raise DataError(f"{path.name}: a column `name` with each channel once is needed; mend it")
    return table.set_index("name")


def _participant(path: Path, subject: str) -> dict[str, str]:
    if not path.exists():
        return {}
    table = _table(path, dtype=str)
    rows = table[table.get("participant_id", pd.Series(dtype=str)) == subject]
    return {} if rows.empty else rows.iloc[0].dropna().drop("participant_id").to_dict()


def _table(path: Path, **how: Any) -> pd.DataFrame:
    try:
        return pd.read_csv(
            path,
            sep="\t",
            keep_default_na=False,
            na_values=["n/a", ""],
            encoding="utf-8-sig",
            **how,
        )
    except (ValueError, OSError) as error:
        raise DataError(f"{path.name}: cannot be read as a table: {error}; mend it") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path.name}: cannot be read as JSON: {error}; mend it") from error
