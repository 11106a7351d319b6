"""The model and its parts."""

from neurofmx.models.attention import CrossAttention, SelfAttention
from neurofmx.models.backbone import MambaBackbone
from neurofmx.models.heads import HEADS
from neurofmx.models.mamba import Mamba2, MambaBlock
from neurofmx.models.neurofmx import Known, NeuroFMX, Vocabulary, untrained
from neurofmx.models.params import ModelParams, SignalSpec, TaskSpec
from neurofmx.models.perceiver import PerceiverIO
from neurofmx.models.perceiver_stream import PerceiverStream
from neurofmx.models.popt import PopT
from neurofmx.models.vocabulary import vocabulary_of

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
    "PerceiverStream",
    "PopT",
    "SelfAttention",
    "SignalSpec",
    "TaskSpec",
    "Vocabulary",
    "untrained",
    "vocabulary_of",
]
