"""Sessions of the International Brain Laboratory in ALF, through ONE: what is not on DANDI.

Rossant et al., Open Neurophysiology Environment, github.com/int-brain-lab/ONE.
"""

import fnmatch
import hashlib
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from uuid import UUID

import pandas as pd
from pydantic import Field

from neurofmx.data.digests import file_digest
from neurofmx.data.sources.base import Access, Asset, Resolved, Source
from neurofmx.errors import TransientError, UserError

if TYPE_CHECKING:
    from one.api import One

REPAIR = "bring it back, or take the change over with `neurofmx resolve`"


class IblSource(Source):
    """ALF files of sessions, in a folder that ONE keeps.

    Attributes:
        mode: `local` takes the sessions of the tables in `path` (sessions.pqt, datasets.pqt);
            `remote` asks the database, and downloads into `path`.
        path: ONE's cache folder.
        base_url: Address of the database; a login is ONE's own (`ONE.setup`).
        eids: Ids of sessions; none takes all that the other filters leave.
        subject: Part of the subject's name.
        project: Part of the project's name.
        datasets: Patterns of the paths within a session; `*` stands for any characters, `/` too.
    """

    kind: Literal["ibl"] = "ibl"
    mode: Literal["local", "remote"] = "local"
    path: Path
    base_url: str = "https://openalyx.internationalbrainlab.org"
    eids: list[UUID] = []
    subject: str | None = None
    project: str | None = None
    datasets: list[str] = Field(["alf/*"], min_length=1)

    def resolve(self) -> Resolved:
        """The files of the sessions, each as its last revision, with their checksums.

        ONE's tables have md5 at best, so files are hashed where they lie: in remote mode all of
        them are downloaded first.

        Raises:
            UserError: No session or file is asked for, a file is not there, or ONE is not.
            TransientError: The network failed.
        """
        with _network(self.base_url):
            one = self._one()
            sessions = sorted(self.eids or one.search(**self._filters))
            assets = [asset for eid in sessions for asset in self._assets(one, eid)]
        if not assets:
            raise UserError(
                f"{self.path}: {len(sessions)} sessions for {self._filters or 'no filter'}, none "
                f"with a file that matches {' or '.join(map(repr, self.datasets))}"
            )
        return Resolved(assets)

    def fetch(self, asset: Asset, folder: Path, access: Access = "download") -> Path:
        """The file in ONE's folder; what is not there is downloaded in remote mode.

        ALF is never streamed: its files are small, or needed whole.

        Raises:
            UserError: It is gone or has changed; the message names it.
            TransientError: The network failed.
        """
        path = self.place(asset, folder)
        if not path.exists() and self.mode == "remote":
            with _network(self.base_url):
                one, eid = self._one(), UUID(asset.asset_id.partition("/")[0])
                files = self._wanted(one, eid)
                if asset.path in files.index:
                    _bring(one, files.loc[asset.path], path)
        if not path.exists():
            raise UserError(f"{path} does not exist, but the manifest pins it; {REPAIR}")
        if path.stat().st_size != asset.size or file_digest(path) != asset.sha256:
            raise UserError(f"{path} has changed since it was resolved; {REPAIR}")
        return path

    def place(self, asset: Asset, folder: Path) -> Path:
        """Where ONE keeps the file."""
        return self.path / asset.path

    @property
    def _filters(self) -> dict[str, str]:
        """As ONE's search takes them."""
        given = {"subject": self.subject, "projects": self.project}
        return {name: value for name, value in given.items() if value}

    def _one(self) -> "One":
        try:
            from one.api import ONE, One  # late: an extra, and slow to import
        except ModuleNotFoundError as error:
            raise UserError('source kind `ibl` needs ONE: pip install "neurofmx[ibl]"') from error
        if self.mode == "remote":
            return ONE(mode="remote", base_url=self.base_url, cache_dir=self.path, silent=True)
        if not (self.path / "sessions.pqt").exists():
            raise UserError(
                f"{self.path} has no sessions.pqt; give ONE's cache folder, or make its tables: "
                f"from one.alf.cache import make_parquet_db; make_parquet_db({str(self.path)!r})"
            )
        return One(cache_dir=self.path, mode="local")

    def _assets(self, one: "One", eid: UUID) -> list[Asset]:
        """The files of a session; asset ids are `session/dataset`."""
        assets = []
        for name, row in self._wanted(one, eid).iterrows():
            path = self.path / str(name)
            if not path.exists() and self.mode == "remote":
                _bring(one, row, path)
            if not path.exists():
                raise UserError(f"{path} does not exist, but ONE's tables list it; fetch it first")
            size, sha256 = path.stat().st_size, file_digest(path)
            ids = f"{eid}/{row['id']}"
            assets.append(Asset(path=str(name), size=size, sha256=sha256, asset_id=ids))
        return assets

    def _wanted(self, one: "One", eid: UUID) -> pd.DataFrame:
        """Rows of ONE's table of datasets, by path, that the patterns take."""
        session = one.eid2path(eid)
        if session is None:
            raise UserError(f"session {eid} is not in {self.path}; mend `eids` in the card")
        table = one.list_datasets(eid, details=True).reset_index()
        table = table[table["exists"] & table["rel_path"].map(self._matches)]
        # Of a file that was made again, the revision that sorts last: the latest date.
        table["revision"] = table["rel_path"].str.extract("#(.*?)#", expand=False).fillna("")
        table["plain"] = table["rel_path"].str.replace("#.*?#/", "", regex=True)
        table = table.sort_values(["plain", "revision"]).drop_duplicates("plain", keep="last")
        folder = session.relative_to(one.cache_dir).as_posix()
        return table.set_index(folder + "/" + table["rel_path"])

    def _matches(self, path: str) -> bool:
        return any(fnmatch.fnmatchcase(path, pattern) for pattern in self.datasets)


def _bring(one: "One", row: pd.Series, path: Path) -> None:
    """Download a file that ONE knows, and hold it to size and md5 of the database.

    Raises:
        TransientError: Other bytes came; they are not kept.
    """
    for left in path.parent.glob(f"*.{row['id']}.*"):
        left.unlink()  # of a download that broke, which ONE would take for whole
    one.load_dataset_from_id(row["id"], download_only=True)
    size, md5 = row["file_size"], row["hash"]
    whole = path.exists() and (pd.isna(size) or path.stat().st_size == size)
    if whole and isinstance(md5, str) and md5:
        with path.open("rb") as file:
            whole = hashlib.file_digest(file, "md5").hexdigest() == md5
    if not whole:
        path.unlink(missing_ok=True)
        raise TransientError(f"{path.name}: other bytes came than the database has; try again")


@contextmanager
def _network(url: str) -> Iterator[None]:
    """Failures of ONE as ours.

    Raises:
        UserError: Login or ids are wrong, or a file is gone.
        TransientError: The network failed.
    """
    import requests

    try:
        yield
    except (urllib.error.HTTPError, requests.HTTPError) as error:
        answer = getattr(error, "response", None)
        status = getattr(error, "code", None) or getattr(answer, "status_code", None) or 0
        if 400 <= status < 500 and status not in (408, 429):
            raise UserError(f"{url} answers {status}: {error}") from error
        raise TransientError(f"{url}: {error}") from error
    except (urllib.error.URLError, requests.RequestException, ConnectionError) as error:
        raise TransientError(f"{url} cannot be reached: {error}") from error
