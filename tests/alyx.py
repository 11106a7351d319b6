"""An Alyx database and its data server on this machine, as far as ONE asks for them."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import NAMESPACE_URL, uuid5

from alf import SESSION

EID = str(uuid5(NAMESPACE_URL, SESSION))
FILTERS = ("subject", "projects", "django", "limit", "offset")


@dataclass
class Alyx:
    """One session, whose files lie under `root`; `cut` bytes are left out at their ends."""

    root: Path
    url: str = ""
    cut: int = 0
    log: list[str] = field(default_factory=list)

    @property
    def files(self) -> dict[str, Path]:
        """By the id that the database has for them."""
        paths = sorted(path for path in self.root.rglob("*") if path.is_file())
        return {str(uuid5(NAMESPACE_URL, p.relative_to(self.root).as_posix())): p for p in paths}


@contextmanager
def serve(root: Path) -> Iterator[Alyx]:
    """A database that answers at `url` until the block ends."""
    alyx = Alyx(root)
    handler = type("Bound", (_Handler,), {"alyx": alyx})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    alyx.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield alyx
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    alyx: Alyx

    def log_message(self, *args: Any) -> None:
        """Nothing: tests read `Alyx.log`."""

    def do_POST(self) -> None:
        self._json({"token": "open"})  # /auth-token

    def do_GET(self) -> None:
        where = urlsplit(self.path)
        self.alyx.log.append(where.path)
        if where.path.startswith("/data/"):
            return self._file(where.path.removeprefix("/data/"))
        if where.path == "/api/schema":
            return self._json(_schema())
        if where.path == "/sessions":
            asked = parse_qs(where.query).get("subject", ["CSHL046"])[0]
            return self._json([self._session()] if asked in "CSHL046" else [])
        if where.path == f"/sessions/{EID}":
            return self._json(self._session() | {"data_dataset_session_related": self._rows()})
        return self._json({"detail": "Not found."}, 404)

    def _session(self) -> dict[str, Any]:
        lab, _, subject, date, number = SESSION.split("/")
        return {
            "id": EID,
            "url": f"{self.alyx.url}/sessions/{EID}",
            "subject": subject,
            "lab": lab,
            "start_time": f"{date}T12:00:00",
            "number": int(number),
            "task_protocol": "",
            "projects": ["brainwide"],
        }

    def _rows(self) -> list[dict[str, Any]]:
        rows = []
        for dataset, path in self.alyx.files.items():
            content, place = path.read_bytes(), path.relative_to(self.alyx.root)
            named = place.with_name(f"{place.stem}.{dataset}{place.suffix}")
            rows.append(
                {
                    "id": dataset,
                    "file_size": len(content),
                    "hash": hashlib.md5(content).hexdigest(),
                    "data_url": f"{self.alyx.url}/data/{named.as_posix()}",
                    "default_revision": "True",
                    "qc": "PASS",
                }
            )
        return rows

    def _file(self, named: str) -> None:
        found = re.search(r"\.([0-9a-f-]{36})\.", named)
        path = self.alyx.files.get(found[1]) if found else None
        if path is None:
            return self._json({"detail": "Not found."}, 404)
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) - self.alyx.cut])
        return None

    def _json(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _schema() -> dict[str, Any]:
    """What the database offers, in OpenAPI."""
    filters = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in FILTERS]
    listed = {"get": {"description": "", "parameters": filters}}
    read = {"get": {"description": "", "parameters": []}}
    return {"openapi": "3.0.3", "paths": {"/sessions": listed, "/sessions/{id}": read}}
