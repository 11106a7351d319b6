from pathlib import Path

import pytest
import yaml

from neurofmx.data.cards import FOLDER, Card, load_card, save_card
from neurofmx.errors import UserError

ROOT = Path(__file__).parents[2]
CARDS = sorted(path.stem for path in (ROOT / FOLDER).glob("*.yaml"))
MINIMAL = {
    "name": "x",
    "title": "x",
    "licence": "CC0 1.0",
    "source": {"kind": "local", "path": "recordings"},
    "signals": {"spikes": {"path": "units", "modality": "spikes"}},
    "tasks": {},
}

WITHOUT_TASK = {"falcon_h2", "falcon_b1"}  # sentences and spectrograms are not decoded


def load(folder: Path, **changes) -> Card:
    (folder / "x.yaml").write_text(yaml.safe_dump(MINIMAL | changes))
    return load_card("x", folder)


def test_the_cards_of_the_project_are_there():
    assert {"demo", "m1", "hpc", "ssvep", "ca1"} <= set(CARDS)


@pytest.mark.parametrize("name", CARDS)
def test_every_card_loads_names_itself_and_has_an_input_and_a_task(name):
    card = load_card(name, ROOT / FOLDER)

    assert card.name == name
    assert card.inputs
    assert bool(card.tasks) == (name not in WITHOUT_TASK)
    assert card.synthetic == (card.source.kind == "synthetic")


def test_the_demo_holds_its_targets_back_from_the_model():
    assert set(load_card("demo", ROOT / FOLDER).inputs) == {"spikes", "lfp"}


def test_a_saved_card_loads_as_it_was(tmp_path):
    card = load_card("m1", ROOT / FOLDER)
    save_card(card, tmp_path)

    assert load_card("m1", tmp_path) == card


def test_an_unknown_dataset_lists_the_known_ones(tmp_path):
    load(tmp_path)
    with pytest.raises(UserError, match=r"there is no dataset 'y': .* Known: x\."):
        load_card("y", tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licens": "x"}, "licens: unknown key. Did you mean 'licence'"),
        (
            {"signals": {"a": {"path": "a", "modality": "x"}}},
            "unknown modality; choose from spikes",
        ),
        (
            {"tasks": {"t": {"kind": "regression", "signal": "vel"}}},
            "tasks.t.signal names 'vel', which is not among signals: spikes",
        ),
        ({"windows": {"within": "trials"}}, "windows.within names 'trials'"),
        ({"split": {"train": 0.9, "valid": 0.2}}, "must leave a part for test"),
    ],
)
def test_a_wrong_key_or_name_is_explained(tmp_path, changes, message):
    with pytest.raises(UserError) as error:
        load(tmp_path, **changes)
    assert message in str(error.value)
