"""One run under every engine, in real processes: the same losses, checkpoints that others read."""

import pytest
import torch
from safetensors.torch import load_file
from spread import losses, params, run, told
from windows import recording, shards

from neurofmx.models import NeuroFMX

STEPS = 20
EXACT = {"rel": 1e-4}
# Twenty steps of everything that has to meet between ranks.
RICH = {
    "decode": 1.0,
    "masked": 0.1,
    "crossing": 0.1,
    "forecast": 0.1,
    "contrastive": 0.1,
    "contrastive_behaviour": 0.1,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spread") / "made"
    shards(folder, [recording("a", trials=80)])
    return folder


@pytest.fixture(scope="module")
def alone(made, tmp_path_factory):
    """The run that the others are held to."""
    folder = tmp_path_factory.mktemp("alone")
    assert run(folder, made, params(objectives=RICH)) == 0, told(folder)
    return folder


CASES = [
    ("ddp", 1, {}),
    ("ddp", 2, {}),
    ("fsdp", 1, {}),
    ("fsdp", 2, {}),
    ("fsdp", 2, {"memory": {"recompute": True}, "accumulate": 2}),
    ("deepspeed", 1, {}),
    ("deepspeed", 2, {}),
    ("deepspeed", 2, {"memory": {"zero": 2}, "accumulate": 2}),
    ("deepspeed", 2, {"memory": {"zero": 3}}),
    ("deepspeed", 2, {"memory": {"zero": 2, "offload": "cpu"}}),
]


@pytest.mark.parametrize(("engine", "world", "changes"), CASES)
def test_every_engine_takes_the_steps_of_one_process(made, alone, tmp_path, engine, world, changes):
    if engine == "deepspeed":
        pytest.importorskip("deepspeed")
    if changes.get("accumulate"):  # contrasts are between the windows of a part
        rich = {n: w for n, w in RICH.items() if not n.startswith("contrastive")}
        alone = tmp_path / "alone"
        assert run(alone, made, params(objectives=rich)) == 0
    else:
        rich = RICH
    given = params(engine, objectives=rich, **changes)
    assert run(tmp_path / "run", made, given, world=world) == 0, told(tmp_path / "run")
    expected, found = losses(alone), losses(tmp_path / "run")
    assert len(found) >= STEPS
    assert found[:STEPS] == pytest.approx(expected[:STEPS], **EXACT)
    # And what it leaves is a plain model, which loads without the engine.
    plain = NeuroFMX.from_pretrained(tmp_path / "run" / "trained")
    one = NeuroFMX.from_pretrained(alone / "trained")
    for name, x in one.state_dict().items():
        torch.testing.assert_close(plain.state_dict()[name], x, rtol=1e-2, atol=5e-3)


@pytest.mark.parametrize("engine", ["ddp", "fsdp", "deepspeed"])
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_run_goes_on_at_another_number_of_ranks(made, alone, tmp_path, engine, before, after):
    if engine == "deepspeed":
        pytest.importorskip("deepspeed")
    given = params(engine, objectives=RICH)
    assert run(tmp_path, made, given, world=before, die_at=10, who=before - 1) != 0
    assert run(tmp_path, made, given, world=after) == 0, told(tmp_path)
    rest = losses(tmp_path)
    assert 10 <= len(rest) < len(losses(alone))
    assert rest == pytest.approx(losses(alone)[-len(rest) :], rel=1e-3, abs=1e-3)


def test_a_run_in_bfloat16_learns_the_same_under_ddp(made, tmp_path):
    found = {}
    for engine, world in (("local", 1), ("ddp", 2)):
        folder = tmp_path / engine
        given = params(engine, precision="bfloat16")
        assert run(folder, made, given, world=world) == 0, told(folder)
        found[engine] = losses(folder)
        assert load_file(folder / "best.safetensors")["hidden_token"].dtype == torch.float32
    assert found["ddp"] == pytest.approx(found["local"], rel=0.05, abs=0.04)
