"""The problem that a task poses in a recording: what is fitted to, what chooses, what is scored."""

from collections.abc import Callable, Sequence

from neurofmx.data.cards import Card
from neurofmx.data.shards import Shards
from neurofmx.data.windows import SPLITS
from neurofmx.evaluation.baselines import Problem
from neurofmx.evaluation.pooling import partners, pooled
from neurofmx.evaluation.queries import Queries, read_queries
from neurofmx.types import AlignedRecording


def problem(
    recording: str,
    task: str,
    card: Card,
    shards: Shards,
    aligned: Callable[[str], AlignedRecording],
) -> Problem | None:
    """None where some split asks nothing.

    A recording that is tested as a whole is posed with those that are trained on and have the same
    channels; where there are none, it has test alone, and only a model can answer.

    Args:
        aligned: Reads a recording.
    """
    own = "train" in card.split.parts(recording)
    others = [] if own else partners(recording, card, shards)
    sources = {split: [recording] if own or split == "test" else others for split in SPLITS}
    positions = {s: shards.positions(s, names).tolist() for s, names in sources.items() if names}
    queries = {s: read_queries(shards, task, p) for s, p in positions.items() if p}
    if not all(len(queries.get(split, ())) for split in positions):
        return None
    if own or not others:
        return Problem(aligned(recording), card, task, shards, positions, queries)
    return laid([*map(aligned, others), aligned(recording)], card, task, shards, positions, queries)


def laid(
    recordings: Sequence[AlignedRecording],
    card: Card,
    task: str,
    shards: Shards,
    positions: dict[str, list[int]],
    queries: dict[str, Queries],
) -> Problem:
    """The problem of several recordings that have the same channels, one behind the other.

    Args:
        recordings: All that the positions are of.
        queries: Each on the clock of its own recording.
    """
    whole, (codes, labels) = pooled(recordings, card, task), shards.recordings
    moved = {
        split: whole.moved(asked, [labels[codes[p]] for p in positions[split]])
        for split, asked in queries.items()
    }
    return Problem(whole.recording, card, task, shards, positions, moved, whole.channels)
