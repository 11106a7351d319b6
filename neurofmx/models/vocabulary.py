"""What a model knows of recordings: channels with embeddings of their own, and regions."""

from collections.abc import Collection
from typing import NamedTuple

from neurofmx.data.collate import keys
from neurofmx.data.pool import Windows
from neurofmx.tokenizers.units import Key


class Known(NamedTuple):
    """Channels of a signal that have embeddings of their own, and regions that have."""

    keys: list[Key]
    regions: list[str]


Vocabulary = dict[str, Known]  # by signal


def vocabulary_of(shards: Windows, recordings: Collection[str]) -> Vocabulary:
    """Channels of some recordings and the regions that they lie in, by signal."""
    table = shards.channels[shards.channels["recording"].isin(list(recordings))]
    return {
        str(name): Known(keys(rows), [r for r in dict.fromkeys(rows["region"]) if r])
        for name, rows in table.groupby("signal")
    }
