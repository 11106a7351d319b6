"""Starting ranks: command lines as the launchers themselves read them, and what ranks leave."""

import os
import signal
import sys
import threading

import pytest
from pydantic import ValidationError
from torch.distributed import run as torchrun

from neurofmx.errors import DataError, NeuroFMXError, Preempted, TransientError, UserError
from neurofmx.training import launch
from neurofmx.training.launch import INSIDE, NODE, LaunchParams, Stop, command, first_node


def read(stage, **params):
    """What torchrun makes of the command line, which this Python runs."""
    line = command(stage, LaunchParams(**params))
    assert line[:3] == [sys.executable, "-m", "torch.distributed.run"]
    found = torchrun.parse_args(line[3:])
    assert (found.module, found.training_script) == (True, "neurofmx.stages.ranks")
    assert found.training_script_args == [stage]
    return found


def test_one_machine_starts_a_process_on_each_part_of_it():
    found = read("pretrain", processes=4)
    assert (found.nproc_per_node, found.nnodes, found.standalone) == ("4", "1", True)


@pytest.mark.parametrize(("nodes", "least", "most"), [(3, 3, 3), ("2:4", 2, 4)])
def test_several_machines_meet_where_they_are_told(nodes, least, most):
    found = read("adapt", processes=8, nodes=nodes, rendezvous="node0:29400")
    assert torchrun.parse_min_max_nnodes(found.nnodes) == (least, most)
    assert (found.nproc_per_node, found.standalone) == ("8", False)
    assert (found.rdzv_backend, found.rdzv_endpoint) == ("c10d", "node0:29400")
    assert found.rdzv_id == "adapt"


def test_a_hostfile_is_for_deepspeeds_launcher(tmp_path):
    runner = pytest.importorskip("deepspeed.launcher.runner")
    hosts = tmp_path / "hosts"
    hosts.write_text("one slots=2\ntwo slots=4\n")
    line = command("pretrain", LaunchParams(hostfile=str(hosts)))
    assert line[:3] == [sys.executable, "-m", "deepspeed.launcher.runner"]
    found = runner.parse_args(line[3:])
    assert (found.module, found.user_script) == (True, "neurofmx.stages.ranks")
    assert found.user_args == ["pretrain"]
    assert runner.fetch_hostfile(found.hostfile) == {"one": 2, "two": 4}


def test_there_is_something_to_launch_only_where_there_are_several():
    assert not LaunchParams().many
    assert LaunchParams(processes=2).many
    assert LaunchParams(nodes=2, rendezvous="a:1").many
    assert LaunchParams(hostfile="hosts").many
    with pytest.raises(ValidationError, match=r"launch.nodes is 2:4.*host:port at which they meet"):
        LaunchParams(nodes="2:4")


@pytest.fixture
def alone(monkeypatch):
    """A machine that no scheduler has numbered."""
    for name in (*NODE, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", NODE)
@pytest.mark.usefixtures("alone")
def test_the_first_machine_is_the_one_that_its_scheduler_calls_0(name, monkeypatch):
    assert first_node()
    monkeypatch.setenv(name, "0")
    assert first_node()
    monkeypatch.setenv(name, "1")
    assert not first_node()


@pytest.mark.usefixtures("alone")
def test_threads_are_shared_out_unless_they_are_given(monkeypatch):
    cores = os.cpu_count()
    assert launch.threads(LaunchParams()) == str(cores)
    assert launch.threads(LaunchParams(processes=10 * cores)) == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert launch.threads(LaunchParams(processes=2)) == "3"


def test_inside_a_stop_sigterm_is_noted_and_outside_it_is_as_before():
    came = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append("outside"))
    try:
        with Stop() as stop:
            assert not stop.asked
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.asked
            with Stop() as inner:
                assert not inner.asked
            os.kill(os.getpid(), signal.SIGTERM)
        assert came == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert came == ["outside"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_handler_comes_back_after_a_failure_too():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError), Stop():
        raise KeyError
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_stop_in_another_thread_leaves_signals_alone():
    """Python sets handlers in the main thread alone; an orchestrator may train in another."""
    before, found = signal.getsignal(signal.SIGTERM), []

    def work():
        with Stop() as stop:
            found.append((stop.asked, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, before)]


def left(folder, monkeypatch, *errors):
    """What ranks leave that fail one after the other."""
    monkeypatch.setenv(INSIDE, str(folder))
    for rank, error in enumerate(errors):
        monkeypatch.setenv("RANK", str(len(errors) - 1 - rank))
        launch.left_behind(error)


def explained(folder, code=1, stopped=False):
    with pytest.raises((NeuroFMXError, RuntimeError)) as raised:
        launch._explain("pretrain", folder, code, stopped)
    return raised.value


@pytest.mark.parametrize("kind", [UserError, DataError, Preempted, TransientError])
def test_an_error_comes_out_as_the_rank_raised_it(kind, tmp_path, monkeypatch):
    left(tmp_path, monkeypatch, kind("a message"))
    found = explained(tmp_path)
    assert type(found) is kind
    assert str(found) == "a message"


def test_of_several_the_first_in_time_is_told(tmp_path, monkeypatch):
    left(tmp_path, monkeypatch, UserError("first"), TransientError("the others lost it"))
    found = explained(tmp_path)
    assert (type(found), str(found)) == (UserError, "first")


def test_a_traceback_is_ours_to_mend(tmp_path, monkeypatch):
    left(tmp_path, monkeypatch, NeuroFMXError("KeyError('x')"))
    found = explained(tmp_path)
    assert type(found) is RuntimeError
    assert "pretrain: a rank ended in a traceback" in str(found)


def test_a_rank_that_died_without_a_word_is_transient(tmp_path):
    found = explained(tmp_path, code=-9)
    assert type(found) is TransientError
    assert "died without a word (the launcher ended with -9)" in str(found)
    assert "run the same command again" in str(found)


def test_who_was_told_to_stop_before_a_step_was_preempted(tmp_path):
    found = explained(tmp_path, stopped=True)
    assert type(found) is Preempted
    assert "before its first step" in str(found)


def test_a_rank_that_was_not_told_where_to_leave_it_prints_what_went_wrong(monkeypatch, capsys):
    """As on machines that DeepSpeed's launcher reaches by ssh, with an environment of their own."""
    monkeypatch.delenv(INSIDE, raising=False)
    launch.left_behind(UserError("a message"))
    assert capsys.readouterr().err == "UserError: a message\n"
