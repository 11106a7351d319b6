"""The registry gives back what it was given, and its tasks fit the cards that they name."""

from pathlib import Path

import pytest

from neurofmx.data.cards import FOLDER, load_card
from neurofmx.errors import UserError
from neurofmx.evaluation.tasks import SELF_KINDS, TASKS, EvaluationTask, TaskRegistry

ROOT = Path(__file__).parents[2]
TASK = EvaluationTask(
    title="made", dataset="x", target="y", task_type="regression", species=["A b"], modality=["lfp"]
)


def test_what_is_asked_for_is_covered():
    words = {tag for name in TASKS for tag in TASKS.get(name).tags}
    kinds = {TASKS.get(name).task_type for name in TASKS}

    assert len(TASKS) >= 17
    assert words >= {"reaching", "grasp", "position", "heading", "choice", "contrast", "ssvep"}
    assert words >= {"gesture", "fmri", "song", "motor imagery", "sleep", "emg"}
    assert kinds >= {*SELF_KINDS, "regression", "classification", "circular"}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_fits_its_card(name):
    task = TASKS.get(name)
    card = load_card(task.dataset, ROOT / FOLDER)

    if task.task_type in SELF_KINDS:
        assert task.target in card.inputs
    else:
        assert card.tasks[task.target].kind == task.task_type
    read = {spec.modality for spec in card.inputs.values()}
    assert set(task.modality) == read
    held_out = bool(card.split.test_on)
    assert held_out == (task.level != "trial")
    assert ("synthetic" in task.tags) == card.synthetic or task.task_type in SELF_KINDS


def test_tasks_are_chosen_by_what_they_are():
    assert TASKS.list_tasks(task_type="circular") == ["heading"]
    assert "position_rat" in TASKS.list_tasks(species="Rattus norvegicus", modality="spikes")
    assert TASKS.list_tasks(tags=["reaching", "nlb"], task_type="regression") == [
        *("reaching_maze", "reaching_random", "bumped_arm")
    ]
    assert not TASKS.list_tasks(species="Rattus norvegicus", modality="eeg")


def test_a_suite_is_written_and_read_again(tmp_path):
    TASKS.save_to_yaml(tmp_path / "suite.yaml")
    found = TaskRegistry().load_from_yaml(tmp_path / "suite.yaml")

    assert list(found) == list(TASKS)
    assert all(found.get(name) == TASKS.get(name) for name in TASKS)


def test_a_name_is_taken_once():
    registry = TaskRegistry({"a": TASK})
    registry.register("a", TASK)  # the same again is no harm
    with pytest.raises(UserError, match="another task 'a', which asks x for y"):
        registry.register("a", TASK.model_copy(update={"target": "z"}))


def test_an_unknown_task_lists_the_known_ones():
    with pytest.raises(UserError, match="no task 'b'; choose from a"):
        TaskRegistry({"a": TASK}).get("b")


def test_a_wrong_key_of_a_suite_is_named(tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text("a: {title: t, dataset: x, target: y, task_type: guess, species: [], tag: []}")
    with pytest.raises(UserError, match=r"suite.yaml: a(.|\n)*tag: unknown key"):
        TaskRegistry().load_from_yaml(path)


@pytest.mark.parametrize("name", TASKS)
def test_species_are_those_of_the_files(name, shared_data):
    task = TASKS.get(name)
    card = load_card(task.dataset, ROOT / FOLDER)
    if (
        card.source.kind != "local"
        or not (ROOT / FOLDER / "manifests" / f"{card.name}.json").exists()
    ):
        pytest.skip("its files are not here")
    import h5py

    path = card.source.found[0]
    with h5py.File(path) as file:
        species = file["general/subject/species"][()].decode()
    assert species.split()[0] == task.species[0].split()[0]
