"""A file on a server, read as if it lay here: ranges over HTTP with a cache on disk."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Remote:
    """A file that is streamed.

    Attributes:
        url: Of its bytes, by way of redirects; the server has to answer ranges.
        name: Of the file.
        backend: What reads the ranges.
        cache: Folder of this file alone, in which ranges that were read are kept.
        size: Bytes that it must have.
    """

    url: str
    name: str
    backend: Literal["remfile", "fsspec"]
    cache: Path
    size: int

    def open(self) -> io.RawIOBase:
        """A file object to read and seek in.

        The server's size is held to `size`. Bytes are not: a checksum needs the whole file, so
        whoever has to be sure of them downloads it.

        Raises:
            UserError: The file is gone, or has another size.
            TransientError: The network failed, again and again; so may reading, later.
        """
        from neurofmx.data.streaming import open_ranges  # late: network libraries take a second

        return open_ranges(self)
