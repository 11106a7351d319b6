"""The benchmark of the loader runs, writes what it says, and sees when a contender cheats.

Its figures are not judged here.
"""

import functools
import importlib
import itertools
import subprocess
import sys

import pandas as pd
import pytest
from sources import ROOT
from windows import card, recording, shards

pytest.importorskip("torch_brain", reason="the peers are in the extra `bench`")


def test_a_quick_run_writes_every_figure_with_its_unit_and_the_machine(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "loader.py"), "demo", "write", "start"]
    subprocess.run([*command, "--quick", "--results", str(tmp_path)], check=True)
    results = pd.read_csv(tmp_path / "results.csv", keep_default_na=False)
    machine = pd.read_json(tmp_path / "machine.json")

    assert set(results["section"]) == set(machine.columns) == {"demo", "write", "start"}
    assert machine["demo"]["inputs"]["synthetic"]
    assert (results["unit"] != "").all()
    gates = results[results["gate"] != ""].set_index("figure")["met"]
    ratios = {figure for figure in gates.index if figure.endswith("/ neurofmx")}
    peers = [
        f"{n} workers: {peer} / neurofmx" for n in (0, 2) for peer in ("torch_brain", "webdataset")
    ]
    assert ratios == {*peers, "0 workers: numpy mmap / neurofmx"}
    assert gates["files that differ by workers"] == "True"
    assert machine["demo"]["machine"]["packages"]["torch-brain"] != "absent"


@pytest.fixture(scope="module")
def loaders():
    """The benchmark's contenders; it is no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        module = importlib.import_module("loaders")
        patch.setattr(module, "BATCH", 8)
        yield module


@pytest.fixture(scope="module")
def made(loaders, tmp_path_factory):
    """Train windows of two recordings with unlike units."""
    recordings = [recording("a", units=6), recording("b", seed=1, units=4)]
    kept = shards(tmp_path_factory.mktemp("made"), recordings)
    return loaders.Windows(kept, card(), kept.positions("train"), 1.0)


def test_other_samples_are_noticed(loaders, made, tmp_path):
    same_windows = importlib.import_module("delivered").same_windows
    loaders.write_bare(made, tmp_path)
    stream = functools.partial(loaders.bare, made, tmp_path, True)
    same_windows(made, stream())

    def wrong(where):
        for batch in stream():
            batch["lfp.values"][where] *= 1.0001
            yield batch

    with pytest.raises(ValueError, match=f"{len(made)} of {len(made)} windows have other samples"):
        same_windows(made, wrong(...))
    with pytest.raises(ValueError, match="other samples"):
        same_windows(made, wrong((0, 30, 1)))
    with pytest.raises(ValueError, match="other samples"):  # one batch again and again
        same_windows(made, itertools.repeat(next(stream())))


def test_ours_are_the_samples_normalised_by_their_own_channels(loaders, made):
    same_batches = importlib.import_module("delivered").same_batches
    same_batches(made, loaders.neurofmx(made, 0))

    def wrong():
        for batch in loaders.neurofmx(made, 0):
            batch.signals["spikes"].values[-1, 3, 2] += 0.01
            yield batch

    with pytest.raises(ValueError, match="spikes has other samples"):
        same_batches(made, wrong())
    with pytest.raises(ValueError, match="once"):
        same_batches(made, itertools.repeat(next(loaders.neurofmx(made, 0))))
