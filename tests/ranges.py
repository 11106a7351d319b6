"""A folder over HTTP on this machine, by ranges, with a log of what was asked."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Served:
    """Where the folder is served; what was asked: name, first byte and end, as far as given.

    Attributes:
        statuses: With which the next requests are answered.
        ranges: False for a server that gives whole files whatever is asked.
    """

    folder: Path
    url: str = ""
    log: list[tuple[str, int, int | None]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True


@contextmanager
def serve(folder: Path) -> Iterator[Served]:
    """A server until the block ends."""
    served = Served(folder)
    handler = type("Bound", (_Handler,), {"served": served})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 2**16  # head and body in one packet: apart, the second waits 40 ms
    served: Served

    def log_message(self, *args: Any) -> None:
        """Nothing: tests read `Served.log`."""

    def do_GET(self) -> None:
        path = self.served.folder / self.path.lstrip("/")
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, stop = (int(span[1]), int(span[2] or 0) + 1) if span else (0, None)
        self.served.log.append((path.name, start, stop))
        if self.served.statuses:
            return self._answer(self.served.statuses.pop(0), b"")
        if not path.is_file():
            return self._answer(404, b"")
        content = path.read_bytes()
        if not (span and self.served.ranges):
            return self._answer(200, content)
        return self._answer(206 if start < len(content) else 416, content[start:stop])

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
