"""The analyses of a trained model, by name: each gives tables, figures, and what failed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy import ndarray

from neurofmx.interpretability import planted, sae, tuning
from neurofmx.interpretability.capture import SPLITS, beside, fuse, nearest
from neurofmx.interpretability.cka import linear_cka
from neurofmx.interpretability.study import FROZEN, OURS, SECOND, UNTRAINED, Result, Study
from neurofmx.training.inference import Answers
from neurofmx.types import AlignedRecording, Events

RECOVERED = 0.8  # R² from which planted latents count as recovered
MAX_PPM = 1.0  # error of a fitted drift
FALSE_DISCOVERIES = 0.05
MIN_RATE = 0.01  # share of tokens below which a direction has no curve worth judging
MAX_DEAD = 0.3  # share of directions
MIN_AGREEMENT = 0.7  # cosine between seeds


def take_apart(study: Study) -> Result:
    """A dictionary of the backbone's features beside its controls, judged on test windows."""
    ours = study.dictionaries[OURS][1]
    directions = {n: s.dictionary.detach().numpy() for n, (_, s) in study.dictionaries.items()}
    rows = [
        {"dictionary": name, "features_of": model, **sae.health(found, study.scaled(model, "test"))}
        | {
            "mmcs_with_ours": sae.mmcs(directions[OURS], directions[name]),
            "size": len(found.encoder),
        }
        for name, (model, found) in study.dictionaries.items()
    ]
    table = pd.DataFrame(rows)
    by_name = table.set_index("dictionary")
    # Directions of models of different weights share no axes.
    table.loc[table["dictionary"] == UNTRAINED, "mmcs_with_ours"] = np.nan
    explained = by_name["explained_variance"]
    failed = []
    if explained[OURS] <= explained[FROZEN]:
        failed.append("sae: the learnt dictionary explains no more than the frozen random one")
    if by_name["dead"][OURS] > MAX_DEAD:
        failed.append(f"sae: {by_name['dead'][OURS]:.0%} of the directions are never used on test")
    cosine = by_name["mmcs_with_ours"]
    if cosine[SECOND] < MIN_AGREEMENT:
        failed.append(
            "sae: single directions are not to be trusted: those of two seeds agree with a mean "
            f"best cosine of {cosine[SECOND]:.2f}, random ones with {cosine[FROZEN]:.2f}"
        )
    tables = {"sae": table, "sae_features": _density(study, ours)}
    return Result(tables, {"sae": by_name.loc[OURS].drop("features_of").to_dict()}, failed)


