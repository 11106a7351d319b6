"""Scores of the Neural Latents Benchmark, and its files.

Source: Pei et al. 2021, Neural Latents Benchmark '21, arXiv:2109.04463; nlb_tools, `evaluation.py`.
"""

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float, Int, Real
from numpy import ndarray
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV

from neurofmx.errors import UserError
from neurofmx.evaluation.metrics.ceilings import cc_norm, split_half
from neurofmx.evaluation.metrics.spikes import bits_per_spike, psth_r2, unit_bits_per_spike

UNITS = ("heldin", "heldout")
HALVES = 20  # random halves of the repeats
PENALTIES = np.logspace(-4, 0, 9)  # of the velocity decoder
Arrays = dict[str, Any]


def score(rates: dict[str, Arrays], known: dict[str, Arrays]) -> dict[str, dict[str, Any]]:
    """Scores of each group, as the benchmark defines them.

    Returns:
        By group: `co-bps`, `co-bps by unit`, and `fp-bps`, `vel R2`, `psth R2` and, which the
        benchmark has not, `CC norm` and `split half` where they are defined. `vel R2` is the mean
        of both dimensions and of the groups that have their own decoder; ridge is fitted on train
        rates, its penalty by cross-validation inside of them.

    Raises:
        UserError: A group has no truth, or arrays differ in shape.
    """
    return {name: _scored(name, arrays, known) for name, arrays in rates.items()}


def _scored(name: str, rates: Arrays, known: dict[str, Arrays]) -> dict[str, Any]:
    if name not in known:
        raise UserError(f"there is no truth for {name!r}, but for {', '.join(known) or 'nothing'}")
    target = known[name]
    held, counts = rates["eval_rates_heldout"], target["eval_spikes_heldout"]
    if held.shape != counts.shape:
        raise UserError(
            f"{name}: eval_rates_heldout is {held.shape} and the truth {counts.shape} (trial, bin, "
            "unit); both have to come from the same data, bins and split"
        )
    found = {"co-bps": bits_per_spike(held, counts)}
    found["co-bps by unit"] = unit_bits_per_spike(held, counts).tolist()
    if "eval_rates_heldout_forward" in rates:
        pairs = [("eval_rates", rates), ("eval_spikes", target)]
        ahead = [_both(arrays, prefix, "_forward") for prefix, arrays in pairs]
        found["fp-bps"] = bits_per_spike(*ahead)
    shown, trained = _both(rates, "eval_rates"), _both(rates, "train_rates")
    if "train_behavior" in target:
        found["vel R2"] = _velocity_r2(trained, shown, target)
    if "psth" in target:
        condition = np.full(len(shown), -1)
        for k, rows in enumerate(target["eval_cond_idx"]):
            condition[rows] = k
        used = condition >= 0
        found["psth R2"] = psth_r2(shown[used], target["psth"], condition[used])
        found |= _beside_noise(held[used], counts[used], condition[used])
    return found


def _beside_noise(
    rates: Float[ndarray, "trial time unit"],
    counts: Real[ndarray, "trial time unit"],
    condition: Int[ndarray, " trial"],
) -> dict[str, float]:
    """Medians over held-out units of the normalised correlation and of the split half.

    Trials of a condition are repeats, as many of each as the rarest has. Units whose repeats agree
    no more than noise does have no ceiling and are left out; without any, nothing is told.
    """
    trials = [np.flatnonzero(condition == k) for k in np.unique(condition)]
    repeats, found = min(map(len, trials)), []
    for unit in range(counts.shape[-1]):
        responses = np.hstack([counts[rows[:repeats], :, unit] for rows in trials]).astype(float)
        told = np.concatenate([rates[rows, :, unit].mean(axis=0) for rows in trials])
        known = np.isfinite(responses).all(axis=0)
        rng = np.random.default_rng(unit)
        try:
            half = split_half(responses[:, known], HALVES, rng)
            found.append((cc_norm(told[known], responses[:, known]), half))
        except ValueError:
            continue
    if not found:
        return {}
    return dict(zip(("CC norm", "split half"), np.median(found, axis=0).tolist(), strict=True))


def _both(arrays: Arrays, prefix: str, suffix: str = "") -> Float[ndarray, "trial time unit"]:
    return np.concatenate([arrays[f"{prefix}_{units}{suffix}"] for units in UNITS], axis=-1)


def _velocity_r2(
    train: Float[ndarray, "trial time unit"], shown: Float[ndarray, "_trial time unit"], y: Arrays
) -> float:
    masks = [
        y.get(f"{split}_decode_mask", np.ones((len(rates), 1), bool))
        for split, rates in (("train", train), ("eval", shown))
    ]
    scores = []
    for fitted, asked in zip(masks[0].T, masks[1].T, strict=True):
        a, b = _known(train[fitted], y["train_behavior"][fitted])
        decoder = GridSearchCV(Ridge(), {"alpha": PENALTIES}).fit(a, b)
        scores.append(decoder.score(*_known(shown[asked], y["eval_behavior"][asked])))
    return float(np.mean(scores))


def _known(
    rates: Float[ndarray, "trial time unit"], velocity: Float[ndarray, "trial time dim"]
) -> tuple[Float[ndarray, "row unit"], Float[ndarray, "row dim"]]:
    x, y = rates.reshape(-1, rates.shape[-1]), velocity.reshape(-1, velocity.shape[-1])
    rows = ~np.isnan(y[:, 0])
    return x[rows], y[rows]


def save(path: Path, groups: dict[str, Arrays]) -> None:
    """Write arrays by group, all or nothing; ragged ones as variable lengths."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with h5py.File(temporary, "w") as file:
        for group, arrays in groups.items():
            for name, values in arrays.items():
                if isinstance(values, list):
                    ragged = file.create_dataset(
                        f"{group}/{name}", len(values), h5py.vlen_dtype(np.int64)
                    )
                    for row, some in enumerate(values):
                        ragged[row] = some
                else:
                    file.create_dataset(f"{group}/{name}", data=values, compression="gzip")
    os.replace(temporary, path)


def load(path: Path) -> dict[str, Arrays]:
    """What `save` or nlb_tools wrote.

    Raises:
        UserError: There is no such file.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; `neurofmx nlb` writes it")
    with h5py.File(path) as file:
        return {g: {name: data[()] for name, data in file[g].items()} for g in file}
