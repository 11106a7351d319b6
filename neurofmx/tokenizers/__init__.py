"""Signals become tokens: a start, a duration and a vector for each patch of time or event."""

from neurofmx.sequence import TokenizedSequence
from neurofmx.tokenizers.audio import AudioTokenizer
from neurofmx.tokenizers.base import MeanPool, Population, Tokenizer
from neurofmx.tokenizers.binned import BinnedTokenizer
from neurofmx.tokenizers.continuous import LFPTokenizer
from neurofmx.tokenizers.image import ImageTokenizer
from neurofmx.tokenizers.spikes import SpikeTokenizer
from neurofmx.tokenizers.units import Units

TOKENIZERS: dict[str, type[Tokenizer]] = {
    "spikes": SpikeTokenizer,
    "binned": BinnedTokenizer,
    "continuous": LFPTokenizer,
    "image": ImageTokenizer,
    "audio": AudioTokenizer,
}

__all__ = [
    "TOKENIZERS",
    "AudioTokenizer",
    "BinnedTokenizer",
    "ImageTokenizer",
    "LFPTokenizer",
    "MeanPool",
    "Population",
    "SpikeTokenizer",
    "TokenizedSequence",
    "Tokenizer",
    "Units",
]
