"""A recording becomes a part, and parts become the windows of a data set.

A part is a folder with the recording's windows and with what is to be joined with that of others:
its channels, what its signals are, and the sums from which targets are scaled.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from neurofmx.data import windows
from neurofmx.data.cards import Card
from neurofmx.data.inputs import Occurred, Sampled
from neurofmx.data.samples import Sample
from neurofmx.data.shard_index import FILE
from neurofmx.data.shard_join import join_shards
from neurofmx.data.shard_writer import ShardWriter
from neurofmx.data.statistics import ChannelStatistics, Moments, join_tasks
from neurofmx.data.targets import Window, WindowTarget
from neurofmx.errors import DataError
from neurofmx.types import AlignedRecording

SAME = 1e-9  # of the duration of a sample, which may differ by rounding


def write_part(folder: Path, recording: AlignedRecording, card: Card) -> None:
    """Cut a recording into windows, in an empty folder.

    Args:
        card: With the classes of every classification task.

    Raises:
        DataError: The recording does not fit the card, or has no window for a split.
    """
    writer, channels = ShardWriter(folder), ChannelStatistics(recording, card)
    # What is tested as a whole is normalised by itself: signals, never what is to be decoded.
    normalising = "train" if "train" in card.split.parts(recording.id) else "test"
    targets = {task: Moments() for task in card.tasks}
    for number, window in enumerate(windows.cut(recording, card)):
        inputs = windows.inputs(recording, card, window)
        asked = {task: windows.target(recording, card, task, window) for task in card.tasks}
        units = {n: found.n_units for n, found in inputs.items() if isinstance(found, Occurred)}
        key = f"{recording.id}-{number:06d}"
        writer.write(sample(key, recording.id, window, inputs, asked), units)
        if window.split == normalising:
            channels.add(inputs)
        if window.split == "train":
            for task, target in asked.items():
                targets[task].add(target.values[target.mask])
    writer.close()
    channels.table().to_parquet(folder / "channels.parquet", index=False)
    _write(folder / "signals.json", windows.about(recording, card))
    _write(folder / "targets.json", {task: moments.sums() for task, moments in targets.items()})


def sample(
    key: str,
    recording: str,
    window: Window,
    inputs: Mapping[str, Sampled | Occurred],
    asked: Mapping[str, WindowTarget],
) -> Sample:
    """A window as it goes into a shard; `inputs` and `asked` are those of `data.windows`."""
    info: dict[str, Any] = {"recording": recording, "split": window.split}
    info |= {"start": float(window.start), "stop": float(window.stop)}
    info["dt"] = {n: float(found.dt) for n, found in inputs.items() if isinstance(found, Sampled)}
    arrays: dict[str, np.ndarray] = {}
    for name, found in inputs.items():
        if isinstance(found, Occurred):
            arrays |= {f"{name}.events": found.times, f"{name}.units": found.units}
            continue
        arrays[f"{name}.values"] = found.values
        if found.mask is not None:
            arrays[f"{name}.mask"] = found.mask
    for task, target in asked.items():
        arrays[f"{task}.target"] = target.values
        arrays[f"{task}.times"] = target.times
        arrays[f"{task}.asked"] = target.mask
    return Sample(key, info, arrays)


def join_parts(
    parts: Mapping[str, Path],
    folder: Path,
    card: Card,
    tokens: int,
    shard_bytes: int,
    world_size: int,
) -> None:
    """Everything that `Shards` reads, from parts in the order given, in an empty folder.

    Args:
        parts: By recording.
        tokens: That the longest window of a sampled signal is cut into.
        shard_bytes: A shard is closed at this size.
        world_size: Shards that each split has at least, where it has as many windows.

    Raises:
        DataError: A signal is sampled differently in two recordings; names both.
    """
    signals = _signals(parts, tokens)
    _write(folder / "signals.json", signals)
    tables = [pd.read_parquet(part / "channels.parquet") for part in parts.values()]
    pd.concat(tables).to_parquet(folder / "channels.parquet", index=False)
    # Targets are scaled by what pretraining may see.
    seen = [part for name, part in parts.items() if card.pretrains(name)]
    sums = [json.loads((part / "targets.json").read_text()) for part in seen]
    _write(folder / "tasks.json", join_tasks(card, sums))
    patches = {name: about["patch"] for name, about in signals.items()}
    join_shards(list(parts.values()), folder, patches, shard_bytes, world_size)


def _signals(parts: Mapping[str, Path], tokens: int) -> dict[str, dict[str, Any]]:
    """What each signal is, held to be the same in all recordings, with the samples of a token."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for recording, part in parts.items():
        for name, about in json.loads((part / "signals.json").read_text()).items():
            first, known = found.setdefault(name, (recording, about))
            if not _same(known, about):
                raise DataError(
                    f"signal {name!r} is {_sampling(known)} in {first} and {_sampling(about)} in "
                    f"{recording}; one model needs one: give it a `rate` (or `size`) in the card, "
                    "or leave a recording out"
                )
    longest = max(_longest(part) for part in parts.values())
    patches = {
        name: 1 if about["dt"] is None else max(1, round(longest / about["dt"] / tokens))
        for name, (_, about) in found.items()
    }
    return {name: about | {"patch": patches[name]} for name, (_, about) in found.items()}


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    if a["grid"] != b["grid"] or (a["dt"] is None) != (b["dt"] is None):
        return False
    return a["dt"] is None or math.isclose(a["dt"], b["dt"], rel_tol=SAME)


def _sampling(about: dict[str, Any]) -> str:
    rate = "events" if about["dt"] is None else f"sampled at {1 / about['dt']:.9g} Hz"
    return f"{rate} on a grid of {about['grid']}" if about["grid"] else rate


def _longest(part: Path) -> float:
    """Duration of a part's longest window (s)."""
    table = pq.read_table(part / FILE, columns=["start", "stop"])
    start, stop = (table[column].to_numpy() for column in ("start", "stop"))
    return float((stop - start).max())


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
