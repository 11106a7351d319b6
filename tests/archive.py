"""A DANDI archive on this machine: its endpoints over HTTP, with faults on request.

It answers what the `dandi` client asks for. The bytes lie at another address, as at the archive,
which redirects to a store with a signature.
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PAGE = 2  # results; small, so that pages are turned
NOW = "2024-05-01T00:00:00Z"
DANDISET = "000999"
PUBLISHED = "0.240501.1200"


@dataclass
class File:
    """An asset: `blob` is None for a Zarr, `sha256` empty while the archive has not computed it."""

    path: str
    bytes: bytes
    asset_id: str
    sha256: str = ""
    zarr: bool = False


@dataclass
class Fault:
    """What goes wrong with the next `times` requests for bytes.

    Attributes:
        kind: `drop` closes the connection after `at` bytes, `status` answers `at`, `short` claims
            all bytes and ends after `at`, `flip` changes the byte at `at`, `slow` waits `at` ms.
    """

    kind: str
    at: int = 0
    times: int = 1


@dataclass
class Archive:
    """What is in the archive, what is to go wrong, and what was asked."""

    versions: dict[str, list[File]] = field(default_factory=lambda: {"draft": []})
    faults: list[Fault] = field(default_factory=list)
    api_faults: list[int] = field(default_factory=list)  # statuses of the next requests
    log: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, range
    url: str = ""

    def add(self, path: str, content: bytes, version: str = "draft", **more: Any) -> File:
        """Put a file into a version."""
        number = sum(map(len, self.versions.values()))
        asset_id = f"00000000-0000-4000-8000-{number:012d}"
        sha256 = hashlib.sha256(content).hexdigest()
        file = File(path, content, asset_id, **{"sha256": sha256, **more})
        self.versions.setdefault(version, []).append(file)
        return file

    def remove(self, file: File) -> None:
        """Take a file out of every version."""
        for files in self.versions.values():
            files[:] = [kept for kept in files if kept is not file]

    def file(self, asset_id: str) -> File | None:
        """By id, in whatever version."""
        files = (file for files in self.versions.values() for file in files)
        return next((file for file in files if file.asset_id == asset_id), None)

    def ranges(self) -> list[str]:
        """Of the requests for bytes, in order; "" for a whole file, without looks at byte 0."""
        return [span for method, path, span in self.log if _is_data(method, path, span)]

    @property
    def published(self) -> str | None:
        """The last published version."""
        return max((name for name in self.versions if name != "draft"), default=None)


def _is_data(method: str, path: str, span: str) -> bool:
    return method == "GET" and path.startswith("/blobs/") and span != "bytes=0-0"


@contextmanager
def serve() -> Iterator[Archive]:
    """An archive that answers at `url` until the block ends."""
    archive = Archive()
    handler = type("Bound", (_Handler,), {"archive": archive})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    archive.url = f"http://127.0.0.1:{server.server_address[1]}/api"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield archive
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    archive: Archive

    def log_message(self, *args: Any) -> None:
        """Nothing: tests read `Archive.log`."""

    def do_HEAD(self) -> None:
        self._route(body=False)

    def do_GET(self) -> None:
        self._route(body=True)

    def _route(self, body: bool) -> None:
        where, span = urlsplit(self.path), self.headers.get("Range", "")
        self.archive.log.append((self.command, where.path, span))
        if where.path.startswith("/blobs/"):
            return self._blob(where.path.rsplit("/", 1)[1], span, body)
        if self.archive.api_faults:
            return self._json({"detail": "busy"}, self.archive.api_faults.pop(0))
        for pattern, answer in ROUTES.items():
            found = re.fullmatch(f"/api{pattern}", where.path)
            if found:
                return getattr(self, answer)(*found.groups())
        return self._json({"detail": "Not found."}, 404)

    def _dandiset(self, number: str) -> None:
        if number != DANDISET:
            return self._json({"detail": "Not found."}, 404)
        newest = self.archive.published
        return self._json(
            {
                "identifier": DANDISET,
                "created": NOW,
                "modified": NOW,
                "contact_person": "Nobody",
                "embargo_status": "OPEN",
                "most_recent_published_version": newest and self._described(newest),
                "draft_version": self._described("draft"),
            }
        )

    def _described(self, version: str) -> dict[str, Any]:
        files = self.archive.versions[version]
        return {
            "version": version,
            "name": "Recordings",
            "asset_count": len(files),
            "size": sum(len(file.bytes) for file in files),
            "created": NOW,
            "modified": NOW,
            "status": "Published" if version != "draft" else "Valid",
        }

    def _version(self, version: str) -> None:
        if version not in self.archive.versions:
            return self._json({"detail": "Not found."}, 404)
        faults = {"asset_validation_errors": [], "version_validation_errors": []}
        return self._json(self._described(version) | faults)

    def _assets(self, version: str) -> None:
        where = urlsplit(self.path)
        page = int(parse_qs(where.query).get("page", ["1"])[0])
        files = self.archive.versions[version]
        more = page * PAGE < len(files)
        here = f"http://{self.headers['Host']}{where.path}"
        rows = files[(page - 1) * PAGE : page * PAGE]
        return self._json(
            {
                "count": len(files),
                "next": f"{here}?page={page + 1}" if more else None,
                "previous": None,
                "results": [_row(file) for file in rows],
            }
        )

    def _metadata(self, version: str, asset_id: str) -> None:
        file = self.archive.file(asset_id)
        if file is None:
            return self._json({"detail": "Not found."}, 404)
        digest = {"dandi:dandi-etag": "0" * 32 + "-1"}
        if file.sha256:
            digest["dandi:sha2-256"] = file.sha256
        return self._json({"path": file.path, "contentSize": len(file.bytes), "digest": digest})

    def _download(self, asset_id: str) -> None:
        if self.archive.file(asset_id) is None:
            return self._json({"detail": "Not found."}, 404)
        self.send_response(302)
        signature = f"X-Amz-Signature={len(self.archive.log)}"
        self.send_header("Location", f"http://{self.headers['Host']}/blobs/{asset_id}?{signature}")
        self.send_header("Content-Length", "0")
        return self.end_headers()

    def _blob(self, asset_id: str, span: str, body: bool) -> None:
        file, fault = self.archive.file(asset_id), self._fault()
        if file is None:
            return self._json({"detail": "Not found."}, 404)
        if fault.kind == "status":
            return self._json({"detail": "busy"}, fault.at)
        time.sleep(fault.at / 1e3 if fault.kind == "slow" else 0.0)
        content, size = bytearray(file.bytes), len(file.bytes)
        if fault.kind == "flip":
            content[fault.at] ^= 1
        start, stop = _range(span, size)
        if start >= size:
            return self._json({"detail": "range"}, 416, {"Content-Range": f"bytes */{size}"})
        self.send_response(206 if span else 200)
        if span:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if body:
            broken = fault.kind in ("drop", "short")
            self.wfile.write(content[start : min(stop, start + fault.at) if broken else stop])
            self.close_connection = self.close_connection or broken
        return None

    def _fault(self) -> Fault:
        """The next fault; byte 0 alone, a look before reading, has none but statuses."""
        faults = self.archive.faults
        if not faults or (self.headers.get("Range") == "bytes=0-0" and faults[0].kind != "status"):
            return Fault("none")
        fault = faults[0]
        fault.times -= 1
        if fault.times == 0:
            faults.pop(0)
        return fault

    def _json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


ROUTES = {
    r"/dandisets/(\d+)/": "_dandiset",
    r"/dandisets/\d+/versions/([^/]+)/info/": "_version",
    r"/dandisets/\d+/versions/([^/]+)/assets/": "_assets",
    r"/dandisets/\d+/versions/([^/]+)/assets/([^/]+)/": "_metadata",
    r"/assets/([^/]+)/download/": "_download",
}


def _row(file: File) -> dict[str, Any]:
    blob = {"zarr": file.asset_id} if file.zarr else {"blob": file.asset_id}
    return {
        "asset_id": file.asset_id,
        "path": file.path,
        "size": len(file.bytes),
        "created": NOW,
        "modified": NOW,
        **blob,
    }


def _range(span: str, size: int) -> tuple[int, int]:
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", span)
    if not found:
        return 0, size
    return int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
