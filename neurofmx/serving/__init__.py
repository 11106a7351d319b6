"""A trained model outside of the training loop."""

from neurofmx.serving.decoder import DecoderStep, export_decoder
from neurofmx.serving.export import OnnxStep, export_step

__all__ = ["DecoderStep", "OnnxStep", "export_decoder", "export_step"]
