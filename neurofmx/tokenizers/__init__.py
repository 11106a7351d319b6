"""Signals become tokens: a start, a duration and a vector for each patch of time."""

from neurofmx.batches import TokenizedSequence
from neurofmx.tokenizers.base import MeanPool, Population, Tokenizer
from neurofmx.tokenizers.binned import BinnedTokenizer
from neurofmx.tokenizers.continuous import LFPTokenizer

TOKENIZERS: dict[str, type[Tokenizer]] = {"binned": BinnedTokenizer, "continuous": LFPTokenizer}

__all__ = [
    "TOKENIZERS",
    "BinnedTokenizer",
    "LFPTokenizer",
    "MeanPool",
    "Population",
    "TokenizedSequence",
    "Tokenizer",
]
