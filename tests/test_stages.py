"""A stage has one name, everywhere."""

import ast
from importlib import import_module

import pytest
import yaml
from sources import ROOT, closure

from neurofmx.cli import app
from neurofmx.config import PARAMS_FILE, StageParams, load_params
from neurofmx.stages import STAGES

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
PARAMS = yaml.safe_load((ROOT / PARAMS_FILE).read_text())


def keys(content, above=""):
    """Dotted names of all keys of nested mappings."""
    below = [keys(v, f"{above}{k}.") for k, v in content.items() if isinstance(v, dict)]
    return {f"{above}{key}" for key in content}.union(*below)


def test_the_stages_are_the_same_in_every_place_and_order():
    files = {path.stem for path in (ROOT / "neurofmx" / "stages").glob("*.py")}
    commands = [command.name for command in app.registered_commands]
    readme = (ROOT / "storage" / "README.md").read_text().splitlines()
    rows = [line.split("`")[1].rstrip("/") for line in readme if line.startswith("## `")]

    assert tuple(DVC["stages"]) == STAGES
    assert tuple(key for key in PARAMS if key not in StageParams.model_fields) == STAGES
    assert files - {"__init__", "base", "fits", "found", "ranks"} == set(STAGES)
    assert tuple(command for command in commands if command in files) == STAGES
    assert tuple(rows) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_params_yaml_holds_each_key_of_the_stage_and_no_other(stage):
    cls = import_module(f"neurofmx.stages.{stage}").Params
    params = load_params(stage, cls, ROOT / PARAMS_FILE)
    assert keys(PARAMS[stage]) == keys(params.model_dump(exclude=set(StageParams.model_fields)))


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_stage_runs_its_command_and_keeps_its_folder(stage):
    spec = DVC["stages"][stage]
    assert spec["cmd"] == f"neurofmx {stage}"
    assert spec["outs"] == [{f"storage/{stage}": {"persist": True}}]
    assert spec["params"] == ["dataset", "seed", stage]
    assert f"storage/{stage}/metrics.json" in DVC["metrics"]


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_stage_depends_on_all_code_that_it_imports(stage):
    deps = [ROOT / dep for dep in DVC["stages"][stage]["deps"]]
    needed = closure(ROOT / "neurofmx" / "stages" / f"{stage}.py")
    others = {p for p in needed if p.parent.name == "stages" and p.name == "__init__.py"}
    missing = {p for p in needed - others if not any(p.is_relative_to(dep) for dep in deps)}
    assert {str(path.relative_to(ROOT)) for path in missing} == set()


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_stage_depends_on_no_code_that_it_does_not_import(stage):
    needed = closure(ROOT / "neurofmx" / "stages" / f"{stage}.py")
    code = [ROOT / dep for dep in DVC["stages"][stage]["deps"] if dep.startswith("neurofmx/")]
    idle = [dep for dep in code if not any(path.is_relative_to(dep) for path in needed)]
    assert [str(path.relative_to(ROOT)) for path in idle] == []


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_stage_depends_on_the_manifests_of_the_stages_that_it_names(stage):
    tree = ast.parse((ROOT / "neurofmx" / "stages" / f"{stage}.py").read_text())
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    named = {other for other in STAGES[: STAGES.index(stage)] if other in strings}
    deps = set(DVC["stages"][stage]["deps"])
    assert {f"storage/{other}/manifest.json" for other in named} <= deps
    later = {f"storage/{other}/manifest.json" for other in STAGES[STAGES.index(stage) :]}
    assert not deps & later
