"""Dandisets: NWB files of the DANDI archive, pinned by asset id and sha256.

Rübel et al. 2022, The Neurodata Without Borders ecosystem, eLife 11:e78362.
"""

import fnmatch
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from neurofmx.data.remote import Remote
from neurofmx.data.sources.base import Access, Asset, Location, Resolved, Source
from neurofmx.errors import TransientError, UserError

if TYPE_CHECKING:
    from dandi.dandiapi import DandiAPIClient, RemoteAsset, RemoteDandiset

DIGEST = "dandi:sha2-256"
THREADS = 5  # as many requests at a time as the client itself makes for pages


class Dandiset(Source):
    """The NWB files of one version of a dandiset.

    Attributes:
        dandiset: Its number, with leading zeros.
        version: A published one ("0.220113.0400"), `newest` for the last that was published when
            the data set is resolved, or `draft`.
        include: Patterns of the paths to take; `*` stands for any characters, `/` too.
        exclude: Patterns of paths to leave out of those.
        url: Of the archive's API; empty: the public archive.
    """

    dandiset: str = Field(pattern=r"^\d{6}$")
    version: str = "newest"
    include: list[str] = ["*.nwb"]
    exclude: list[str] = []
    url: str = ""

    def resolve(self) -> Resolved:
        """The files that the version has now, by the archive's own ids and checksums.

        Raises:
            UserError: There is no such dandiset or version, nothing in it is asked for, or a file
                cannot be pinned.
            TransientError: The network failed, again and again.
        """
        import requests
        from dandi.exceptions import NotFoundError

        try:
            with _client(self.api) as client:
                found = self._version(client)
                assets = self._chosen(list(found.get_assets()), found)
                with ThreadPoolExecutor(THREADS) as pool:
                    return Resolved(list(pool.map(_pinned, assets)), found.version_id)
        except NotFoundError as error:
            raise UserError(f"dandiset {self.dandiset}: {error}") from error
        except requests.RequestException as error:
            raise TransientError(f"{self.api} cannot be reached: {error}") from error

    def fetch(self, asset: Asset, folder: Path, access: Access = "download") -> Location:
        """A file, downloaded whole with its checksum, or where it can be streamed from.

        A download that broke goes on where it stopped, and what is here is not fetched again. Of
        a streamed file only the size is checked.

        Raises:
            UserError: The archive no longer has the file, or has other bytes.
            TransientError: The network failed, again and again.
        """
        from neurofmx.data import network  # late, as above

        path, url = self.place(asset, folder), f"{self.api}/assets/{asset.asset_id}/download/"
        if access != "download":
            cache = folder / ".cache" / asset.sha256[:16]
            return Remote(url, path.name, access, cache, asset.size)
        if not network.is_whole(path, asset.size, asset.sha256):
            network.download(url, path, asset.path, asset.size, asset.sha256)
        return path

    @property
    def api(self) -> str:
        """Address of the archive's API."""
        from dandi.consts import known_instances  # late, as the client

        return self.url or known_instances["dandi"].api

    def wants(self, path: str) -> bool:
        """True for the path of a file that belongs to the data set."""
        return _matches(path, self.include) and not _matches(path, self.exclude)

    def _version(self, client: "DandiAPIClient") -> "RemoteDandiset":
        found = client.get_dandiset(self.dandiset, "draft", lazy=False)
        if self.version == "draft":
            return found
        if self.version != "newest":
            return found.for_version(self.version)
        newest = found.most_recent_published_version
        if newest is None:
            raise UserError(
                f"dandiset {self.dandiset} has no published version; say `version: draft`"
            )
        return found.for_version(newest)

    def _chosen(
        self, assets: "list[RemoteAsset]", dandiset: "RemoteDandiset"
    ) -> "list[RemoteAsset]":
        paths = [asset.path for asset in assets if not _matches(asset.path, self.exclude)]
        zarr = [p for p in paths if p.endswith(".zarr") and self.wants(p.removesuffix(".zarr"))]
        if zarr:
            raise UserError(
                f"{dandiset.identifier}: {zarr[0]} is a Zarr folder, and NWB in Zarr is not read; "
                "leave it out with `exclude: ['*.zarr']`"
            )
        chosen = [asset for asset in assets if self.wants(asset.path)]
        if not chosen:
            some = ", ".join(sorted(asset.path for asset in assets)[:3]) or "no file at all"
            raise UserError(
                f"dandiset {dandiset.identifier}, version {dandiset.version_id}, has no file that "
                f"matches {' or '.join(map(repr, self.include))}; it has {some}"
            )
        return chosen


class DandiSource(Dandiset):
    """Any dandiset."""

    kind: Literal["dandi"] = "dandi"


def _client(url: str) -> "DandiAPIClient":
    os.environ.setdefault("DANDI_NO_ET", "1")  # else it reports each use to a third party
    logging.getLogger("dandi").setLevel(logging.CRITICAL)  # what it logs, we say once
    from dandi.consts import DandiInstance
    from dandi.dandiapi import DandiAPIClient  # late: it takes seconds to import

    # An instance made here is taken as it is; one looked up by address is asked without retries.
    return DandiAPIClient(dandi_instance=DandiInstance("archive", None, url))


def _pinned(asset: "RemoteAsset") -> Asset:
    sha256 = asset.get_raw_metadata().get("digest", {}).get(DIGEST)
    if sha256 is None:
        raise UserError(
            f"{asset.path} has no sha256 in the archive yet (it computes them after upload), so it "
            "cannot be pinned; resolve again later, or name the file in `exclude`"
        )
    return Asset(path=asset.path, size=asset.size, sha256=sha256, asset_id=asset.identifier)


def _matches(path: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)
