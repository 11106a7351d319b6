"""Results of a commit, an older one and what lies in the folder are held against each other."""

import shutil

import pandas as pd
import pytest
from projects import command, make_project

from neurofmx import results
from neurofmx.errors import UserError

STAGE = """
stages:
  evaluate:
    cmd: cp made.csv storage/evaluate/results.csv
    deps: [made.csv]
    outs: [{storage/evaluate: {persist: true}}]
"""
IDENTITY = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")


def make(folder, value, dataset="made"):
    """Let the stage's next run leave one figure."""
    row = {"dataset": dataset, "recording": "a", "task": "velocity", "metric": "r2"}
    row |= {"method": "neurofmx", "level": "trial", "value": value}
    row |= {"low": value - 0.01, "high": value + 0.01, "seconds": 1.0, "parameters": 9}
    pd.DataFrame([row]).to_csv(folder / "made.csv", index=False)
    (folder / "storage/evaluate").mkdir(parents=True, exist_ok=True)


def evaluate(folder, value):
    """Leave one figure, and commit its lock."""
    make(folder, value)
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
    assert "0.5" in results.read_at("HEAD~1")
    assert results.read_at("made.csv") == (folder / "made.csv").read_text()
    out = command(folder, "neurofmx", "compare", "HEAD~1", "HEAD").stdout
    assert "+0.1" in out


def test_an_unknown_revision_is_a_message(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=r"nowhere: no storage/evaluate/results.csv to be had"):
        results.read_at("nowhere")


@pytest.fixture
def copy(folder, tmp_path):
    """The folder to do things to."""
    return shutil.copytree(folder, tmp_path / "project", symlinks=True)


def run(folder):
    """What `neurofmx run` says below its table."""
    out = command(folder, "neurofmx", "run", "--until", "evaluate").stdout
    return out[out.rindex("┘") + 1 :].strip().splitlines()


def remote(folder, url):
    """Give the project a remote, in a commit of its own."""
    command(folder, "dvc", "remote", "add", "-d", "theirs", url)
    command(folder, "git", "add", "-f", ".dvc/config")
    command(folder, "git", *IDENTITY, "commit", "-qm", "A remote")


def test_results_in_the_cache_need_no_remote(copy, monkeypatch):
    remote(copy, "s3://nowhere")
    monkeypatch.chdir(copy)
    assert "0.6" in results.read_at("HEAD")
    shutil.rmtree(copy / ".dvc/cache")
    with pytest.raises(UserError, match=r"HEAD: no storage/evaluate/results\.csv to be had"):
        results.read_at("HEAD")


def test_what_the_cache_lacks_comes_from_the_remote(copy, tmp_path, monkeypatch):
    remote(copy, str(tmp_path / "remote"))
    command(copy, "dvc", "push", "--all-commits")
    shutil.rmtree(copy / ".dvc/cache")
    monkeypatch.chdir(copy)
    with pytest.raises(UserError, match="to be had"):
        results.read_at("HEAD", remote=False)
    assert "0.6" in results.read_at("HEAD")


def test_a_run_says_what_moved_since_the_results_that_lay_there(copy):
    make(copy, 0.2)
    assert run(copy) == [
        "Figures of neurofmx since the results before: 1 worse, 0 the same or within intervals.",
        "  a (trial)  velocity  r2: 0.900 → 0.200, worse",
    ]
    assert run(copy) == ["Nothing moved: the results are those that were here before."]


def test_a_run_in_an_empty_folder_is_held_against_the_last_commit(copy):
    remote(copy, "s3://nowhere")  # it is not asked
    (copy / "storage/evaluate/results.csv").unlink()
    make(copy, 0.7)
    assert run(copy)[1] == "  a (trial)  velocity  r2: 0.600 → 0.700, better"


def test_a_run_that_is_the_first_says_so(copy):
    (copy / "storage/evaluate/results.csv").unlink()
    shutil.rmtree(copy / ".dvc/cache")
    assert run(copy) == ["There are no earlier results to compare these with."]


def test_a_run_on_other_data_is_compared_with_nothing(copy):
    make(copy, 0.7, dataset="other")
    (line,) = run(copy)
    assert line.startswith("Not compared with the results before: no figure is in both")


def test_seeds_are_read_from_revisions_and_files(folder, tmp_path):
    words = ("neurofmx", "seeds", "HEAD~1", "HEAD", "storage/evaluate/results.csv")
    out = command(folder, *words, "--out", str(tmp_path / "t.csv")).stdout
    assert "3 seeds: HEAD~1, HEAD, storage/evaluate/results.csv" in out
    (row,) = pd.read_csv(tmp_path / "t.csv").to_dict("records")
    assert row["mean"] == pytest.approx((0.5 + 0.6 + 0.9) / 3)
    assert row["sd_seed"] == pytest.approx(0.2082, abs=1e-4)
