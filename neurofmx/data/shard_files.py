"""Where the bytes of shards come from: files mapped into memory, or ranges over the network.

Over the network a window that was read is kept, the least recently used go first, up to a bound in
bytes. Windows are what is kept, and not blocks, because in shuffled order a block of megabytes
would be fetched for each window in it. Read in their order, windows follow each other in a shard,
and then one request brings the next `AHEAD` bytes of it.
"""

import errno
import mmap
import os
import time
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from neurofmx.data import network
from neurofmx.errors import TransientError, UserError

MAPPED = 256  # shards at a time; each costs a file descriptor, of which a process has about 1000
AHEAD = 4 * 2**20  # bytes
GAP = 64 * 2**10  # bytes between windows that are fetched together all the same


class Range(NamedTuple):
    """Bytes of a shard."""

    shard: str
    offset: int
    length: int

    @property
    def stop(self) -> int:
        """After the last byte."""
        return self.offset + self.length


class LocalFiles:
    """The files of a folder; shards are mapped, and a range is a view that nothing copies."""

    steady = True  # what was sound when it was read stays so

    def __init__(self, folder: Path):
        self.folder = folder
        self._mapped = lru_cache(maxsize=MAPPED)(self._map)

    def source(self, name: str) -> Path:
        """What a reader of Parquet can open; raises FileNotFoundError."""
        return (self.folder / name).resolve(strict=True)

    def whole(self, name: str) -> bytes:
        """A file's bytes; raises FileNotFoundError."""
        return (self.folder / name).read_bytes()

    def read(self, wanted: Range) -> UInt8[ndarray, " byte"]:
        """A range of a shard, short where the file ends before; raises FileNotFoundError."""
        mapped, content = self._mapped(wanted.shard)
        # Its size now: to touch what was cut off since would kill the process.
        end = mapped.size() if mapped else 0
        return content[wanted.offset : min(wanted.stop, end)]

    def fetch(self, wanted: Iterable[Range]) -> None:
        """Nothing: pages come when they are read."""

    def _map(self, shard: str) -> tuple[mmap.mmap | None, UInt8[ndarray, " byte"]]:
        with (self.folder / shard).open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:  # which cannot be mapped
                return None, np.zeros(0, np.uint8)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return mapped, np.frombuffer(mapped, np.uint8)


