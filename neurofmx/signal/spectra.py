"""Log-mel spectra of sound: power in bands that are spaced as the ear hears them.

Frame k covers [(k + 1) · hop − span, (k + 1) · hop): it ends where a bin of counts of that number
would, so nothing in it is later than its place in time. With a Hann window w over the n samples x
of a frame, band b of the filters H gets

    P(f) = |Σ_t w(t) x(t) exp(−2πi f t)|² / (n Σ w²), folded to f ≥ 0
    L(b) = log(1 + Σ_f H(b, f) P(f) / FLOOR)

so that Σ_f P is the mean square of x under w². The bands are triangles on the scale
mel(f) = 2595 log₁₀(1 + f / 700), each from the centre of the one below, over 1 at its own, to the
centre of the next: between the first and the last centre they sum to 1.

Source: Davis & Mermelstein 1980, doi:10.1109/TASSP.1980.1163420; the scale as O'Shaughnessy 1987,
"Speech Communication", p. 150, and HTK have it.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Real
from numpy import ndarray
from scipy.fft import rfft, rfftfreq
from scipy.signal.windows import hann

FLOOR = 1e-10  # of the signal's unit², below which power counts as silence: −100 dB


def log_mel(
    values: Real[ndarray, "time channel"],
    rate: float,
    bands: int = 64,
    hop: float = 0.01,
    span: float = 0.025,
    low: float = 0.0,
    high: float | None = None,
    mask: Bool[ndarray, " time"] | None = None,
) -> tuple[Float[ndarray, "frame band"], Bool[ndarray, " frame"]]:
    """Log power of a sound in each band and frame, and whether all of a frame was recorded.

    The first frames reach back before the first sample: they are false in the mask and 0, as is
    every frame with a sample that is. A band too narrow for any frequency of the spectrum is 0.
    Of several channels the power is averaged.

    Args:
        values: Sound pressure, or what stands for it.
        rate: Samples per second (Hz).
        hop: From one frame to the next (s).
        span: Length of a frame (s).
        low, high: Edges of the lowest and the highest band (Hz); None is half the rate.
        mask: False where nothing was recorded.

    Raises:
        ValueError: A frame would have no two samples, a hop none, or the bands do not lie between
            0 and half the rate.
    """
    n, high = round(span * rate), rate / 2 if high is None else high
    if n < 2 or hop * rate < 1 or bands < 1:
        raise ValueError(
            f"{bands} bands of frames of {span} s, one every {hop} s, at {rate:g} Hz: a frame "
            "needs two samples, a hop one, and there must be a band"
        )
    filters = mel_filters(n, rate, bands, low, high)
    # A duration is a whole number of samples only to the nearest half.
    count = int((len(values) + 0.5) / (hop * rate))
    stops = np.rint(np.arange(1, count + 1) * hop * rate).astype(int).clip(max=len(values))
    seen = stops >= n
    if mask is not None:
        missing = np.r_[0, np.cumsum(~mask)]
        seen &= missing[stops] == missing[(stops - n).clip(0)]
    mel = np.zeros((len(stops), bands), np.float32)
    if seen.any():
        frames = np.lib.stride_tricks.sliding_window_view(values, n, axis=0)[stops[seen] - n]
        mel[seen] = np.log1p(_power(frames.astype(np.float32, copy=False)) @ filters.T / FLOOR)
    return mel, seen


def _power(frames: Float[ndarray, "frame channel sample"]) -> Float[ndarray, "frame frequency"]:
    """P of each frame, averaged over channels."""
    n = frames.shape[-1]
    window = hann(n, sym=False).astype(np.float32)
    power = np.abs(rfft(frames * window)) ** 2 / (n * (window**2).sum())
    power[..., 1 : (n + 1) // 2] *= 2  # but for 0 and half the rate, which have no mirror image
    return power.mean(axis=1)


@lru_cache(maxsize=16)
def mel_filters(
    n: int, rate: float, bands: int, low: float, high: float
) -> Float[ndarray, "band frequency"]:
    """H: the weight of each frequency of an FFT of n samples in each band.

    Raises:
        ValueError: The bands do not lie between 0 and half the rate (Hz).
    """
    if not 0 <= low < high <= rate / 2:
        raise ValueError(
            f"bands from {low:g} to {high:g} Hz at a rate of {rate:g} Hz; they have to lie "
            f"between 0 and {rate / 2:g} Hz"
        )
    edges = mel_edges(bands, low, high)
    below, centre, above = (edges[k : k + bands, None] for k in range(3))
    frequency = rfftfreq(n, 1.0 / rate)
    rising, falling = (frequency - below) / (centre - below), (above - frequency) / (above - centre)
    filters = np.minimum(rising, falling).clip(0).astype(np.float32)
    filters.flags.writeable = False
    return filters


def mel_edges(bands: int, low: float, high: float) -> Float[ndarray, " edge"]:
    """Edges and, between the first and the last, centres of the bands (Hz)."""
    ends = 2595.0 * np.log10(1.0 + np.array([low, high]) / 700.0)
    mel = np.linspace(ends[0], ends[1], bands + 2)
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
