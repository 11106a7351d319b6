"""The model and its parts."""

from neurofmx.models.heads import HEADS
from neurofmx.models.mamba import Mamba2, MambaBackbone, MambaBlock
from neurofmx.models.neurofmx import Known, NeuroFMX, Vocabulary, untrained
from neurofmx.models.params import ModelParams, SignalSpec, TaskSpec
from neurofmx.models.perceiver import CrossAttention, PerceiverIO, SelfAttention
from neurofmx.models.popt import PopT

__all__ = [
    "HEADS",
    "CrossAttention",
    "Known",
    "Mamba2",
    "MambaBackbone",
    "MambaBlock",
    "ModelParams",
    "NeuroFMX",
    "PerceiverIO",
    "PopT",
    "SelfAttention",
    "SignalSpec",
    "TaskSpec",
    "Vocabulary",
    "untrained",
]
