import errno
import functools
import json
import os
import shutil
import sys
from types import SimpleNamespace

import pytest
import yaml
from projects import command, make_project
from sources import ROOT
from windows import recording, shards, tiny_model

import neurofmx
from neurofmx import cli, project
from neurofmx.config import StageParams
from neurofmx.data.cards import load_card
from neurofmx.data.manifests import load_manifest
from neurofmx.errors import DataError, TransientError, UserError
from neurofmx.stages import STAGES


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The parameters and cards of this project in an empty folder, which is the working one."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "datasets", tmp_path / "datasets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command line in this process: exit code, standard output, standard error."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["neurofmx", *words])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        printed = capsys.readouterr()
        return stopped.value.code, printed.out, printed.err

    return call


def fake_stage(monkeypatch, error=None):
    """`neurofmx ingest` that takes one key, and fails as it is told."""

    class Params(StageParams):
        workers: int = 2
        access: str = "download"

    def run(params):
        if error is not None:
            raise error

    fake = SimpleNamespace(Params=Params, run=run)
    monkeypatch.setitem(sys.modules, "neurofmx.stages.ingest", fake)


def test_help_names_every_stage_and_version_is_the_package_s(call):
    code, out, _ = call("--help")
    assert code == 0
    assert all(stage in out for stage in STAGES)
    assert call("--version")[1].split() == ["neurofmx", neurofmx.__version__]


def test_help_does_not_load_torch():
    script = "import sys, neurofmx.cli; sys.exit('torch' in sys.modules)"
    assert command(ROOT, sys.executable, "-c", script).returncode == 0


@pytest.mark.parametrize("words", [("run",), ("ingest",), ("card", "x.nwb", "--name", "x")])
def test_outside_a_project_the_user_is_told(call, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(*words)
    assert code == 2
    assert f"no params.yaml in {tmp_path} or above it" in err


def test_a_command_works_from_a_folder_below_the_root(call, folder, monkeypatch):
    fake_stage(monkeypatch)
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    assert call("ingest")[0] == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("the path [/here] is wrong"), 2),
        (DataError("no recording is usable"), 3),
        (TransientError("the line went dead"), 75),
        (OSError(errno.ENOSPC, "No space left on device"), 75),
    ],
)
def test_a_failure_is_a_message_and_a_code_that_outlive_the_stage(
    call, folder, monkeypatch, error, code
):
    fake_stage(monkeypatch, error)
    exit_code, _, err = call("ingest")
    assert exit_code == code
    message = err.removeprefix("error: ").strip()
    assert str(error) in message
    assert "Traceback" not in err
    left = json.loads((folder / "storage" / "error.json").read_text())
    assert left == {"exit_code": code, "message": message}


def test_a_slip_of_ours_keeps_its_traceback(folder, monkeypatch):
    fake_stage(monkeypatch, ZeroDivisionError("ours"))
    monkeypatch.setattr(sys, "argv", ["neurofmx", "ingest"])
    with pytest.raises(ZeroDivisionError, match="ours"):
        cli.main()
    assert json.loads((folder / "storage" / "error.json").read_text())["exit_code"] == 1


def test_a_stage_that_ends_well_leaves_no_error(call, folder, monkeypatch):
    fake_stage(monkeypatch, UserError("first time"))
    call("ingest")
    fake_stage(monkeypatch)
    assert call("ingest")[0] == 0
    assert not (folder / "storage" / "error.json").exists()


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("ingst.workers=1", "-S ingst.workers: unknown key. Did you mean 'ingest'?"),
        ("workers=1", "-S workers: unknown key."),
        (
            "ingest.wokers=1",
            "wokers: unknown key. Did you mean 'workers'? Known keys: access, dataset, se",
        ),
        ("ingest.workers=many", "workers: Input should be a valid integer"),
        ("ingest.workers.x=1", "-S ingest.workers.x: ingest.workers has no keys below"),
        ("ingest.workers", "give it as section.key=value"),
        ("ingest.workers=[", "'[' is not a YAML value"),
        ("seed=often", "seed: Input should be a valid integer"),
        ("dataset=demmo", "there is no dataset 'demmo'"),
    ],
)
def test_a_wrong_assignment_changes_and_runs_nothing(
    call, folder, monkeypatch, assignment, message
):
    fake_stage(monkeypatch)
    before = (folder / "params.yaml").read_text()
    code, _, err = call("run", "-S", "ingest.workers=1", "-S", assignment)
    assert code == 2
    assert message in err
    assert (folder / "params.yaml").read_text() == before
    assert not (folder / "storage").exists()


def test_an_unknown_dataset_is_answered_with_the_known_ones(call, folder):
    code, _, err = call("run", "--dataset", "m7")
    assert code == 2
    assert "there is no dataset 'm7'" in err
    assert "demo" in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("dataset: [", "params.yaml is not valid YAML"),
        ("seed: 0", "dataset: Field required"),
        ("dataset: m7", "there is no dataset 'm7'"),
    ],
)
def test_a_broken_params_file_is_a_message(call, folder, content, message):
    (folder / "params.yaml").write_text(content)
    code, _, err = call("run")
    assert code == 2
    assert message in err


