"""Where recordings come from: a source resolves to files with checksums, and fetches them."""

from typing import Annotated

from pydantic import Field

from neurofmx.data.sources.allen import AllenSource
from neurofmx.data.sources.base import Source
from neurofmx.data.sources.dandi import DandiSource
from neurofmx.data.sources.ibl import IblSource
from neurofmx.data.sources.local import LocalSource
from neurofmx.data.sources.synthetic import SyntheticSource

SOURCES: dict[str, type[Source]] = {
    "local": LocalSource,
    "synthetic": SyntheticSource,
    "dandi": DandiSource,
    "allen": AllenSource,
    "ibl": IblSource,
}

AnySource = Annotated[
    LocalSource | SyntheticSource | DandiSource | AllenSource | IblSource,
    Field(discriminator="kind"),
]
