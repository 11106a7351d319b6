"""Starting a stage on many processes, and stopping it.

The stage's one command starts the launcher itself, so that `dvc.yaml` needs to know nothing of it:

    neurofmx pretrain → torchrun (or deepspeed, with a hostfile) → a rank on each processor or GPU

Ranks run `neurofmx.stages.ranks`, which leaves what went wrong in a file, as launchers do not pass
exit codes on. On SIGTERM (a cluster takes the machine back) ranks finish the step, save and end,
and the command exits with the code of `Preempted`.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from pydantic import Field, model_validator

from neurofmx.config import Params
from neurofmx.errors import DataError, NeuroFMXError, Preempted, TransientError, UserError

INSIDE = "NEUROFMX_RANK_ERRORS"  # folder where a rank leaves what went wrong; set where it is one
PATIENCE = 120.0  # s that ranks have to save when they are told to stop
NODE = ("NODE_RANK", "SLURM_NODEID", "GROUP_RANK", "JOB_COMPLETION_INDEX")


class LaunchParams(Params):
    """Processes and machines.

    Attributes:
        processes: On each machine: one for each of its GPUs, or parts of its processor.
        nodes: Machines, or at least and at most so many ("2:4"), of which each runs the command.
        rendezvous: Where they meet: host:port of the first, which all can reach; variables of the
            environment ($NAME) are filled in.
        hostfile: Instead, a file with a line "host slots=n" for each machine, for DeepSpeed's
            launcher, which starts them by ssh from the first.
    """

    processes: int = Field(1, ge=1)
    nodes: int | str = 1
    rendezvous: str = ""
    hostfile: str = ""

    @model_validator(mode="after")
    def _usable(self) -> "LaunchParams":
        if str(self.nodes) != "1" and not self.rendezvous:
            raise ValueError(
                f"launch.nodes is {self.nodes}: several machines need launch.rendezvous, the "
                "host:port at which they meet (or launch.hostfile instead of both)"
            )
        return self

    @property
    def many(self) -> bool:
        """Whether there is anything to launch."""
        return self.processes > 1 or str(self.nodes) != "1" or bool(self.hostfile)


def inside() -> bool:
    """Whether this process is a rank that a launcher started."""
    return INSIDE in os.environ


def first_node() -> bool:
    """Whether this machine is the one that writes what a stage leaves."""
    return next((os.environ[name] for name in NODE if name in os.environ), "0") == "0"


def start(stage: str, params: LaunchParams, folder: Path) -> None:
    """Run a stage's ranks to their end.

    Args:
        stage: Its name.
        folder: Where ranks may leave what went wrong.

    Raises:
        NeuroFMXError: As the first rank that failed with one; a rank that died without a word is
            a `TransientError`, since the same command goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("rank-*.json"):
        old.unlink()
    environment = os.environ | {INSIDE: str(folder.resolve()), "OMP_NUM_THREADS": threads(params)}
    process = subprocess.Popen(command(stage, params), env=environment)
    with Stop() as stop:
        code = _wait(process, stop)
    if code == 0 and not list(folder.glob("rank-*.json")):
        return
    _explain(stage, folder, code, stop.asked)


def command(stage: str, params: LaunchParams) -> list[str]:
    """The launcher's command line."""
    work = ["-m", "neurofmx.stages.ranks", stage]
    if params.hostfile:
        launcher = [
            sys.executable,
            "-m",
            "deepspeed.launcher.runner",
            "--hostfile",
            params.hostfile,
        ]
        return [*launcher, "--module", *work[1:]]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--monitor-interval", "0.2"]
    launcher += ["--nproc-per-node", str(params.processes), "--nnodes", str(params.nodes)]
    if params.rendezvous:
        place = os.path.expandvars(params.rendezvous)
        if "$" in place:
            raise UserError(
                f"launch.rendezvous is {params.rendezvous!r}, and a variable in it is not set in "
                "the environment: export it before the command"
            )
        meet = ["--rdzv-backend", "c10d", "--rdzv-id", stage, "--rdzv-endpoint", place]
    else:
        meet = ["--standalone"]
    return [*launcher, *meet, *work]


def threads(params: LaunchParams) -> str:
    """Threads of each rank: its part of the processor."""
    return os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // params.processes)))


def left_behind(error: NeuroFMXError) -> None:
    """Leave what went wrong in this rank where `start` looks for it.

    DeepSpeed's launcher does not tell that to the machines that it reaches by ssh: there it is
    printed, and `start` knows of a rank that died.
    """
    if not inside():
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return
    folder = Path(os.environ[INSIDE])
    content = {"kind": type(error).__name__, "message": str(error), "time": time.time()}
    path = folder / f"rank-{os.environ.get('RANK', '0')}.json"
    path.write_text(json.dumps(content))


class Stop:
    """Inside, SIGTERM is noted and does not end the process.

    Attributes:
        asked: Whether it came.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def _wait(process: subprocess.Popen, stop: Stop) -> int:
    """Until the launcher ends; a stop goes to the ranks themselves, whom it would kill too soon."""
    told = None
    while True:
        try:
            return process.wait(0.2)
        except subprocess.TimeoutExpired:
            pass
        if stop.asked and told is None:
            told = time.monotonic()
            for rank in _ranks(process):
                rank.terminate()
        if told is not None and time.monotonic() - told > PATIENCE:
            process.terminate()


def _ranks(process: subprocess.Popen) -> list[psutil.Process]:
    """Ranks on this machine, which the launcher or a launcher of its own started."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "neurofmx.stages.ranks" in child.cmdline() and "RANK" in child.environ():
                found.append(child)
        except psutil.Error:
            continue
    return found


def _explain(stage: str, folder: Path, code: int, stopped: bool) -> None:
    said = [json.loads(path.read_text()) for path in folder.glob("rank-*.json")]
    kinds = {kind.__name__: kind for kind in (UserError, DataError, Preempted, TransientError)}
    known = sorted((s for s in said if s["kind"] in kinds), key=lambda s: s["time"])
    if known:
        raise kinds[known[0]["kind"]](known[0]["message"])
    if said:
        raise RuntimeError(f"{stage}: a rank ended in a traceback, printed above")
    if stopped:
        raise Preempted(f"{stage} was told to stop before its first step: run it again")
    raise TransientError(
        f"{stage}: a process died without a word (the launcher ended with {code}), and the others "
        "were ended. The last checkpoint is whole: run the same command again to go on from it"
    )
