from pathlib import Path

import pytest
import yaml

from neurofmx.data.cards import FOLDER, Card, load_card, save_card
from neurofmx.data.signal_cards import SignalCard
from neurofmx.errors import UserError
from neurofmx.modalities import MODALITIES
from neurofmx.stages import align, ingest

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


def signal(modality: str, **keys) -> dict:
    """Changes to a card: its one signal."""
    return {"signals": {"a": {"path": "a", "modality": modality} | keys}}


def angles(**keys) -> dict:
    """Changes to a card: a heading is decoded from its one signal."""
    return signal("behavior", **keys) | {"tasks": {"t": {"kind": "circular", "signal": "a"}}}


def labels(**keys) -> dict:
    """Changes to a card: a column of its one table is decoded."""
    return signal("trials") | {"tasks": {"t": {"signal": "a", "column": "c"} | keys}}


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


@pytest.mark.parametrize("name", CARDS)
def test_no_card_shows_the_model_behaviour_that_gives_a_target_away(name):
    card = load_card(name, ROOT / FOLDER)
    seen = {signal.modality for signal in card.inputs.values()}

    assert not seen & {"pose", "eye", "video"}
    assert not card.tasks or "audio" not in seen
    assert not {task.signal for task in card.tasks.values()} & set(card.inputs)


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
        (
            angles(method="linear"),
            "between 359° and 1° is not 180°. Write `method: nearest`",
        ),
        (angles(method="nearest", rate=50.0), "tasks.t is circular, so align must not average 'a'"),
        (labels(kind="ordinal"), "tasks.t.ordinal.classes: Field required"),
        (labels(kind="ordinal", classes=["a"]), "at least 2 items"),
        ({"windows": {"within": "trials"}}, "windows.within names 'trials'"),
        ({"split": {"train": 0.9, "valid": 0.2}}, "must leave a part for test"),
        (signal("calcium", tokenizer="image"), "choose from binned, continuous"),
        (signal("eeg", tokenizer="binned"), "tokenizer 'binned' does not read eeg; choose from co"),
        (signal("behavior", tokenizer="binned"), "choose from none: it is no input"),
        (signal("video", grid=[4, 4]), "grid is of fmri, not of video"),
        (signal("fmri", grid=[4, 0]), "greater than or equal to 1"),
        (signal("eeg", mel={"bands": 3}), "mel is of audio, not of eeg"),
        (signal("audio", mel={"low": 500.0, "high": 400.0}), "high is 400 Hz, not above low, 500"),
        (signal("audio", mel={"hops": 0.1}), "hops: unknown key. Did you mean 'hop'?"),
        (signal("lfp", position_unit="cm"), "'um', 'mm' or 'm'"),
        (signal("eeg", same="("), "same is no regular expression: missing )"),
        ({"split": {"train_on": ["a"]}}, "train_on needs test_on"),
        ({"windows": {"begin": 0.5}}, "begin and end are of the intervals that `within` names"),
        ({"split": {"test_on": ["a*"]}, "adapt": ["a-1"]}, "adapt names 'a-1', of which split.te"),
    ],
)
def test_a_wrong_key_or_name_is_explained(tmp_path, changes, message):
    with pytest.raises(UserError) as error:
        load(tmp_path, **changes)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("modality", "choice", "row"),
    [
        ("spikes", None, "binned"),
        ("spikes", "spikes", "spikes"),
        ("fmri", None, "image"),
        ("fmri", "binned", "binned"),
        ("audio", None, "audio"),
        ("trials", None, None),
    ],
)
def test_a_signal_goes_through_the_tokenizer_that_is_chosen(tmp_path, modality, choice, row):
    card = load(tmp_path, **signal(modality, tokenizer=choice))

    assert card.signals["a"].tokenized_by == row
    assert list(card.inputs) == (["a"] if row else [])


def test_a_choice_of_tokenizer_grid_and_bands_is_saved(tmp_path):
    changes = signal("fmri", grid=[2, 3], tokenizer="continuous")
    changes["signals"]["b"] = {"path": "b", "modality": "audio", "mel": {"low": 2e4}}
    card = load(tmp_path, **changes)
    save_card(card, tmp_path)

    assert load_card("x", tmp_path) == card
    assert Card.model_validate(card.model_dump()) == card
    saved = yaml.safe_load((tmp_path / "x.yaml").read_text())["signals"]
    assert saved["b"] == {"path": "b", "modality": "audio", "mel": {"low": 2e4}}


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_kind_of_recording_has_a_tokenizer(modality):
    only_targets = ("behavior", "trials", "pulses")
    assert bool(MODALITIES[modality].tokenizer) == (modality not in only_targets)
    assert set(MODALITIES[modality].tokenizers) <= {
        "spikes",
        "binned",
        "continuous",
        "image",
        "audio",
    }


def test_every_key_of_a_signal_belongs_to_the_stage_that_reads_it():
    # A key that ingest or align reads but does not hash would leave old results in place.
    cut_by = {
        "input",
        "tokenizer",
        "grid",
        "mel",
        "same",
        "region",
    }  # tokenize hashes the whole card
    hashed = {*ingest.READ_FROM_CARD, *align.READ_FROM_CARD}

    assert hashed | cut_by == set(SignalCard.model_fields)
    assert not hashed & cut_by
