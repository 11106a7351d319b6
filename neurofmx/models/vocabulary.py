"""What a model knows of recordings: channels with embeddings of their own, and regions."""

from typing import NamedTuple

from neurofmx.tokenizers.units import Key


class Known(NamedTuple):
    """Channels of a signal that have embeddings of their own, and regions that have."""

    keys: list[Key]
    regions: list[str]


Vocabulary = dict[str, Known]  # by signal