def test_an_unknown_last_stage_is_answered_with_the_stages(call, folder):
    code, _, err = call("run", "--until", "evalute")
    assert code == 2
    assert ", ".join(STAGES) in err


def test_set_params_changes_the_value_and_nothing_else(folder, monkeypatch):
    fake_stage(monkeypatch)
    before = (folder / "params.yaml").read_text().splitlines()
    assert project.set_params(["seed=7", "ingest.workers=2"]) == ["seed: 0 → 7"]
    after = (folder / "params.yaml").read_text().splitlines()
    assert [line for line in after if line not in before] == ["seed: 7"]
    assert len(after) == len(before)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pretrain.fit.phases", []),
        ("pretrain.fit.phases", [{"name": "one", "share": 2}]),
        ("pretrain.fit.objectives", {"decode": 2.0}),
        ("adapt.fit.phases", [{"at_once": 1}]),
    ],
)
def test_set_params_puts_lists_and_keys_in_place_of_others(folder, key, value):
    expected = yaml.safe_load((folder / "params.yaml").read_text())
    *above, last = key.split(".")
    functools.reduce(dict.get, above, expected)[last] = value
    project.set_params([f"{key}={json.dumps(value)}"])
    assert yaml.safe_load((folder / "params.yaml").read_text()) == expected


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [(None, 2, "does not exist"), ("not HDF5", 3, "not an HDF5 file; NWB in HDF5 is needed")],
)
def test_inspect_says_what_is_wrong_with_a_file(call, tmp_path, content, code, message):
    file = tmp_path / "a.nwb"
    if content:
        file.write_text(content)
    exit_code, _, err = call("inspect", str(file))
    assert exit_code == code
    assert message in err
    assert "Traceback" not in err


def test_inspect_shows_streams_and_units(call, small_synthetic):
    code, out, _ = call("inspect", str(next(small_synthetic.glob("*.nwb"))))
    assert code == 0
    for word in ("streams", "spikes", "hand_vel", "units", "intervals", "behaviour"):
        assert word in out


def test_inspect_shows_shards_and_draws_a_window(call, tmp_path):
    made = shards(tmp_path / "made", [recording("a"), recording("b", seed=1)])
    html = tmp_path / "drawn" / "it.html"
    key = made.keys([50])[0]
    code, out, _ = call("inspect", str(tmp_path / "made"), "--window", key, "--html", str(html))
    assert code == 0
    for word in ("train", "signals", "continuous", "velocity", f"window {key}", "lfp.values"):
        assert word in out
    assert f"Window {key} is drawn in {html}" in out
    assert key in html.read_text()


def test_inspect_says_what_is_wrong_with_a_folder_or_a_window(call, tmp_path):
    (tmp_path / "storage").mkdir()
    code, _, err = call("inspect", str(tmp_path / "storage"))
    assert code == 2
    assert "neither shards, which `neurofmx tokenize` writes" in err
    code, _, err = call("inspect", "a.nwb", "--window", "a-000000")
    assert code == 2
    assert "a.nwb holds no shards" in err


def test_card_from_files_is_one_that_loads(call, folder, small_synthetic):
    code, out, _ = call("card", str(small_synthetic), "--name", "mine")
    assert code == 0
    assert "datasets/mine.yaml" in out
    card = load_card("mine")
    assert card.tasks
    assert {asset.path for asset in load_manifest(card).assets} == {
        path.name for path in small_synthetic.glob("*.nwb")
    }


def test_card_keeps_a_relative_path_relative_to_the_project(call, folder, small_synthetic):
    (folder / "work").mkdir()
    shutil.copytree(small_synthetic, folder / "data")
    os.chdir(folder / "work")
    assert call("card", "../data", "--name", "mine")[0] == 0
    assert str(load_card("mine").source.path) == "data"


def test_card_never_overwrites_what_a_person_edited(call, folder):
    before = (folder / "datasets" / "demo.yaml").read_text()
    code, _, err = call("card", "x.nwb", "--name", "demo")
    assert code == 2
    assert "datasets/demo.yaml exists" in err
    assert "--force" in err
    assert (folder / "datasets" / "demo.yaml").read_text() == before


