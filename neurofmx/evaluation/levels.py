"""What was held out from training: the level of generalisation that a score can claim.

Animals are known by name within a data set, where "1" of one is not "1" of another. A name or a
species that no file gives may be any: it claims no more than that is sure.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

Level = Literal["trial", "recording", "animal", "species"]
LEVELS: dict[Level, str] = {
    "trial": "later time of a recording that training saw",
    "recording": "training saw other recordings of the animal",
    "animal": "training saw other animals of the species",
    "species": "training saw other species alone",
}
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Origin:
    """Where a recording comes from."""

    recording: str
    subject: str
    species: str
    dataset: str


def level(recording: Origin, seen: Collection[Origin]) -> Level:
    """The strongest generalisation that holds.

    Args:
        seen: What the weights were trained on, other than to adapt them to this recording.
    """
    if any((o.dataset, o.recording) == (recording.dataset, recording.recording) for o in seen):
        return "trial"
    beside = [other for other in seen if other.dataset == recording.dataset]
    if any(_may_be(recording.subject, other.subject) for other in beside):
        return "recording"
    if any(_may_be(recording.species, other.species) for other in seen):
        return "animal"
    return "species"


def _may_be(one: str, other: str) -> bool:
    return one == other or UNKNOWN in (one, other)
