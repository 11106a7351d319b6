"""Scores of predicted spike counts, as the Neural Latents Benchmark defines them.

    bits per spike = (NLL_null − NLL) / (Σ spikes · ln 2),  NLL = Σ (r − s ln r + ln Γ(s + 1))

r are spikes predicted per bin, s those counted. The null predicts of each unit its mean over the
scored spikes themselves, so it knows something that no model does. Bins whose count is NaN are
left out, and a rate of 0 is taken as 1e-9. PSTH R² is that of the trial averages by condition,
each unit by itself, averaged without weights.

Source: Pei et al. 2021, Neural Latents Benchmark '21, arXiv:2109.04463, and nlb_tools.
"""

import numpy as np
from jaxtyping import Bool, Float, Int, Real
from numpy import ndarray
from scipy.ndimage import convolve1d
from scipy.special import gammaln

from neurofmx.evaluation.metrics.base import ratio
from neurofmx.evaluation.metrics.numbers import r2

LEAST_RATE = 1e-9  # spikes per bin


def bits_per_spike(rates: Float[ndarray, "*bin unit"], counts: Real[ndarray, "*bin unit"]) -> float:
    """Poisson log-likelihood gained over each unit's mean rate, in bits per spike of all units.

    Args:
        rates: Predicted spikes per bin.
        counts: Observed spikes per bin; NaN where none were counted.

    Raises:
        ValueError: There is no spike, or a rate is negative or undefined.
    """
    gain, spikes = _gained(rates, counts)
    if spikes.sum() == 0:
        raise ValueError(f"bits per spike needs a spike; counts {counts.shape} hold none")
    return float(gain.sum() / spikes.sum() / np.log(2))


def unit_bits_per_spike(
    rates: Float[ndarray, "*bin unit"], counts: Real[ndarray, "*bin unit"]
) -> Float[ndarray, " unit"]:
    """The same of each unit by itself; NaN of a unit without a spike."""
    gain, spikes = _gained(rates, counts)
    return ratio(gain, spikes) / np.log(2)


def co_bps(
    rates: Float[ndarray, "*bin unit"],
    counts: Real[ndarray, "*bin unit"],
    held_out: Bool[ndarray, " unit"],
) -> float:
    """Co-smoothing: bits per spike of the units that the model was not shown.

    Args:
        held_out: True of those units; their rates were told from the others.

    Raises:
        ValueError: No unit was held out, they have no spike, or a rate is not one.
    """
    if not held_out.any():
        raise ValueError(f"co-smoothing scores held-out units; none of {len(held_out)} is")
    return bits_per_spike(rates[..., held_out], counts[..., held_out])


def psth(
    counts: Real[ndarray, "trial time unit"],
    condition: Int[ndarray, " trial"],
    kernel: Float[ndarray, " tap"],
) -> Float[ndarray, "condition time unit"]:
    """Smoothed trial average of each condition.

    Args:
        condition: Number of each trial's condition, from 0; each has a trial.
        kernel: Odd number of weights along time, centred; its sum is 1 to keep spikes per bin.
    """
    smooth = convolve1d(counts.astype(float), kernel, axis=1, mode="nearest")
    return np.stack([smooth[condition == k].mean(axis=0) for k in range(condition.max() + 1)])


def psth_r2(
    rates: Float[ndarray, "trial time unit"],
    truth: Float[ndarray, "condition time unit"],
    condition: Int[ndarray, " trial"],
) -> float:
    """R² of trial-averaged rates against PSTHs, mean over units.

    Args:
        rates: Predicted spikes per bin of single trials.
        truth: As `psth` gives it; time bins that are NaN are left out.
        condition: Row of `truth` that each trial belongs to; a row without a trial is left out.

    Raises:
        ValueError: The PSTH of a unit never changes.
    """
    answers, truths = [], []
    for k in np.unique(condition):
        known = ~np.isnan(truth[k, :, 0])
        truths.append(truth[k][known])
        answers.append(rates[condition == k].mean(axis=0)[known])
    y, p = np.concatenate(truths), np.concatenate(answers)
    each = r2(y, p, np.zeros(len(y), int)).whole()
    if not np.isfinite(each).all():
        flat = np.flatnonzero(~np.isfinite(each)).tolist()
        raise ValueError(f"PSTH R² is undefined: that of units {flat} never changes; drop them")
    return float(each.mean())


def _gained(
    rates: Float[ndarray, "*bin unit"], counts: Real[ndarray, "*bin unit"]
) -> tuple[Float[ndarray, " unit"], Float[ndarray, " unit"]]:
    """Nats gained over the null, and spikes, of each unit."""
    s = counts.reshape(-1, counts.shape[-1]).astype(float)
    r, known = rates.reshape(s.shape), ~np.isnan(s)
    if not (r[known] >= 0).all():
        raise ValueError(
            f"{int((~(r[known] >= 0)).sum())} of {known.sum()} rates are negative or NaN; spikes "
            "per bin are wanted, not their logarithms"
        )
    s = np.where(known, s, 0.0)
    spikes = s.sum(axis=0)
    null = np.broadcast_to(spikes / known.sum(axis=0).clip(1), s.shape)
    losses = [np.where(known, _loss(each, s), 0.0).sum(axis=0) for each in (null, r)]
    return losses[0] - losses[1], spikes


def _loss(
    r: Float[ndarray, "bin unit"], s: Float[ndarray, "bin unit"]
) -> Float[ndarray, "bin unit"]:
    r = np.where(r == 0, LEAST_RATE, r)
    return r - s * np.log(r) + gammaln(s + 1)