@torch.no_grad()
def _density(study: Study, found: sae.TopKSAE) -> pd.DataFrame:
    """A row per direction and recording: how often and how strongly it is used on test."""
    parts = []
    for recording in study.recordings:
        z = found(study.scaled(OURS, "test", recording))[1].numpy()
        used = (z > 0).sum(axis=0)
        strength = z.sum(axis=0) / np.maximum(used, 1)
        parts.append(
            pd.DataFrame(
                {
                    "feature": np.arange(z.shape[1]),
                    "recording": recording,
                    "density": used / len(z),
                    "strength": strength,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def compare(study: Study) -> Result:
    """How far training moved the features of each signal: CKA with the untrained model's.

    Beside it that with the untrained model's features of other tokens, 0 but for chance.
    """
    rng, rows = np.random.default_rng(study.seed), []
    for signal, found in study.captured.items():
        ours, untrained = (found.of(model, "test") for model in (OURS, UNTRAINED))
        try:
            cka = linear_cka(ours, untrained)
            other = linear_cka(ours, rng.permutation(untrained))
        except ValueError as error:
            return Result(failed=[f"cka: {signal}: {error}"])
        rows.append({"signal": signal, "tokens": len(ours), "cka": cka, "cka_of_others": other})
    moved = {str(row["signal"]): float(f"{row['cka']:.4f}") for row in rows}
    values = {"cka_with_untrained": moved}
    return Result({"cka": pd.DataFrame(rows)}, values)


def tune(study: Study) -> Result:
    """Held-out tuning of single units, and of the directions of the dictionary."""
    if not study.regressions:
        return Result(failed=["tuning: the card has no continuous target to tune to"])
    scores, curves, failed = [], [], []
    for recording in study.recordings:
        for task in study.regressions:
            try:
                found = _tuned(study, recording, task)
            except ValueError as error:
                failed.append(f"tuning: {recording}, {task}: {error}")
                continue
            scores += found[0]
            curves += found[1]
    if not scores:
        return Result(failed=failed)
    table = pd.concat(scores, ignore_index=True)
    share = (table["q"] < FALSE_DISCOVERIES).groupby(table["kind"]).mean()
    values = {"tuned_share": {kind: round(float(v), 4) for kind, v in share.items()}}
    tables = {"tuning": table, "tuning_curves": pd.concat(curves, ignore_index=True)}
    return Result(tables, values, failed)


def _tuned(study: Study, recording: str, task: str) -> tuple[list[Any], list[Any]]:
    tokens = study.captured[study.signal].tokens[OURS]
    at = {
        s: beside(study.shards, tokens[s], recording, study.signal, task) for s in ("train", "test")
    }
    for split, found in at.items():
        if found.asked.sum() < 10 * study.params.tuning.bins:
            raise ValueError(f"only {found.asked.sum()} tokens of {split} have a defined target")
    responses = {"unit": {s: b.units[b.asked] for s, b in at.items()}}
    responses["feature"] = {s: _used(study, recording, s)[b.asked] for s, b in at.items()}
    scores: list[pd.DataFrame] = []
    curves: list[pd.DataFrame] = []
    for dim in range(at["train"].behaviour.shape[1]):
        behaviour = {s: b.behaviour[b.asked, dim] for s, b in at.items()}
        for kind, values in responses.items():
            kept = np.flatnonzero((values["train"] != 0).mean(axis=0) >= MIN_RATE)
            if len(kept) == 0:
                continue
            rng = np.random.default_rng([study.seed, dim])
            chosen = {s: v[:, kept].astype(np.float64) for s, v in values.items()}
            made = tuning.tuning_curves(behaviour, chosen, study.params.tuning, rng)
            place = {"kind": kind, "recording": recording, "task": task, "dim": dim}
            for rows, table in ((scores, tuning.score_table), (curves, tuning.curve_table)):
                rows.append(table(made).assign(**place, unit=lambda t, k=kept: k[t["unit"]]))
    return scores, curves


@torch.no_grad()
def _used(study: Study, recording: str, split: str) -> Float[ndarray, "token feature"]:
    return study.dictionaries[OURS][1](study.scaled(OURS, split, recording))[1].numpy()


def find_planted(study: Study) -> Result:
    """Planted latents in what the model holds at an instant, and planted drift in the clocks."""
    if not study.card.synthetic:
        return Result()
    asked = study.regressions[0]
    fused = fuse(study.models, study.shards, study.recordings, asked, study.held_out)
    rows, clocks = [], []
    for recording in study.recordings:
        truth = planted.read_truth(study.storage / "ingest" / "truth" / f"{recording}.npz")
        aligned = study.aligned(recording)
        clocks.append(planted.clock_errors(aligned, truth))
        for source, r2 in _recovered(study, fused, recording, aligned, truth).items():
            rows += [
                {"recording": recording, "source": source, "latent": k, "r2": value}
                for k, value in enumerate(r2)
            ]
    table, drift = pd.DataFrame(rows), pd.concat(clocks, ignore_index=True)
    mean = table.groupby("source")["r2"].mean()
    failed = []
    if mean[OURS] <= RECOVERED:
        failed.append(f"planted: latents are recovered with R² {mean[OURS]:.3f} ≤ {RECOVERED}")
    if mean[OURS] <= mean[UNTRAINED]:
        failed.append("planted: the untrained model's features do as well as ours")
    worst = float(drift["error_ppm"].abs().max())
    if worst > MAX_PPM:
        failed.append(f"planted: a clock's drift is off by {worst:.2f} ppm > {MAX_PPM}")
    values = {"planted_r2": mean.round(4).to_dict(), "drift_error_ppm": round(worst, 4)}
    return Result({"planted": table, "planted_clocks": drift}, values, failed)


def _recovered(
    study: Study,
    fused: dict[str, dict[str, Answers]],
    recording: str,
    aligned: AlignedRecording,
    truth: dict[str, Any],
) -> dict[str, Float[ndarray, " latent"]]:
    """R² of each latent by what it is read from."""
    found: dict[str, Float[ndarray, " latent"]] = {}
    times, z = {}, {}
    for model, by_split in fused.items():
        x = {}
        for split in SPLITS:
            chosen = by_split[split].recording == recording
            times[split] = by_split[split].time[chosen]
            z[split] = planted.latents_at(truth, times[split])
            parts = [by_split[split].features[chosen]]
            for here in study.captured.values():
                own = here.of(model, split, recording)
                parts.append(nearest(here.times(split, recording), own, times[split]))
            x[split] = np.hstack(parts)
        found[model] = planted.linear_map(x, z)[0]
    for name, signal in aligned.signals.items():
        if isinstance(signal, Events) and name in study.card.inputs:
            found["smoothed counts"] = planted.counts_map(signal, times, z)
    return found


ANALYSES: dict[str, Callable[[Study], Result]] = {
    "sae": take_apart,
    "cka": compare,
    "tuning": tune,
    "planted": find_planted,
}
