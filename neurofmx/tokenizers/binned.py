"""Counts in bins (or calcium per frame), as they are: the population code stays linear."""

from jaxtyping import Float
from torch import Tensor

from neurofmx.tokenizers.base import Tokenizer


class BinnedTokenizer(Tokenizer):
    """Binned counts → tokens: (2, 100, 96) → (2, 100, 768) with its defaults.

    Source: a linear patch along time, as Dosovitskiy et al. 2020, arXiv:2010.11929, in space.
    """

    @staticmethod
    def n_features(config: Tokenizer.Config) -> int:
        """The samples of a patch."""
        return config.patch

    def describe(
        self, patches: Float[Tensor, "batch token channel sample"]
    ) -> Float[Tensor, "batch token channel feature"]:
        """The counts as they are; `mixing` is the linear map of the patch."""
        return patches
