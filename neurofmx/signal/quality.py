"""What is wrong with sampled potentials: clipping, channels that do not move, hum of the mains.

Figures are gathered over blocks of rows, and `Quality` of one block plus that of the next is
`Quality` of both: a recording of any length is judged in the memory of a block, in any order of
work. Nothing depends on the scale of the values, so integers are looked at as they are stored.

    saturation   samples at the channel's largest or smallest value, but for one at each
    flat         channels with one value throughout
    dead         channels with less than 1e-3 of the power of the median channel, where a channel's
                 spread is its median over segments: an artefact does not bring it to life
    line noise   power within 1 Hz of 50 or 60 Hz, or of 2 or 3 times that, over the power 3 to
                 6 Hz to either side, as Welch's averaged periodograms (Hann windows) give them
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from numpy import ndarray
from scipy.fft import rfft, rfftfreq
from scipy.signal.windows import hann

MAINS = (50.0, 60.0, 100.0, 120.0, 150.0, 180.0)  # Hz
LINE, BESIDE = 1.0, (3.0, 6.0)  # Hz from the line
SEGMENT = 1024  # samples at least, and a second, in a periodogram
DEAD = 1e-3  # of the median channel's power


@dataclass(frozen=True)
class Extreme:
    """How often a channel is at its largest value.

    Attributes:
        value: The largest, per channel; NaN where all are.
        count: Samples that have it.
    """

    value: Float[ndarray, " channel"]
    count: Int[ndarray, " channel"]

    def __add__(self, later: "Extreme") -> "Extreme":
        value = np.fmax(self.value, later.value)
        count = sum(np.where(each.value == value, each.count, 0) for each in (self, later))
        return Extreme(value, np.asarray(count))


@dataclass(frozen=True)
class Quality:
    """Figures of a stretch of samples, to be added up in order of time.

    Attributes:
        n: Samples.
        top, bottom: Its extremes; those of `bottom` are of the negated values.
        spread: Standard deviation within each segment.
        lines: Sums over segments of the power at each of `MAINS` and beside it.
    """

    n: int
    top: Extreme
    bottom: Extreme
    spread: Float[ndarray, "segment channel"]
    lines: Float[ndarray, "line 2 channel"]

    def __add__(self, later: "Quality") -> "Quality":
        return Quality(
            self.n + later.n,
            self.top + later.top,
            self.bottom + later.bottom,
            np.concatenate([self.spread, later.spread]),
            self.lines + later.lines,
        )

    @property
    def flat(self) -> Bool[ndarray, " channel"]:
        """Channels with one value throughout; of NaN alone nothing is said."""
        return self.top.value == -self.bottom.value

    @property
    def dead(self) -> Bool[ndarray, " channel"]:
        """Channels that move, but next to nothing compared with the others."""
        power = np.median(self.spread, axis=0) ** 2
        if self.flat.all():
            return np.zeros_like(self.flat)
        return ~self.flat & (power < DEAD * np.median(power[~self.flat]))

    @property
    def saturation(self) -> float:
        """Share of samples stuck at an extreme, flat channels aside."""
        stuck = (np.maximum(end.count - 1, 0)[~self.flat] for end in (self.top, self.bottom))
        size = self.n * int((~self.flat).sum())
        return float(sum(counts.sum() for counts in stuck) / size) if size else 0.0

    @property
    def line_noise(self) -> tuple[float, float]:
        """The strongest line: dB over its surroundings in the median channel, and its frequency.

        NaN where the rate is too low for any, or no channel lives.
        """
        alive = ~self.flat & ~self.dead & (self.lines[:, 1] > 0).any(axis=0)
        seen = (self.lines[:, 1] > 0).any(axis=1)
        if not (alive.any() and seen.any()):
            return np.nan, np.nan
        power, beside = self.lines[seen][:, 0, alive], self.lines[seen][:, 1, alive]
        decibels = np.median(10 * np.log10(power / beside), axis=1)
        strongest = int(np.argmax(decibels))
        return float(decibels[strongest]), float(np.array(MAINS)[seen][strongest])


def segment_length(rate: float) -> int:
    """Samples in a segment at a rate (Hz); blocks that are to be added hold whole segments."""
    return max(SEGMENT, round(rate))


def quality(values: Num[ndarray, "time channel"], rate: float) -> Quality:
    """The figures of a block of samples.

    Args:
        values: In any unit; NaN is left out.
        rate: Hz.
    """
    length = segment_length(rate)
    starts = [k for k in range(0, len(values), length) if k == 0 or len(values) - k > length // 2]
    spread = np.zeros((len(starts), values.shape[1]))
    lines = np.zeros((len(MAINS), 2, values.shape[1]))
    for row, start in enumerate(starts):
        centred, count = _centred(values[start : start + length])
        spread[row] = np.sqrt((centred**2).sum(axis=0) / np.maximum(count, 1))
        lines += _lines(centred, rate)
    extremes = _extreme(values, np.fmax, 1.0), _extreme(values, np.fmin, -1.0)
    return Quality(len(values), *extremes, spread, lines)


def _extreme(values: Num[ndarray, "time channel"], outer: np.ufunc, sign: float) -> Extreme:
    value = outer.reduce(values, axis=0)
    return Extreme(sign * np.asarray(value, np.float64), (values == value).sum(axis=0))


def _centred(
    segment: Num[ndarray, "time channel"],
) -> tuple[Float[ndarray, "time channel"], Int[ndarray, " channel"]]:
    """The segment about each channel's mean, 0 where it is NaN, and how many are not."""
    if segment.dtype.kind != "f":
        segment = segment.astype(np.float32)
        segment -= segment.mean(axis=0, dtype=np.float64).astype(np.float32)
        return segment, np.full(segment.shape[1], len(segment))
    finite = np.isfinite(segment)
    count = finite.sum(axis=0)
    mean = np.where(finite, segment, 0).sum(axis=0, dtype=np.float64) / np.maximum(count, 1)
    return np.where(finite, segment - mean.astype(segment.dtype), 0), count


def _lines(
    centred: Float[ndarray, "time channel"], rate: float
) -> Float[ndarray, "line 2 channel"]:
    """Mean power of one periodogram at each line and beside it; 0 where the rate is too low."""
    frequencies = rfftfreq(len(centred), 1.0 / rate)
    power = np.zeros((len(MAINS), 2, centred.shape[1]))
    if BESIDE[1] + MAINS[0] > frequencies[-1] or frequencies[1] > LINE:
        return power
    window = hann(len(centred), sym=False).astype(centred.dtype)[:, None]
    spectrum = rfft(centred * window, axis=0)
    for row, line in enumerate(MAINS):
        if line + BESIDE[1] > frequencies[-1]:
            continue
        away = np.abs(frequencies - line)
        for column, band in enumerate((away <= LINE, (away >= BESIDE[0]) & (away <= BESIDE[1]))):
            power[row, column] = (np.abs(spectrum[band]) ** 2).mean(axis=0)
    return power
