"""Files over HTTP: faults are retried, broken downloads go on, only the right bytes count."""

import os
import time
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from neurofmx.data.digests import file_digest
from neurofmx.errors import TransientError, UserError

ATTEMPTS = 6  # in a row, before a fault counts as one that lasts
BACKOFF = 1.0  # s before the second repetition, doubled for each further one
TIMEOUT = (10.0, 60.0)  # s to connect, and between two bytes
BLOCK = 2**20  # bytes
BUSY = (408, 429, 500, 502, 503, 504)  # of a server that may answer later
GONE = (404, 410)
OUTSIDE = 416  # of a range that lies beyond the end
REPAIR = "take the change over with `neurofmx resolve`"


def get(url: str, name: str, start: int = 0, stop: int | None = None) -> requests.Response:
    """The answer to a request for a file or a range of it; its body is not read yet.

    Args:
        name: Of the file, for messages.
        start: First byte.
        stop: After the last byte; None: to the end.

    Raises:
        UserError: The server does not have the file, or does not give it.
        TransientError: The network failed, again and again.
    """
    session = requests.Session()
    retry = Retry(ATTEMPTS, backoff_factor=BACKOFF, status_forcelist=BUSY)
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    headers = {"Accept-Encoding": "identity"}  # the bytes as they are stored
    if start or stop is not None:
        headers["Range"] = f"bytes={start}-" + ("" if stop is None else f"{stop - 1}")
    try:
        answer = session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except requests.RequestException as error:
        raise TransientError(f"{name}: {url} cannot be reached: {error}") from error
    if answer.status_code in GONE:
        raise UserError(
            f"{name} has vanished from its archive: {url} answers {answer.status_code}, but the "
            f"manifest pins it; {REPAIR}"
        )
    if answer.status_code == OUTSIDE:
        raise UserError(
            f"{name} has changed in its archive: it has no byte {start}, which the manifest's "
            f"size asks for; {REPAIR}"
        )
    if not answer.ok:
        raise UserError(f"{name}: {url} answers {answer.status_code} {answer.reason}")
    return answer


def check_size(answer: requests.Response, name: str, size: int) -> None:
    """Hold the size of a whole file, where the server tells it, to that of the manifest.

    Raises:
        UserError: They differ.
    """
    headers = answer.headers
    whole = headers.get("Content-Length", size)
    if answer.status_code == 206:
        whole = headers.get("Content-Range", "").rpartition("/")[2]
    if str(whole).isdigit() and int(whole) != size:
        raise UserError(
            f"{name} has changed in its archive: it has {whole} bytes, the manifest {size}; "
            f"{REPAIR}"
        )


def download(url: str, path: Path, name: str, size: int, sha256: str) -> None:
    """Bring a whole file to `path`, by way of `path` + `.part` with which a later call goes on.

    Args:
        name: Of the file, for messages.
        size: Bytes that it must have.
        sha256: That they must have.

    Raises:
        UserError: The server does not have the file, or other bytes twice.
        TransientError: The network failed, again and again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    for _ in range(2):  # wrong bytes are thrown away and fetched once more
        _fill(url, part, name, size)
        found = file_digest(part)
        if found == sha256:
            os.replace(part, path)
            return
        part.unlink()
    raise UserError(
        f"{name}: downloaded twice, with sha256 {found}, but the manifest has {sha256}; "
        f"{REPAIR}, or report the file to its archive"
    )


def is_whole(path: Path, size: int, sha256: str) -> bool:
    """True where a file has the bytes that it must have."""
    return path.exists() and path.stat().st_size == size and file_digest(path) == sha256


def _fill(url: str, part: Path, name: str, size: int) -> None:
    """Append to a file what it lacks."""
    if part.exists() and part.stat().st_size > size:
        part.unlink()
    part.touch()
    have, failures = part.stat().st_size, 0
    bar = tqdm(total=size, initial=have, desc=name, unit="B", unit_scale=True, disable=None)
    with bar:
        while have < size:
            fault = _append(url, part, name, size, bar)
            before, have = have, part.stat().st_size
            failures = 0 if have > before else failures + 1
            if failures == ATTEMPTS:
                raise TransientError(
                    f"{name}: the connection broke {ATTEMPTS} times after {have} of {size} bytes: "
                    f"{fault}"
                )
            if have < size:
                time.sleep(BACKOFF * 2**failures)


def _append(url: str, part: Path, name: str, size: int, bar: tqdm) -> str:
    """Write what comes until the body ends or breaks; how it broke."""
    have = part.stat().st_size
    with get(url, name, have) as answer:
        check_size(answer, name, size)
        # A server that does not know ranges answers 200 with the whole file.
        with part.open("ab" if answer.status_code == 206 else "wb") as file:
            try:
                # What has come, however little: a slow connection that breaks loses nothing.
                while block := answer.raw.read1(BLOCK):
                    bar.update(file.write(block))
            except HTTPError as error:
                return str(error)
    return "it ended early"
