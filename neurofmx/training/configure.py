"""What a model has to be, so that it can read some windows."""

from neurofmx.data.pool import Windows
from neurofmx.modalities import MODALITIES
from neurofmx.models import ModelParams, NeuroFMX, SignalSpec, TaskSpec

EVENT = 1e-3  # s; what a spike is said to last


def configure(shards: Windows, model: ModelParams) -> NeuroFMX.Config:
    """A model's configuration from the windows that it is to read.

    Args:
        model: What a person chose.
    """
    signals = {
        name: SignalSpec(
            tokenizer=about["tokenizer"],
            patch=about["patch"],
            dt=about["dt"] or EVENT,
            grid=about["grid"],
            counts=about["stabilise"],
            neural=MODALITIES[about["modality"]].neural,
        )
        for name, about in sorted(shards.signals.items())
    }
    tasks = {
        name: TaskSpec(
            kind=task["kind"],
            outputs=len(task["classes"] if "classes" in task else task["mean"]),
            mean=task.get("mean", []),
            scale=task.get("scale", []),
            classes=task.get("classes", []),
        )
        for name, task in shards.tasks.items()
    }
    duration = float((shards.index["stop"] - shards.index["start"]).max())
    return NeuroFMX.Config(model=model, duration=duration, signals=signals, tasks=tasks)
