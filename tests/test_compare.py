"""`neurofmx compare` between a commit, an older one and what lies in the folder."""

import pandas as pd
import pytest
from projects import command, make_project

from neurofmx import project
from neurofmx.errors import UserError

STAGE = """
stages:
  evaluate:
    cmd: cp made.csv storage/evaluate/results.csv
    deps: [made.csv]
    outs: [{storage/evaluate: {persist: true}}]
"""
IDENTITY = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")


def evaluate(folder, value, dataset="made"):
    """Let the stage leave one figure, and commit its lock."""
    row = {"dataset": dataset, "recording": "a", "task": "velocity", "metric": "r2"}
    row |= {"method": "neurofmx", "level": "trial", "value": value}
    row |= {"low": value - 0.01, "high": value + 0.01, "seconds": 1.0, "parameters": 9}
    pd.DataFrame([row]).to_csv(folder / "made.csv", index=False)
    (folder / "storage/evaluate").mkdir(parents=True, exist_ok=True)
    command(folder, "dvc", "repro")
    command(folder, "git", "add", "-f", "dvc.lock", "dvc.yaml", "made.csv")
    command(folder, "git", *IDENTITY, "commit", "-qm", f"{value}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """0.5 two commits ago, 0.6 one, 0.9 in the folder."""
    folder = make_project(tmp_path_factory.mktemp("compare") / "project")
    (folder / "dvc.yaml").write_text(STAGE)
    for value in (0.5, 0.6):
        evaluate(folder, value)
    results = folder / "storage/evaluate/results.csv"
    changed = results.read_text().replace("0.6,0.59,0.61", "0.9,0.89,0.91")
    results.unlink()  # it may be a link to DVC's cache
    results.write_text(changed)
    return folder


def test_the_last_commit_is_held_against_the_folder(folder, tmp_path):
    out = command(folder, "neurofmx", "compare", "--out", str(tmp_path / "t.csv")).stdout

    assert "HEAD → workspace" in out
    assert "+0.3" in out
    assert "apart" in out
    (row,) = pd.read_csv(tmp_path / "t.csv").to_dict("records")
    assert (row["value_a"], row["value_b"]) == (0.6, 0.9)


def test_any_two_revisions_and_files_can_be_compared(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert "0.5" in project.results_at("HEAD~1")
    assert project.results_at("made.csv") == (folder / "made.csv").read_text()
    out = command(folder, "neurofmx", "compare", "HEAD~1", "HEAD").stdout
    assert "+0.1" in out


def test_an_unknown_revision_is_a_message(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=r"nowhere: no storage/evaluate/results.csv to be had"):
        project.results_at("nowhere")
