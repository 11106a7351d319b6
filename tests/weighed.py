"""Data sets that are nothing but the sizes of their windows, to plan with."""

import numpy as np

from neurofmx.data.shard_index import Codes
from neurofmx.data.shards import Shards


class Weighed(Shards):
    """Windows of these many tokens."""

    def __init__(self, tokens, name="a", index_hash="ab12"):
        self.tokens = np.array(tokens, np.int32)
        self.name, self.index_hash = name, index_hash
        self.signals = {"spikes": {"dt": 0.02}, "lfp": {"dt": 0.001}}
        self.tasks = {}
        # Windows of even positions hold spikes, the others both.
        self.contents = Codes(np.arange(len(tokens)) % 2, ["spikes", "lfp,spikes"])

    def __len__(self):
        return len(self.tokens)

    def keys(self, positions):
        return [f"{self.name}-{position}" for position in positions]
