"""A trained model outside of the training loop."""

from neurofmx.serving.decoder import DecoderStep, export_decoder
from neurofmx.serving.export import OnnxStep, export_step
from neurofmx.serving.replay import Replay

__all__ = ["DecoderStep", "OnnxStep", "Replay", "export_decoder", "export_step"]
