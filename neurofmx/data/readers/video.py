"""Video as a signal: grey frames over time, shrunk by averaging over areas as they are read.

Frames lie in the NWB file (`ImageSeries.data`, time × height × width, with or without colours) or
in video files beside it, which PyAV decodes. A sample is a frame, row after row: time × (height ·
width), grey as ITU-R BT.601 weighs red, green and blue.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped, UInt8
from numpy import ndarray
from pynwb.image import ImageSeries

from neurofmx.data.arrays import Rows
from neurofmx.data.readers.nwb_times import sampling_of
from neurofmx.data.signal_cards import SignalCard
from neurofmx.errors import DataError
from neurofmx.types import Samples

GREY = np.array([0.299, 0.587, 0.114], np.float32)
BATCH_BYTES = 64 * 2**20  # of full frames at a time
MEND = "mend the file, or fetch the videos again"
BROKEN = (av.FFmpegError, IndexError, StopIteration)


class Stack(Rows):
    """Frames that lie in an array, shrunk as they are read.

    Args:
        stored: Time × height × width, or with three colours as a last axis.
        size: Height and width of a frame (pixels); smaller frames stay as they are.
    """

    def __init__(self, stored: Any, size: tuple[int, int]):
        super().__init__(stored)
        height, width = stored.shape[1:3]
        self.down, self.across = areas(height, size[0]), areas(width, size[1])
        self.size = len(self.down), len(self.across)
        self.shape = (stored.shape[0], self.size[0] * self.size[1])
        self.dtype = np.dtype(np.uint8 if stored.dtype == np.uint8 else np.float32)
        self._rows = max(1, BATCH_BYTES // (4 * int(np.prod(stored.shape[1:]))))

    def __getitem__(self, rows: slice) -> Shaped[ndarray, "time channel"]:
        first, stop, _ = rows.indices(len(self))
        starts = range(first, stop, self._rows)
        parts = [np.zeros((0, self.shape[1]), self.dtype)]
        for k in starts:
            parts.append(super().__getitem__(slice(k, min(stop, k + self._rows))))
        return np.concatenate(parts)

    def convert(self, block: ndarray) -> Shaped[ndarray, "time channel"]:
        """The frames in grey and in their final size."""
        frames = block.astype(np.float32)
        grey = frames @ GREY if block.ndim == 4 else frames
        return _flat(self.down @ grey @ self.across.T, self.dtype)


class Film(Rows):
    """Frames of video files, decoded one after the other and shrunk as they are read.

    Reading on is cheap; going back starts the first file anew.

    Args:
        files: In the order of their frames.
        size: Height and width of a frame (pixels); smaller frames stay as they are.

    Raises:
        DataError: A file is absent or no video, or frames of two files differ in size.
    """

    def __init__(self, files: list[Path], size: tuple[int, int]):
        self.files, about = files, [frames_of(path) for path in files]
        self.counts = [len(times) for times, _ in about]
        shapes = {shape for _, shape in about}
        if len(shapes) > 1:
            raise DataError(f"{', '.join(p.name for p in files)} differ in size: {sorted(shapes)}")
        height, width = shapes.pop()
        self.down, self.across = areas(height, size[0]), areas(width, size[1])
        self.size = len(self.down), len(self.across)
        self.shape = (sum(self.counts), self.size[0] * self.size[1])
        self.dtype = np.dtype(np.uint8)
        self._next, self._film, self._lock = 0, self._decoded(), threading.Lock()

    def __getitem__(self, rows: slice) -> UInt8[ndarray, "time channel"]:
        first, stop, _ = rows.indices(len(self))
        out = np.empty((max(0, stop - first), self.shape[1]), self.dtype)
        with self._lock:
            if first < self._next:
                self._next, self._film = 0, self._decoded()
            for k in range(self._next, stop):
                frame = self._one(k)
                if k >= first:
                    grey = frame.to_ndarray(format="gray").astype(np.float32)
                    out[k - first] = _flat((self.down @ grey @ self.across.T)[None], self.dtype)[0]
        return out

    def _one(self, k: int) -> av.VideoFrame:
        """Frame k, which is the next."""
        try:
            frame = next(self._film)
        except BROKEN as error:
            ends = np.cumsum(self.counts)
            name = self.files[int(np.searchsorted(ends, k, side="right"))].name
            raise DataError(
                f"{name}: frame {k} of {len(self)} cannot be decoded ({error}); fetch it again"
            ) from error
        self._next = k + 1
        return frame

    def _decoded(self) -> Iterator[av.VideoFrame]:
        for path in self.files:
            with av.open(path) as container:
                yield from container.decode(video=0)


def read_video(series: ImageSeries, path: str, card: SignalCard, folder: Path | None) -> Samples:
    """The frames of an image series as samples.

    Args:
        path: Of the series in its file.
        card: Says how large frames are to be.
        folder: Of the NWB file; None where that is streamed.

    Raises:
        DataError: A video is absent or damaged, or its frames are not those of the timestamps.
    """
    values: Stack | Film
    if series.external_file is not None and len(series.external_file):
        values = Film(_files(series, folder), card.size)
        _check_counts(series, values)
    else:
        _check_frames(series)
        values = Stack(series.data, card.size)
    rate, t0, times = sampling_of(series, len(values))
    return Samples(values, "1", rate, t0, times, None, _pixels(values.size), "video", path)


def areas(n: int, m: int) -> Float[ndarray, "cell pixel"]:
    """Weights that average n pixels over m cells of equal width; n where that is fewer."""
    m = min(n, m)
    edges = np.arange(m + 1) * n / m
    pixel = np.arange(n)
    low, high = np.maximum(edges[:-1, None], pixel), np.minimum(edges[1:, None], pixel + 1)
    return (np.clip(high - low, 0, None) * m / n).astype(np.float32)


def frames_of(path: Path) -> tuple[Float[ndarray, " time"], tuple[int, int]]:
    """Time of each frame of a video file on its own clock (s), and height and width (pixels).

    Nothing is decoded: frames are counted as packets of the file.

    Raises:
        DataError: It is absent, or it is no video.
    """
    if not path.exists():
        raise DataError(f"video {path.name} is not there; fetch it, or take it out of the card")
    try:
        with av.open(path) as container:
            stream = container.streams.video[0]
            packets = [packet for packet in container.demux(stream) if packet.size]
            shape = stream.height, stream.width
    except BROKEN as error:
        raise DataError(f"{path.name} cannot be read as video: {error}; fetch it again") from error
    times = sorted(float(p.pts * p.time_base) for p in packets if p.pts is not None)
    if not times or not all(shape):
        raise DataError(f"{path.name} holds no frames with times; fetch it again")
    return np.array(times), shape


def _files(series: ImageSeries, folder: Path | None) -> list[Path]:
    names = [name.decode() if isinstance(name, bytes) else name for name in series.external_file[:]]
    if folder is None:
        raise DataError(
            f"its frames are in {', '.join(names)}, beside an NWB file that is streamed; "
            "set ingest.access to download"
        )
    return [folder / name for name in names]


def _check_counts(series: ImageSeries, film: Film) -> None:
    starts = np.r_[0, np.cumsum(film.counts)[:-1]]
    said = series.starting_frame
    number = None if series.timestamps is not None else series.num_samples
    if said is not None and not np.array_equal(np.asarray(said[:]), starts):
        raise DataError(
            f"starting_frame is {np.asarray(said[:]).tolist()}, but the video files have "
            f"{film.counts} frames; {MEND}"
        )
    if number is not None and number != len(film):
        raise DataError(
            f"num_samples is {number}, but the video files have {len(film)} frames; {MEND}"
        )


def _check_frames(series: ImageSeries) -> None:
    shape: tuple[int, ...] = getattr(series.data, "shape", ())
    if len(shape) not in (3, 4) or 0 in shape or shape[3:] not in ((), (len(GREY),)):
        raise DataError(
            f"has shape {shape}; frames are time × height × width, with or without 3 colours"
        )


def _pixels(size: tuple[int, int]) -> pd.DataFrame:
    row, column = np.divmod(np.arange(size[0] * size[1]), size[1])
    return pd.DataFrame({"id": np.arange(len(row)), "row": row, "column": column})


def _flat(frames: ndarray, dtype: np.dtype) -> Shaped[ndarray, "time channel"]:
    whole = np.rint(frames) if dtype == np.uint8 else frames
    return whole.astype(dtype).reshape(len(frames), -1)