class RemoteFiles:
    """The files below a URL that fsspec knows, such as `s3://`, `gs://`, `https://`, `memory://`.

    Args:
        url: Of the folder.
        cache_bytes: Of windows that are kept in memory.
    """

    steady = False  # it comes over the network again

    def __init__(self, url: str, cache_bytes: int):
        self.url, self.cache_bytes = url.rstrip("/"), cache_bytes
        self._kept: OrderedDict[Range, bytes] = OrderedDict()
        self._size, self._lock = 0, Lock()
        self._last = Range("", 0, 0)  # that was read
        self._ahead = (self._last, b"")
        self._system: tuple[int, Any] = (0, None)

    def source(self, name: str) -> bytes:
        """As `whole`: a table that is read column by column would be thousands of requests."""
        return self.whole(name)

    def whole(self, name: str) -> bytes:
        """A file's bytes; raises FileNotFoundError."""
        return self._get(name, None, None)

    def read(self, wanted: Range) -> UInt8[ndarray, " byte"]:
        """A range of a shard, short where the file ends before.

        Raises:
            FileNotFoundError: There is no such shard.
            UserError: The server does not give it, or knows no ranges.
            TransientError: The network failed, again and again.
        """
        with self._lock:
            found = self._kept.get(wanted)
            if found is not None:
                self._kept.move_to_end(wanted)
        if found is None:
            found = self._in_order(wanted)
            self._keep(wanted, found)
        self._last = wanted
        return np.frombuffer(found, np.uint8)

    def fetch(self, wanted: Iterable[Range]) -> None:
        """Have ranges at hand, in few requests at a time; reading says what is wrong with one."""
        with self._lock:
            absent = sorted({one for one in wanted if one not in self._kept})
        groups: list[list[Range]] = []
        for one in absent:
            before = groups[-1][0] if groups else None
            if before and before.shard == one.shard and self._near(groups[-1], one):
                groups[-1].append(one)
            else:
                groups.append([one])
        if not groups:
            return
        came = self._filesystem().cat_ranges(
            [f"{self.url}/{group[0].shard}" for group in groups],
            [group[0].offset for group in groups],
            [group[-1].stop for group in groups],
            on_error="return",
        )
        for group, content in zip(groups, came, strict=True):
            if isinstance(content, bytes) and len(content) == group[-1].stop - group[0].offset:
                for one in group:
                    start = one.offset - group[0].offset
                    self._keep(one, content[start : start + one.length])

    @staticmethod
    def _near(group: list[Range], one: Range) -> bool:
        whole = one.stop - group[0].offset
        return one.offset - group[-1].stop <= GAP and whole <= AHEAD

    def _in_order(self, wanted: Range) -> bytes:
        """A range that is not kept, with what follows it where the one before it was the last."""
        follows = (self._last.shard, self._last.stop) == (wanted.shard, wanted.offset)
        held, content = self._ahead
        start = wanted.offset - held.offset
        if not (held.shard == wanted.shard and start >= 0 and wanted.stop <= held.stop):
            n = max(wanted.length, AHEAD) if follows else wanted.length
            content, start = self._get(wanted.shard, wanted.offset, wanted.offset + n), 0
            if follows:
                self._ahead = (Range(wanted.shard, wanted.offset, len(content)), content)
        return content[start : start + wanted.length]

    def _keep(self, one: Range, content: bytes) -> None:
        with self._lock:
            self._size += len(content) - len(self._kept.pop(one, b""))
            self._kept[one] = content
            while self._size > self.cache_bytes:
                self._size -= len(self._kept.popitem(last=False)[1])

    def _get(self, name: str, start: int | None, stop: int | None) -> bytes:
        import aiohttp  # late: it takes a while

        where, fault = f"{self.url}/{name}", ""
        for attempt in range(network.ATTEMPTS):
            if attempt:
                time.sleep(network.BACKOFF * 2 ** (attempt - 1))
            try:
                found = self._filesystem().cat_file(where, start=start, end=stop)
            except FileNotFoundError:
                raise
            except (aiohttp.ClientError, OSError) as error:
                if _is_beyond_the_end(error):
                    return b""
                if _is_refusal(error):
                    raise UserError(f"{where}: the server answers {error}") from error
                fault = str(error)
            else:
                if stop is None or start is None or len(found) <= stop - start:
                    return found
                raise UserError(
                    f"{where}: {stop - start} bytes were asked for and {len(found)} came: this "
                    "server knows no ranges; copy the folder here, or serve it with one that does"
                )
        raise TransientError(f"{where} cannot be read: {fault}")

    def _filesystem(self) -> Any:
        """Of this process: connections do not outlive a fork."""
        if self._system[0] != os.getpid():
            import fsspec  # late, as above

            self._system = (os.getpid(), fsspec.core.url_to_fs(self.url)[0])
        return self._system[1]


def _is_beyond_the_end(error: Exception) -> bool:
    """Of a range: as HTTP and as s3fs say it."""
    return (
        getattr(error, "status", 0) == network.OUTSIDE or getattr(error, "errno", 0) == errno.EINVAL
    )


def _is_refusal(error: Exception) -> bool:
    """True for an answer that asking again does not change."""
    status = getattr(error, "status", None)
    return isinstance(error, PermissionError) or (status is not None and status not in network.BUSY)


Files = LocalFiles | RemoteFiles


def open_files(folder: Path | str, cache_bytes: int) -> Files:
    """The files of a folder on this machine, or of one that a URL names.

    Args:
        folder: A path, or a URL with `://`.
        cache_bytes: Of a remote folder that are kept in memory.
    """
    scheme, _, path = str(folder).rpartition("://")
    if scheme in ("", "file", "local"):
        return LocalFiles(Path(path).absolute())
    return RemoteFiles(str(folder), cache_bytes)
