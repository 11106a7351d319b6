"""The command of a figure, typed where nothing but the commit is known, chooses the same again."""

import shlex
import shutil
import subprocess
from itertools import pairwise

import pytest
import yaml
from sources import ROOT

from neurofmx import project
from neurofmx.evaluation.commands import Reproduction, differing
from neurofmx.stages import STAGES

IDENTITY = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")
UNTIL = STAGES[: STAGES.index("evaluate") + 1]
PLAIN = "neurofmx run --dataset demo --until evaluate"


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """This project's parameters and cards, committed."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "datasets", tmp_path / "datasets")
    for words in (("init", "-q"), ("add", "."), (*IDENTITY, "commit", "-qm", "Start")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def again(method="neurofmx"):
    return Reproduction.here("demo", UNTIL).command(method)


def test_what_is_committed_needs_no_word(clone):
    assert again() == again("ridge") == PLAIN


def test_a_method_is_named_where_it_would_not_run(clone):
    project.set_params(["evaluate.methods=[gru]"])
    assert again("gru") == f"{PLAIN} -S 'evaluate.methods=[gru]'"
    assert again("neurofmx") == again("ridge") == PLAIN


def test_the_command_sets_what_was_set(clone):
    project.set_params(
        [
            "seed=3",
            "evaluate.draws=2000",
            "evaluate.methods=[all]",
            "pretrain.fit.optimizer.lr=1.0e-05",
            "pretrain.fit.objectives={decode: 1.0}",
            "pretrain.fit.phases=[]",
            "pretrain.model.tokenizers={binned: {rates: [1, 4]}}",
            "pretrain.model.d_model=64",
        ]
    )
    chosen = yaml.safe_load((clone / "params.yaml").read_text())
    words = shlex.split(again("poyo"))
    subprocess.run(["git", "checkout", "-q", "params.yaml"], check=True)

    project.set_params([value for flag, value in pairwise(words) if flag == "-S"])

    assert yaml.safe_load((clone / "params.yaml").read_text()) == chosen | {
        "evaluate": chosen["evaluate"] | {"methods": ["poyo"]}
    }


def test_stages_that_come_later_do_not_matter(clone):
    project.set_params(["interpret.threads=2"])
    assert again() == PLAIN


def test_without_a_commit_the_file_is_what_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert again("gru") == PLAIN
    (tmp_path / "params.yaml").write_text("dataset: demo\nseed: 4\n")
    assert again("gru") == PLAIN


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({"a": {"x": 1}}, {"a": {"x": 1}}, {}),
        ({"a": {"x": 1}}, {"a": {"x": 1, "y": 2}}, {"a.y": 2}),
        ({"a": {"m": {"x": 1, "y": 2}}}, {"a": {"m": {"x": 1}}}, {"a.m": {"x": 1}}),
        ({"a": {"m": {}}}, {"a": {"m": {"x": 1}}}, {"a.m": {"x": 1}}),
        ({"a": {"m": 1}}, {"a": {"m": None}}, {"a.m": None}),
        ({"a": None}, {"a": {"m": 1}}, {"a.m": 1}),
    ],
)
def test_differences_are_told_by_key(old, new, found):
    assert differing(old, new) == found
