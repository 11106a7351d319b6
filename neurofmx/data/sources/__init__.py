"""Where recordings come from: a source becomes a list of files, each with its checksum.

Every row takes the source of a card, the seed and the folder it may write to.
"""

from collections.abc import Callable

from neurofmx.data.sources import local, synthetic
from neurofmx.data.sources.local import Asset

SOURCES: dict[str, Callable[..., list[Asset]]] = {
    "local": local.assets,
    "synthetic": synthetic.assets,
}
