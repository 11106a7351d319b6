"""Ready cards: each reads small files of its layout with exactly the signals it names."""

import pytest
from dialects.allen import allen
from dialects.base import human_mtl
from dialects.falcon import falcon_b1, falcon_h1, falcon_h2, falcon_m1, falcon_m2
from dialects.ibl import ibl
from dialects.nlb import nlb
from dialects.types import layouts
from sources import ROOT

from neurofmx.data.align import align
from neurofmx.data.cards import load_card
from neurofmx.data.reading import by_recording, read_recording
from neurofmx.data.sources.base import Asset


@pytest.fixture(scope="module", autouse=True)
def types(tmp_path_factory):
    """Neurodata types of extensions that are not installed."""
    layouts(tmp_path_factory.mktemp("types"))


READY = {
    "allen_functional_connectivity": allen,
    "allen_visual_behavior": allen,
    "allen_visual_coding": allen,
    "falcon_b1": falcon_b1,
    "falcon_h1": falcon_h1,
    "falcon_h2": falcon_h2,
    "falcon_m1": falcon_m1,
    "falcon_m2": falcon_m2,
    "human_mtl": human_mtl,
    "ibl_bwm": ibl,
    "nlb_area2_bump": nlb,
    "nlb_dmfc_rsg": nlb,
    "nlb_mc_maze": nlb,
    "nlb_mc_maze_large": nlb,
    "nlb_mc_maze_medium": nlb,
    "nlb_mc_maze_small": nlb,
    "nlb_mc_rtt": nlb,
}


@pytest.mark.parametrize("name", READY)
def test_a_ready_card_reads_files_of_its_layout(name, tmp_path, shared_data):
    card = load_card(name, ROOT / "datasets")
    paths = [p for p in READY[name](tmp_path, shared_data) if taken(card.source, p)]
    files = by_recording(card, [Asset(path=path.name) for path in paths])
    assert len(files) == 1
    (recording,) = files

    with read_recording(recording, paths, card) as found:
        optional = {key for key, signal in card.signals.items() if signal.optional}
        assert set(found.signals) | optional == set(card.signals)
        aligned = align(found, card)
        for task in card.tasks.values():
            signal = aligned.signals[task.signal]
            assert task.kind == "regression" or task.column in signal.columns
            if task.kind == "classification" and task.classes:
                assert set(signal.columns[task.column].astype(str)) & set(task.classes)
        for key, signal in aligned.signals.items():
            mask = getattr(signal, "mask", None)
            assert len(signal)
            assert mask is None or mask.any(), f"{key} is nothing but gaps"


def taken(source, path) -> bool:
    """Whether the card's source would take a file of this name from the archive."""
    return source.model_copy(update={"lfp": True}).wants(path.name)


@pytest.mark.parametrize("name", READY)
def test_a_ready_card_says_where_its_data_are_and_under_which_licence(name):
    card = load_card(name, ROOT / "datasets")

    assert card.name == name
    assert card.source.kind in ("dandi", "allen")
    assert card.licence.startswith("CC BY 4.0")
    assert card.citation
    assert card.inputs
