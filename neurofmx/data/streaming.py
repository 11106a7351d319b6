"""Files read over the network in ranges, by remfile or fsspec, kept in a cache on disk.

The libraries fetch; the cache is ours, because theirs are not safe: remfile's keeps a chunk that a
killed process wrote half, and fsspec's block cache takes a block whose request failed for read, and
then gives zeros. Here a range is kept whole or not at all. Faults are retried and then become a
`TransientError`.
"""

import gc
import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
import fsspec
import numpy as np
import remfile
import requests

from neurofmx.data import network
from neurofmx.data.remote import Remote
from neurofmx.errors import TransientError

BLOCK = 2**20  # bytes of a request of fsspec, which sends several at a time
RECENT = 64  # blocks in memory

Read = Callable[[int, int], bytes]  # first byte and number → that many bytes, or fewer


def open_ranges(remote: Remote) -> io.RawIOBase:
    """A file object over a remote file.

    Raises:
        UserError: The file is gone, or has another size.
        TransientError: The network failed, again and again.
    """
    with network.get(remote.url, remote.name, 0, 1) as answer:
        network.check_size(answer, remote.name, remote.size)
        # Where the archive keeps the bytes, without the signature of this one request.
        url = urlsplit(answer.url)._replace(query="").geturl()
    read = BACKENDS[remote.backend](url, Chunks(remote.cache / remote.backend), remote.size)
    return RangeFile(read, remote.name, remote.size)


class RangeFile(io.RawIOBase):
    """Reads within the file's size, again where the network fails.

    Args:
        read: Of a backend.
        name: For messages.
        size: Bytes.
    """

    def __init__(self, read: Read, name: str, size: int):
        self._read, self._name, self._size, self._position = read, name, size, 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Position (bytes)."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position (bytes)."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, but for what lies beyond the end.

        Raises:
            TransientError: The network failed, again and again.
        """
        view = memoryview(buffer).cast("B")
        n = max(0, min(len(view), self._size - self._position))
        if n:
            view[:n] = self._range(self._position, n)
        self._position += n
        return n

    def _range(self, start: int, n: int) -> bytes:
        fault: Exception | str = ""
        for attempt in range(network.ATTEMPTS):
            if attempt:
                time.sleep(network.BACKOFF * 2 ** (attempt - 1))
            try:
                found = self._read(start, n)
            except requests.RequestException as error:
                fault = error
                break  # remfile has tried again and again
            except (aiohttp.ClientError, OSError) as error:
                fault = error
            except Exception as error:  # remfile again: it has no kind of error of its own
                if type(error) is not Exception:
                    raise  # any other kind is a slip of ours
                fault = error
                break
            else:
                if len(found) == n:
                    return found
                fault = f"{len(found)} bytes came"
        stop = start + n
        raise TransientError(f"{self._name}: bytes {start} to {stop} cannot be read: {fault}")


class Chunks:
    """Cache on disk: a file per chunk, all or nothing; keys are remfile's, `url|size|index`.

    Args:
        folder: Of one remote file.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def get(self, key: str) -> bytes | None:
        """A chunk, or None where it was never read."""
        path = self._path(key)
        return path.read_bytes() if path.exists() else None

    def set(self, key: str, value: bytes) -> None:
        """Keep a chunk."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(value)
        os.replace(temporary, path)

    def _path(self, key: str) -> Path:
        _, size, index = key.rsplit("|", 2)
        return self._folder / size / index


def _remfile(url: str, cache: Chunks, size: int) -> Read:
    file = remfile.File(
        url, disk_cache=cast(Any, cache), _size=size, _max_cache_size=RECENT * BLOCK
    )

    def read(start: int, n: int) -> bytes:
        file.seek(start)
        return file.read(n)

    return read


def _fsspec(url: str, cache: Chunks, size: int) -> Read:
    files, recent = fsspec.filesystem(urlsplit(url).scheme), dict[int, bytes]()

    def read(start: int, n: int) -> bytes:
        wanted = range(start // BLOCK, (start + n - 1) // BLOCK + 1)
        known = {i: recent.get(i) or cache.get(f"|{BLOCK}|{i}") for i in wanted}
        blocks = {i: block for i, block in known.items() if block}
        blocks |= fetch([i for i in wanted if i not in blocks])
        if len(blocks) < len(wanted):
            return b""
        recent.update(blocks)
        while len(recent) > RECENT:
            recent.pop(next(iter(recent)))
        return b"".join(blocks[i] for i in wanted)[start - wanted[0] * BLOCK :][:n]

    def fetch(absent: list[int]) -> dict[int, bytes]:
        """Those of the blocks that come whole."""
        if not absent:
            return {}
        starts = [i * BLOCK for i in absent]
        stops = [min(begin + BLOCK, size) for begin in starts]
        with _uncollected():
            came = files.cat_ranges([url] * len(absent), starts, stops, on_error="raise")
        sizes = np.subtract(stops, starts)
        whole = {i: b for i, b, n in zip(absent, came, sizes, strict=True) if len(b) == n}
        for i, block in whole.items():
            cache.set(f"|{BLOCK}|{i}", block)
        return whole

    return read


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection: HDF5 waits for fsspec's thread while it holds the lock of h5py.

    If that thread came to collect an object of h5py, which needs the lock, both would wait for
    ever (h5py issue 2019).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


BACKENDS: dict[str, Callable[[str, Chunks, int], Read]] = {"remfile": _remfile, "fsspec": _fsspec}
