"""Training in real processes, as a launcher starts them, of the made recording.

`python spread.py FOLDER` is a rank: it reads FOLDER/spec.json, trains, and rank 0 writes down the
losses of every step. What a test wants to go wrong is in the spec.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODES = {"UserError": 2, "TransientError": 75, "Preempted": 85}


def params(engine="local", **changes):
    """Parameters of a short run, as plain values."""
    usual = {
        "engine": engine,
        "epochs": 4,
        "batch_size": 8,
        "valid_every": 8,
        "checkpoint": {"every": 4, "keep": 1, "behind": False},
        "optimizer": {"lr": 3e-3},
        "objectives": {"decode": 1.0, "masked": 0.1, "forecast": 0.1},
    }
    return usual | changes


def start(folder: Path, shards: Path, given: dict, world=1, model: dict | None = None, **faults):
    """Start the ranks of a run; they go on by themselves."""
    folder.mkdir(exist_ok=True, parents=True)
    spec = {"shards": str(shards), "params": given, "model": model or {}, "faults": faults}
    (folder / "spec.json").write_text(json.dumps(spec))
    command = [sys.executable, __file__, str(folder)]
    if world > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        launcher += ["--monitor-interval", "0.2", "--nproc-per-node", str(world)]
        command = [*launcher, *command[1:]]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    environment |= {"NEUROFMX_RANK_ERRORS": str(folder)}
    log = (folder / "log").open("a")
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def run(folder: Path, *arguments, patience: float = 900.0, **more) -> int:
    """A run to its end; its exit code."""
    process = start(folder, *arguments, **more)
    try:
        return process.wait(patience)
    finally:
        process.kill()


def losses(folder: Path) -> list[float]:
    """Of every step, of the last part of a run."""
    return [json.loads(line)["loss"] for line in (folder / "losses.jsonl").read_text().splitlines()]


def told(folder: Path) -> str:
    """What the ranks printed."""
    return (folder / "log").read_text()


def wait_for(path: Path, patience: float = 600.0) -> str:
    """The content of a file, when it is there."""
    end = time.monotonic() + patience
    while not path.exists() or not path.read_text():
        if time.monotonic() > end:
            raise TimeoutError(f"{path} did not come")
        time.sleep(0.02)
    return path.read_text()


def main(folder: Path) -> None:
    """A rank."""
    import torch
    from windows import tiny_model

    from neurofmx.config import build
    from neurofmx.data.shards import Shards
    from neurofmx.errors import NeuroFMXError
    from neurofmx.training.fit import Fit
    from neurofmx.training.recipe import FitParams

    torch.set_num_threads(1)
    spec = json.loads((folder / "spec.json").read_text())
    faults, made = spec["faults"], Shards(Path(spec["shards"]))
    model = tiny_model(made, ["a"], 0, **spec["model"])
    given = build(FitParams, spec["params"], "fit")
    try:
        fit = Fit(model, made, ["a"], given, 0, folder)
        rank, step_of = fit.engine.rank, fit._step
        out = (folder / f"losses{'' if rank == 0 else rank}.jsonl").open("w", buffering=1)
        (folder / f"pid{rank}").write_text(str(os.getpid()))

        def step(number, parts, stop):
            if number == faults.get("poison"):
                for signals in parts[0].signals.values():
                    signals.values[:] = float("nan")
            if number == faults.get("poison_always", 10**9):
                faults["poison_always"] += 1
                for signals in parts[0].signals.values():
                    signals.values[:] = float("nan")
            if number == faults.get("wait_at"):
                (folder / f"waits{rank}").write_text("here")
                while not (folder / "go").exists() and not fit_stop():
                    time.sleep(0.02)
            if number == faults.get("die_at") and rank == faults.get("who", 0):
                os.kill(os.getpid(), signal.SIGKILL)
            if number == faults.get("no_space_at"):
                import resource

                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
            done = step_of(number, parts, stop or fit_stop())
            out.write(json.dumps({"step": number, "loss": done.losses["loss"]}) + "\n")
            return done

        def fit_stop():
            return getattr(signal.getsignal(signal.SIGTERM), "__self__", None) is not None and (
                signal.getsignal(signal.SIGTERM).__self__.asked
            )

        fit._step = step
        fit.run("made")
        if rank == 0:
            fit.model.save_pretrained(folder / "trained")
    except NeuroFMXError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        sys.stdout.flush()
        os._exit(error.exit_code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
