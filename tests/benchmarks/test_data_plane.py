"""The benchmark of the data plane runs and writes what it says; its figures are not judged here."""

import subprocess
import sys

import pandas as pd
import pytest
from sources import ROOT

pytest.importorskip("pynapple", reason="the peers are in the extra `bench`")
pytest.importorskip("temporaldata", reason="the peers are in the extra `bench`")


def test_a_quick_run_writes_every_figure_with_its_unit_and_the_machine(tmp_path):
    script = ROOT / "benchmarks" / "data_plane.py"
    command = [sys.executable, str(script), "ingest", "window", "align", "--quick"]
    subprocess.run([*command, "--results", str(tmp_path)], check=True, capture_output=True)
    results = pd.read_csv(tmp_path / "results.csv", keep_default_na=False)
    machine = pd.read_json(tmp_path / "machine.json")

    assert set(results["section"]) == set(machine.columns) == {"ingest", "window", "align"}
    assert (results["value"] > 0).all()
    assert (results["unit"] != "").all()
    gates = results[results["gate"] != ""]
    assert gates["met"].isin(["True", "False"]).all()
    peers = {"h5py + zarr", "temporaldata", "pynapple", "pynwb", "xarray", "neurofmx, 1 worker"}
    assert {figure.split(": ")[1].split(" / ")[0] for figure in gates["figure"]} == peers
    assert machine["ingest"]["machine"]["cpu"]
