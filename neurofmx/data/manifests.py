"""Manifests: `datasets/manifests/<name>.json` pins the files of a data set by checksum.

`neurofmx resolve` writes it and a person commits it. Ingest reads these files and no others, so a
change of the data is a change of this file.
"""

import json
import os
from pathlib import Path
from typing import Any

from neurofmx.config import Params, build
from neurofmx.data.cards import Card
from neurofmx.data.sources.base import Asset
from neurofmx.errors import UserError

FOLDER = Path("datasets/manifests")


class Manifest(Params):
    """The files of a data set.

    Attributes:
        dataset: Name of the card.
        source: The card's source when it was resolved.
        version: Of the data set in its archive.
        assets: Sorted by path.
    """

    dataset: str
    source: dict[str, Any]
    version: str = ""
    assets: list[Asset]


def resolve(card: Card) -> Manifest:
    """The files that the card's source has now.

    Raises:
        UserError, TransientError: As `Source.resolve`.
    """
    found = card.source.resolve()
    source = card.source.model_dump(mode="json")
    assets = sorted(found.assets, key=lambda asset: asset.path)
    return Manifest(dataset=card.name, source=source, version=found.version, assets=assets)


def save_manifest(manifest: Manifest, folder: Path = FOLDER) -> Path:
    """Write a manifest, all or nothing; equal content gives equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{manifest.dataset}.json"
    temporary = path.with_name(f".{path.name}.tmp")
    content = manifest.model_dump(mode="json", exclude_defaults=True)
    temporary.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    os.replace(temporary, path)
    return path


def read_manifest(path: Path) -> Manifest:
    """A manifest as it was written.

    Raises:
        UserError: It is no manifest.
    """
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON: {error}; resolve the data set again") from error
    return build(Manifest, content, str(path))


def load_manifest(card: Card, folder: Path = FOLDER) -> Manifest:
    """The manifest of a card.

    Raises:
        UserError: There is none, or the card's source has changed since it was written.
    """
    path = folder / f"{card.name}.json"
    again = f"run `neurofmx resolve {card.name}`"
    if not path.exists():
        raise UserError(f"{path} does not exist, so no file of {card.name!r} is pinned; {again}")
    manifest, now = read_manifest(path), card.source.model_dump(mode="json")
    if manifest.source != now:
        raise UserError(f"{path} was resolved for {manifest.source}, the card says {now}; {again}")
    return manifest


def changes(old: Manifest | None, new: Manifest) -> list[str]:
    """A line for each file that was added, removed or changed."""
    before = {asset.path: asset for asset in old.assets} if old else {}
    after = {asset.path: asset for asset in new.assets}
    added = [f"added {path}" for path in after if path not in before]
    removed = [f"removed {path}" for path in before if path not in after]
    changed = [f"changed {p}" for p in after if p in before and after[p] != before[p]]
    return added + removed + changed
