"""What goes wrong in training, in real processes: what is kept, what is said, how it goes on."""

import json
import os
import signal
import time

import pytest
import torch
from safetensors.torch import load_file
from spread import losses, params, run, start, told, wait_for
from windows import recording, shards

PREEMPTED, TRANSIENT, USER = 85, 75, 2
BOUND = 60.0  # s in which all ranks are to be gone when one is


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults") / "made"
    shards(folder, [recording("a", trials=80)])
    return folder


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory):
    """The run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder, made, params()) == 0, told(folder)
    return folder


def checkpoints(folder):
    return sorted(path.name for path in (folder / "state").glob("step-*"))


def goes_on_to_the_same(folder, made, whole, given=None, world=1, near=0.0):
    """A second start takes the steps that were left and ends where the whole run did."""
    assert run(folder, made, given or params(), world=world) == 0, told(folder)
    rest = losses(folder)
    assert 0 < len(rest) < len(losses(whole))
    assert rest == pytest.approx(losses(whole)[-len(rest) :], rel=near, abs=near)
    if not near:
        ours, theirs = (load_file(f / "best.safetensors") for f in (folder, whole))
        assert all(torch.equal(x, theirs[name]) for name, x in ours.items())


@pytest.mark.parametrize("world", [1, 2])
def test_sigterm_saves_and_ends_with_a_code_of_its_own(made, whole, tmp_path, world):
    engine = "local" if world == 1 else "ddp"
    process = start(tmp_path, made, params(engine), world=world, wait_at=6)
    pids = [int(wait_for(tmp_path / f"pid{rank}")) for rank in range(world)]
    for rank in range(world):
        wait_for(tmp_path / f"waits{rank}")
    os.kill(pids[0], signal.SIGTERM)  # one is told; the others have to follow
    (tmp_path / "go").touch()
    code = process.wait(600)
    assert (code if world == 1 else code != 0) == (PREEMPTED if world == 1 else True)
    assert "Preempted: made was told to stop and is saved at step 7 of 24" in told(tmp_path)
    assert checkpoints(tmp_path)[-1] == "step-00000007"
    given = params(engine)
    goes_on_to_the_same(tmp_path, made, whole, given, world, 0.0 if world == 1 else 1e-3)


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_kill_9_of_one_rank_ends_all_and_the_run_goes_on(made, whole, tmp_path, engine):
    process = start(tmp_path, made, params(engine), world=2, die_at=10, who=1)
    others = int(wait_for(tmp_path / "pid0"))
    assert process.wait(600) != 0
    end = time.monotonic() + BOUND
    while alive(others):
        assert time.monotonic() < end, "rank 0 outlived rank 1"
        time.sleep(0.1)
    assert checkpoints(tmp_path)[-1] == "step-00000008"
    goes_on_to_the_same(tmp_path, made, whole, params(engine), 2, 1e-3)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(("engine", "world"), [("local", 1), ("ddp", 2)])
def test_a_loss_that_is_no_number_is_left_out_and_its_windows_are_kept(
    made, tmp_path, engine, world
):
    assert run(tmp_path, made, params(engine), world=world, poison=5) == 0, told(tmp_path)
    found = losses(tmp_path)
    assert [k for k, loss in enumerate(found) if loss != loss] == [5]
    assert len(found) == 24
    said = json.loads((tmp_path / "bad" / "step-00000005-0.json").read_text())
    assert said["loss"] == "nan"
    assert len(said["windows"]) == len(said["positions"]) == 8 // world
    (part,) = torch.load(tmp_path / "bad" / "step-00000005-0.pt", weights_only=False)
    assert part.signals["spikes"].values.isnan().all()
    assert part.windows == said["positions"]


def test_after_too_many_such_steps_it_stops(made, tmp_path):
    given = params(bad_steps=2)
    assert run(tmp_path, made, given, poison_always=6) == USER
    assert "3 steps had a loss or gradient that is no number, and fit.bad_steps allows 2" in told(
        tmp_path
    )
    assert len(list((tmp_path / "bad").glob("*.json"))) == 3


@pytest.mark.parametrize("behind", [False, True])
def test_a_full_disk_leaves_the_checkpoint_before(made, whole, tmp_path, behind):
    given = params(checkpoint={"every": 4, "keep": 1, "behind": behind})
    assert run(tmp_path, made, given, no_space_at=9) == TRANSIENT, told(tmp_path)
    assert "could not be written" in told(tmp_path)
    assert "free space or wait, then run the same command again" in told(tmp_path)
    # Written behind, that of step 8 may still be on its way when the disk is full.
    possible = {"step-00000008"} | ({"step-00000004"} if behind else set())
    assert checkpoints(tmp_path)[-1] in possible
    goes_on_to_the_same(tmp_path, made, whole, given)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(made, whole, tmp_path):
    given = params(checkpoint={"every": 4, "keep": 2, "behind": False})
    assert run(tmp_path, made, given, die_at=14) != 0
    kept = checkpoints(tmp_path)
    assert kept[-2:] == ["step-00000008", "step-00000012"]
    file = next((tmp_path / "state" / kept[-1]).glob("*.distcp"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    goes_on_to_the_same(tmp_path, made, whole, given)
    assert f"{kept[-1]} is damaged ({file.name} has another checksum)" in told(tmp_path)
    assert len(losses(tmp_path)) == 24 - int(kept[-2].removeprefix("step-"))


def test_as_many_of_the_best_as_asked_are_kept_beside_the_last(made, tmp_path):
    given = params(valid_every=2, checkpoint={"every": 2, "keep": 3, "behind": True})
    assert run(tmp_path, made, given) == 0, told(tmp_path)
    said = {
        path.parent.name: json.loads(path.read_text())["valid"]
        for path in (tmp_path / "state").glob("step-*/manifest.json")
    }
    history = (tmp_path / "history.csv").read_text().splitlines()
    place = history[0].split(",").index("valid")
    valid = {f"step-{int(r.split(',')[0]):08d}": float(r.split(",")[place]) for r in history[1:]}
    assert len(valid) == 12
    best = sorted(valid, key=valid.get)[:3]
    assert set(said) == {*best, "step-00000024"}
    assert said == {name: valid[name] for name in said}
