"""Our causal model behind FALCON's interface, scored by FALCON's own evaluator."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from sources import ROOT
from streams import BIN, DATES, m1_file
from windows import shards, tiny_model

from neurofmx import cli
from neurofmx.data import store
from neurofmx.data.align import align
from neurofmx.data.cards import load_card
from neurofmx.data.dialects import DIALECTS
from neurofmx.data.reading import read_recording
from neurofmx.errors import DataError, UserError
from neurofmx.evaluation.benchmarks import falcon
from neurofmx.evaluation.benchmarks.laid import laid
from neurofmx.models import Known
from neurofmx.models.adapter_files import save_adapter
from neurofmx.models.adapters import adapt
from neurofmx.training.inference import batches

READY = load_card("falcon_m1", ROOT / "datasets")
# The files are too short for a guard.
CARD = READY.model_copy(update={"split": READY.split.model_copy(update={"guard": 0.0})})
LENGTHS = dict(zip(DATES, (50, 60, 40, 45), strict=True))  # bins
ADAPTED = DATES[3]


def aligned(file, folder):
    """A recording as align leaves it."""
    name = DIALECTS["falcon"].recording(file.name)
    path = folder / f"{name}.zarr"
    if not path.exists():
        with read_recording(name, [file], CARD) as recording:
            store.write(align(recording, CARD), path, "key")
    return store.read_aligned(path)


def minival(folder, date):
    """The file of a session that is to be decoded."""
    where = folder / "data" / "m1" / "minival"
    return where / f"sub-MonkeyL-held-in-minival_ses-{date}_behavior+ecephys.nwb"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Calibration and minival files, and `storage/` with a causal model of a token per bin.

    One session was left for adapt, whose model differs in all that it owns.
    """
    folder = tmp_path_factory.mktemp("falcon")
    recordings = []
    for date in DATES:
        m1_file(minival(folder, date).parent, "minival", date, LENGTHS[date])
        calibration = m1_file(folder / "calib", "calib", date, 300)
        recordings.append(aligned(calibration, folder / "storage" / "align"))
    made = shards(folder / "storage" / "tokenize", recordings, CARD, tokens=100)
    names = {date: recording.id for date, recording in zip(DATES, recordings, strict=True)}
    seen = [name for date, name in names.items() if date != ADAPTED]
    core = tiny_model(made, seen, causal=True, rates=[1, 3])
    torch.manual_seed(0)
    for parameter in core.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    core.save_pretrained(folder / "storage" / "pretrain")
    known = {"spikes": Known([(names[ADAPTED], unit) for unit in range(64)], [])}
    other = adapt(core, known, "unit_id", seed=1)
    save_adapter(folder / "storage" / "adapt" / names[ADAPTED], other, core, "unit_id")
    return folder


@pytest.fixture(scope="module")
def sessions(project):
    return falcon.Sessions(CARD, project / "storage")


@pytest.fixture(scope="module")
def scored(project, sessions):
    """Scores, answers and truth of FALCON's evaluator, three files at a time."""
    out = project / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", dict(os.environ))
        scores = falcon.evaluate(sessions, project / "data", batch_size=3, out=out)
    answers = pickle.loads((out / "prediction.pkl").read_bytes())["m1"]
    return scores, answers, pickle.loads((out / "truth.pkl").read_bytes())["m1"]


@torch.no_grad()
def forward(project, sessions, date):
    """The batch forward's answers to the file's samples: times and values of the whole file."""
    session = sessions.of(minival(project, date))
    file = aligned(minival(project, date), project / "minival")
    n = LENGTHS[date]
    span = [(0.0, n * BIN)]
    recording = replace(file, id=session.recording)
    with laid(recording, CARD, span, project / "storage" / "tokenize") as windows:
        (batch,) = batches(session.model, windows, [0])
        output = session.model(batch, heads=())
        times = torch.arange(n)[None] * BIN
        asked = session.model.ask("emg", output.latents, output.features, times)
        answers, _ = session.model.answer("emg", session.model.decode["emg"](asked))
    return 1e3 * answers[0].numpy()  # as the file has it, in mV


@pytest.mark.parametrize("date", DATES)
def test_answers_are_those_of_the_batch_forward(date, project, sessions, scored):
    """Files of three lengths side by side, a fourth alone, and one by its own adapter."""
    truth, answers = forward(project, sessions, date), scored[1][date][: LENGTHS[date]]
    assert answers.shape == truth.shape == (LENGTHS[date], 16)
    # No bin has come at the first sample's time: the stream answers the mean.
    np.testing.assert_allclose(answers[1:], truth[1:], rtol=1e-4, atol=1e-4)
    assert truth[1:].std(axis=0).min() > 0.01  # there is something to agree on


def test_scores_are_variance_weighted_r2_of_what_counts(scored):
    scores, answers, known = scored
    r2 = [
        r2_score(known[d]["data"], answers[d][known[d]["mask"]], multioutput="variance_weighted")
        for d in DATES
    ]
    assert scores["Held In R2 Mean"] == pytest.approx(np.mean(r2))
    assert scores["Held In R2 Std."] == pytest.approx(np.std(r2))
    counting = known[DATES[0]]["mask"][: LENGTHS[DATES[0]]]
    assert counting.sum() == LENGTHS[DATES[0]] - 10


