"""What is in a folder of shards: the tables of `neurofmx inspect`."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from jaxtyping import Float
from numpy import ndarray
from rich.console import Group, RenderableType

from neurofmx.data.describe import shown
from neurofmx.data.samples import Sample
from neurofmx.data.shard_index import tokens_of
from neurofmx.data.shards import Shards
from neurofmx.errors import UserError


def describe(shards: Shards, sample: Sample) -> RenderableType:
    """The tables of `tables` and the arrays of one window, to be printed."""
    found = tables(shards) | {f"window {sample.key}": arrays(sample)}
    return Group(*[shown(title, table) for title, table in found.items() if len(table)])


def tables(shards: Shards) -> dict[str, pd.DataFrame]:
    """Splits, signals and tasks."""
    return {
        f"{shards.name}: windows": _splits(shards),
        "signals": _signals(shards),
        "tasks": pd.DataFrame([_task(name, task) for name, task in shards.tasks.items()]),
    }


def arrays(sample: Sample) -> pd.DataFrame:
    """A row per array: its shape, type and range."""
    rows = []
    for name, array in sample.arrays.items():
        shape = " × ".join(map(str, array.shape))
        span = f"{array.min():.4g} to {array.max():.4g}" if array.size else ""
        rows.append({"array": name, "shape": shape, "type": str(array.dtype), "range": span})
    return pd.DataFrame(rows)


def find(shards: Shards, key: str | None) -> int:
    """Position of a window; without a key, of the first one to train on.

    Raises:
        UserError: There is no such window.
    """
    if key is None:
        return int(next(iter(shards.positions("train")), 0))
    position = pc.index(shards.columns("key")["key"], key).as_py()
    if position < 0:
        raise UserError(
            f"there is no window {key!r} in {shards.folder}; keys are a recording and a number, "
            f"such as {shards.keys([0])[0]!r}"
        )
    return position


def covered(start: Float[ndarray, " window"], stop: Float[ndarray, " window"]) -> float:
    """Time that windows cover, where they overlap once (s)."""
    order = np.argsort(start)
    start, reached = start[order], np.maximum.accumulate(stop[order])
    before = np.concatenate([[-np.inf], reached[:-1]])
    return float(np.maximum(reached - np.maximum(start, before), 0.0).sum())


def _splits(shards: Shards) -> pd.DataFrame:
    names = ("start", "stop", "length", "shard")
    columns = shards.columns(*names)
    windows = pd.DataFrame({name: columns[name].to_numpy() for name in names})
    windows = windows.assign(tokens=shards.tokens, recording=shards.recordings.codes)
    parts = {name: windows[shards.splits.rows([name])] for name in shards.splits.labels}
    rows = [{"split": name, **_size(part)} for name, part in (parts | {"all": windows}).items()]
    return pd.DataFrame(rows)


def _size(windows: pd.DataFrame) -> dict[str, str]:
    spans = windows.groupby("recording")[["start", "stop"]]
    seconds = sum(covered(*span.to_numpy().T) for _, span in spans)
    return {
        "recordings": f"{windows['recording'].nunique():,}",
        "windows": f"{len(windows):,}",
        "hours (overlap once)": f"{seconds / 3600:,.3g}",
        "tokens": f"{windows['tokens'].to_numpy().sum(dtype=int):,}",
        "MB": f"{windows['length'].sum() / 1e6:,.1f}",
        "shards": f"{windows['shard'].nunique():,}",
    }


def _signals(shards: Shards) -> pd.DataFrame:
    patches = {name: about["patch"] for name, about in shards.signals.items()}
    tokens = dict.fromkeys(patches, 0)
    for _, names, counts in tokens_of(shards.columns("signals", "sizes"), patches):
        for name, total in zip(names, counts.sum(axis=0), strict=True):
            tokens[name] += int(total)
    channels = shards.channels.groupby("signal")
    rows = []
    for name, about in shards.signals.items():
        counts = channels.get_group(name).groupby("recording").size()
        rows.append({"signal": name, **_about(about), **_counts(counts)})
    table = pd.DataFrame(rows)
    return table.assign(tokens=[f"{tokens[name]:,}" for name in table["signal"]])


def _about(about: dict[str, Any]) -> dict[str, str]:
    dt = about["dt"]
    return {
        "modality": about["modality"],
        "tokenizer": about["tokenizer"],
        "rate": "" if dt is None else f"{1 / dt:.6g} Hz",
        "token": "an event" if dt is None else f"{about['patch'] * dt:.3g} s",
        "grid": " × ".join(map(str, about["grid"])),
    }


def _counts(counts: pd.Series) -> dict[str, str]:
    """Of recordings with the signal, and of its channels in each."""
    low, high = counts.min(), counts.max()
    return {
        "recordings": str(len(counts)),
        "channels": str(low) if low == high else f"{low} to {high}",
    }


def _task(name: str, task: dict[str, Any]) -> dict[str, str]:
    spans = zip(task.get("mean", []), task.get("scale", []), strict=True)
    if task["kind"] == "circular":
        answers = ", ".join(["an angle"] * len(task["mean"]))
    elif "classes" in task:
        answers = (" < " if task["kind"] == "ordinal" else ", ").join(task["classes"])
    else:
        answers = ", ".join(f"{mean:.3g} ± {scale:.2g}" for mean, scale in spans)
    return {"task": name, "kind": task["kind"], "answers": answers}
