"""Stretches that a benchmark names, laid as windows that a model reads, beside known channels."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from neurofmx.data import windows
from neurofmx.data.cards import Card
from neurofmx.data.inputs import Occurred
from neurofmx.data.parts import sample
from neurofmx.data.shard_join import join_shards
from neurofmx.data.shards import Shards, ShardWriter
from neurofmx.data.targets import Window
from neurofmx.models import NeuroFMX
from neurofmx.training.inference import batches
from neurofmx.types import AlignedRecording

KNOWN = ("channels.parquet", "signals.json", "tasks.json")


@contextmanager
def laid(
    recording: AlignedRecording, card: Card, spans: Sequence[tuple[float, float]], known: Path
) -> Iterator[Shards]:
    """Windows over some stretches of a recording, in their order, while the block runs.

    Args:
        spans: Start and stop of each (s).
        known: Folder of the windows that the model was trained on, which say how channels are
            normalised.
    """
    with TemporaryDirectory() as temporary:
        part, folder = Path(temporary) / "part", Path(temporary) / "windows"
        part.mkdir()
        folder.mkdir()
        writer = ShardWriter(part)
        for number, (start, stop) in enumerate(spans):
            window = Window("test", start, stop, start)
            inputs = windows.inputs(recording, card, window)
            units = {n: x.n_units for n, x in inputs.items() if isinstance(x, Occurred)}
            writer.write(sample(f"{number:06d}", recording.id, window, inputs, {}), units)
        writer.close()
        for name in KNOWN:
            shutil.copy(known / name, folder / name)
        signals = json.loads((folder / "signals.json").read_text())
        join_shards([part], folder, {name: about["patch"] for name, about in signals.items()})
        yield Shards(folder)


@torch.inference_mode()
def read_out(
    model: NeuroFMX, shards: Shards, times: Float[ndarray, "window query"]
) -> Float[ndarray, "window query width"]:
    """What the heads read of every window at some times: answers to all that can be asked.

    Args:
        times: After the start of each window (s).
    """
    model.eval()
    asked = [name for name in model.queries if name in {*model.config.tasks, *model.sampled}]
    found = []
    for batch in batches(model, shards, np.arange(len(shards))):
        output = model(batch, heads=())
        at = torch.from_numpy(times[batch.windows]).float().to(output.latents.device)
        answers = [model.ask(name, output.latents, output.features, at) for name in asked]
        found.append(torch.cat(answers, dim=-1).cpu().numpy())
    return np.concatenate(found)