def test_results_show_ours_with_its_interval_beside_the_others(folder):
    rows = """\
dataset,recording,task,metric,method,level,value,low,high
demo,c,speed,r2,ridge,recording,0.5,,
demo,c,speed,r2,kalman,recording,0.6,,
demo,c,speed,r2,neurofmx,recording,0.91,0.88,0.93
demo,c,speed,r2,untrained,recording,,,
demo,c,speed,r2[x],neurofmx,recording,-0.2,-0.3,-0.1
demo,a,speed,r2,neurofmx,trial,0.8,0.7,0.85
demo,b,speed,r2,neurofmx,trial,0.6,0.5,0.7
demo,b,speed,r2,ridge,trial,0.4,,
demo,all,speed,r2,neurofmx,trial,0.9,0.1,1.0
"""
    project.RESULTS.parent.mkdir(parents=True)
    project.RESULTS.write_text(rows)

    card = load_card("demo")
    table = project.results_table(card)

    assert "SYNTHETIC" in str(table.title)
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert columns == {
        "task": ["speed\nr2\nrecording (1)", "speed\nr2\ntrial (2)"],
        "neurofmx": ["0.910\n[0.880, 0.930]", "0.700\n(0.600 to 0.800)"],
        "best other": ["0.600\nkalman", "0.400\nridge"],
        "controls": ["– untrained", ""],
    }
    assert "SYNTHETIC" not in str(
        project.results_table(card.model_copy(update={"synthetic": False})).title
    )


CARD = """\
name: gone
title: Files that are not there
licence: CC0 1.0
source: {kind: local, path: nowhere}
signals:
  spikes: {path: units, modality: spikes}
  speed: {path: acquisition/speed, modality: behavior}
tasks: {speed: {kind: regression, signal: speed}}
"""
PINNED = """{"dataset": "gone", "assets": [{"path": "a.nwb", "size": 1, "sha256": "0"}],
"source": {"kind": "local", "path": "nowhere", "pattern": "**/*.nwb"}}"""


def test_run_asks_for_a_manifest_first(call, folder):
    (folder / "datasets" / "gone.yaml").write_text(CARD)
    code, _, err = call("run", "--dataset", "gone")
    assert code == 2
    assert "run `neurofmx resolve gone`" in err


def test_resolve_pins_files_and_says_what_changed(call, folder, small_synthetic):
    shutil.copytree(small_synthetic, folder / "data")
    assert call("card", "data", "--name", "mine")[0] == 0
    before = (folder / "datasets/manifests/mine.json").read_bytes()
    code, out, _ = call("resolve", "mine")
    assert code == 0
    assert "2 files" in out
    assert (folder / "datasets/manifests/mine.json").read_bytes() == before
    (folder / "data" / "synthetic-1-1.nwb").write_bytes(b"other")
    (folder / "data" / "synthetic-2-1.nwb").rename(folder / "data" / "renamed.nwb")
    _, out, _ = call("resolve", "mine")
    for line in ("added renamed.nwb", "removed synthetic-2-1.nwb", "changed synthetic-1-1.nwb"):
        assert line in out


def test_run_exits_with_the_code_of_the_stage_that_failed(tmp_path):
    make_project(tmp_path)
    (tmp_path / "datasets" / "gone.yaml").write_text(CARD)
    (tmp_path / "datasets/manifests/gone.json").write_text(PINNED)
    done = command(tmp_path, "neurofmx", "run", "--dataset", "gone", check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "params.yaml: dataset: demo → gone" in done.stdout
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_compress_writes_a_smaller_model_and_says_how_small(call, tmp_path):
    from neurofmx.models import NeuroFMX, compress

    model, pruned, small = (tmp_path / name for name in ("model", "pruned", "small"))
    tiny_model(shards(tmp_path / "windows"), ["made-1"]).save_pretrained(model)
    code, out, _ = call("compress", str(model), "--out", str(pruned), "--prune", "0.25")
    parts = compress.linear_maps(NeuroFMX.from_pretrained(pruned)).values()
    zeros = sum(int((part.weight == 0).sum()) for part in parts)
    total = sum(part.weight.numel() for part in parts)
    assert code == 0
    assert zeros == round(0.25 * total)
    assert f"{zeros:,} of {total:,} weights" in out

    code, out, _ = call("compress", str(pruned), "--out", str(small), "--int8")
    assert code == 0
    assert compress.load_int8(small).vocabulary == NeuroFMX.from_pretrained(model).vocabulary
    assert (small / "int8.safetensors").stat().st_size < (
        model / "model.safetensors"
    ).stat().st_size


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to do: give --int8, --prune SHARE, or both"),
        (("--prune", "50"), "--prune 50.0: give a share between 0 and 1"),
        (("--int8", "--out", "model"), "is the model's own folder"),
        (("--int8",), "model holds no model.safetensors"),
    ],
)
def test_compress_says_what_it_needs(call, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = call("compress", "model", "--out", "out", *words)
    assert code == 2
    assert message in err


def test_inspect_shows_what_a_model_is_made_of(call, tmp_path):
    made = shards(tmp_path / "made", [recording("a")])
    model = tiny_model(made, ["a"], 0)
    model.save_pretrained(tmp_path / "model")
    code, out, _ = call("inspect", str(tmp_path / "model"))
    assert code == 0
    assert f"{model.num_parameters():,}" in out
    assert "MambaBackbone" in out
    assert "spikes: " in out
