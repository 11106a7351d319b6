"""What was planted in synthetic recordings, and whether it is found again.

Latents: a linear map from features to the planted state z, fitted on train, its penalty chosen on
valid, judged on test. Beside our features stand those of the untrained model, and the spike counts
themselves, smoothed. A linear map finds only what the features already hold side by side.

Clocks: the drift that align fitted, against the one that was planted.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray
from scipy.ndimage import gaussian_filter1d
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neurofmx.signal.bins import bin_events
from neurofmx.types import AlignedRecording, Events

ALPHAS = np.logspace(-1, 5, 7)
WIDTHS = (0.02, 0.05, 0.1, 0.2)  # s, of the Gaussian over counts
BIN = 0.01  # s


def read_truth(path: Path) -> dict[str, Any]:
    """The arrays that the generator saved: `times`, `latents`, `offset`, `drift`, …"""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def latents_at(
    truth: dict[str, Any], times: Float[ndarray, " time"]
) -> Float[ndarray, "time latent"]:
    """The planted state at some times of the recording (s)."""
    return np.stack([np.interp(times, truth["times"], z) for z in truth["latents"].T], axis=1)


def linear_map(
    x: dict[str, Float[ndarray, "_time feature"]], z: dict[str, Float[ndarray, "_time latent"]]
) -> tuple[Float[ndarray, " latent"], float]:
    """R² of each latent on test, and on valid their mean, of the ridge that is best on valid.

    R² is about the test mean, each latent by itself, not clipped.
    """
    best: tuple[float, Any] = (-np.inf, None)
    x = {split: values.astype(np.float64) for split, values in x.items()}
    for alpha in ALPHAS:
        line = make_pipeline(StandardScaler(), Ridge(alpha)).fit(x["train"], z["train"])
        score = r2_score(z["valid"], line.predict(x["valid"]))
        best = max(best, (score, line), key=lambda pair: pair[0])
    return r2_score(z["test"], best[1].predict(x["test"]), multioutput="raw_values"), best[0]


def smoothed_counts(
    spikes: Events, times: dict[str, Float[ndarray, " _time"]], width: float
) -> dict[str, Float[ndarray, "_time unit"]]:
    """Rate of each unit (Hz) at some times of each split, under a Gaussian of `width` s."""
    t0, stop = min(t[0] for t in times.values()) - 1.0, max(t[-1] for t in times.values()) + 1.0
    n = int((stop - t0) / BIN)
    counts = bin_events(spikes.times, spikes.index, len(spikes.units), t0, BIN, n)
    rates = gaussian_filter1d(counts / BIN, width / BIN, axis=0)
    return {s: rates[((t - t0) / BIN).astype(int).clip(0, n - 1)] for s, t in times.items()}


def counts_map(
    spikes: Events,
    times: dict[str, Float[ndarray, " _time"]],
    z: dict[str, Float[ndarray, "_time latent"]],
) -> Float[ndarray, " latent"]:
    """`linear_map` from smoothed counts, the width chosen on valid too."""
    found = [linear_map(smoothed_counts(spikes, times, width), z) for width in WIDTHS]
    return max(found, key=lambda pair: pair[1])[0]


def clock_errors(recording: AlignedRecording, truth: dict[str, Any]) -> pd.DataFrame:
    """A row per device: drift as planted and as fitted (ppm), and the error of the offset (s)."""
    rows = [
        {
            "recording": recording.id,
            "device": device,
            "planted": float(truth["drift"]),
            "fitted": clock.drift,
            "error_ppm": clock.drift - float(truth["drift"]),
            "offset_error": clock.offset - float(truth["offset"]),
            "events": clock.n_events,
        }
        for device, clock in recording.clocks.items()
    ]
    return pd.DataFrame(rows)