def test_the_evaluator_compares_with_what_the_model_was_asked(project, scored):
    """The same samples, muscles in the same order, once the unit is undone."""
    for date in DATES:
        known, file = scored[2][date], aligned(minival(project, date), project / "minival")
        ours = 1e3 * file.signals["emg"].values[:]
        np.testing.assert_allclose(ours[10:], known["data"], rtol=1e-5, atol=1e-5)


def test_a_stream_begins_anew_at_each_file(project, sessions):
    made = falcon.decoder(sessions, 2)
    counts = np.random.default_rng(0).poisson(0.5, (5, 2, 64))
    runs = []
    for _ in range(2):
        made.reset([minival(project, DATES[0]), str(minival(project, ADAPTED))])
        runs.append(np.stack([made.predict(bins) for bins in counts]))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[0][2:, 0] - runs[0][2:, 1]).max() > 1e-3
    assert made.on_done(np.ones(2)) is None


@pytest.mark.parametrize("stamps", ["start", "end"])
def test_an_answer_is_held_back_until_the_time_of_its_sample(stamps, project):
    """With `stamps: start` a sample that FALCON stamps at its bin's end is told from that bin."""
    signal = CARD.signals["emg"].model_copy(update={"stamps": stamps})
    card = CARD.model_copy(update={"signals": CARD.signals | {"emg": signal}})
    made = falcon.decoder(falcon.Sessions(card, project / "storage"))
    burst = np.zeros((3, 1, 64))
    burst[1] = 5
    answers = []
    for counts in (np.zeros((3, 1, 64)), burst):
        made.reset([minival(project, DATES[0])])
        answers.append(np.stack([made.predict(bins)[0] for bins in counts]))
    changed = np.abs(answers[0] - answers[1]).max(axis=1) > 1e-6
    assert changed.tolist() == [False, stamps == "start", True]


@pytest.mark.parametrize(
    ("split", "ours", "theirs"),
    [
        (
            "m1",
            "sub-MonkeyL-held-in-calib_ses-20120924_behavior_ecephys",
            "L_20120924_held_in_eval",
        ),
        (
            "m2",
            "sub-MonkeyN-held-in-calib_ses-2020-10-19-Run1_behavior_ecephys",
            "sub-MonkeyNRun1_20201019_held_in_eval",
        ),
        ("h1", "sub-HumanPitt-held-in-calib_ses-19250101T111740", "S0_set_1_calib"),
    ],
)
def test_recordings_have_the_names_that_falcon_has_for_their_sessions(split, ours, theirs):
    of = falcon.config_of(split).hash_dataset
    assert of(falcon.handle_of(ours)) == of(Path(f"{theirs}.nwb"))


def test_what_cannot_be_decoded_is_refused(project, sessions, tmp_path):
    with pytest.raises(UserError, match=r"session 20121004, of which the run has no recording"):
        sessions.of(Path("L_20121004_held_out_eval.nwb"))
    with pytest.raises(UserError, match="asks for sentences"):
        falcon.split_of(load_card("falcon_h2", ROOT / "datasets"))
    with pytest.raises(UserError, match="none of falcon_h1"):
        falcon.split_of(CARD.model_copy(update={"name": "demo"}))
    made = falcon.decoder(sessions)
    made.reset([minival(project, DATES[0])])
    with pytest.raises(DataError, match="counts of 60 units came, and the model knows 64"):
        made.predict(np.zeros((1, 60)))
    with pytest.raises(UserError, match="cannot score"):
        falcon.evaluate(sessions, tmp_path)


def test_the_entry_point_of_the_container_gives_the_same_scores(project, scored, tmp_path):
    """Its script as a process, with nothing of ours set but the environment."""
    for name, target in (("datasets", ROOT / "datasets"), ("storage", project / "storage")):
        (tmp_path / name).symlink_to(target)
    told = {"CARD": "falcon_m1", "EVAL_DATA_PATH": str(project / "data"), "OUT": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "falcon" / "decode.py"],
        cwd=tmp_path,
        env=os.environ | told | {"PYTHONPATH": str(ROOT), "BATCH_SIZE": "4"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    scores = json.loads(done.stdout.splitlines()[-1])
    assert scores["Held In R2 Mean"] == pytest.approx(scored[0]["Held In R2 Mean"], abs=1e-6)


def test_the_command_prints_the_scores(project, scored, monkeypatch, capsys):
    (project / "params.yaml").write_text("dataset: falcon_m1\nseed: 0\n")
    if not (project / "datasets").exists():
        (project / "datasets").symlink_to(ROOT / "datasets")
    asked = []
    monkeypatch.setattr(falcon, "evaluate", lambda *a, **k: asked.append((a, k)) or scored[0])
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["neurofmx", "falcon", "data", "--batch-size", "2"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    ((sessions, data, *how), _) = asked[0]
    assert (len(sessions.known), data, how) == (4, project / "data", ["minival", 2])
    assert f"Held In R2 Mean: {scored[0]['Held In R2 Mean']:.4f}" in capsys.readouterr().out
