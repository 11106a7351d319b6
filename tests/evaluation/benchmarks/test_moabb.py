"""Our classifier among others in MOABB's own evaluations, on classes that are planted."""

import pickle
import sys
import warnings
from functools import partial
from io import BytesIO

import joblib
import numpy as np
import pandas as pd
import pytest
from moabb.datasets.fake import FakeDataset
from moabb.paradigms import LeftRightImagery
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from neurofmx import cli
from neurofmx.errors import UserError
from neurofmx.evaluation.benchmarks import moabb
from neurofmx.evaluation.benchmarks.classifier import NeuroFMXClassifier
from neurofmx.evaluation.benchmarks.moabb import csp_lda, evaluate, named

RATE, EVENTS = 64.0, ("left_hand", "right_hand")
SMALL = {"d_model": 32, "n_blocks": 1, "d_state": 8, "headdim": 16, "n_latents": 8}
SMALL |= {"latent_dim": 32, "n_layers": 1, "n_heads": 2, "rates": [1]}
QUICK = {"rate": RATE, "options": SMALL, "tokens": 16, "epochs": 30, "batch_size": 16}


class Planted(FakeDataset):
    """A rhythm of 12 Hz whose power over C3 and C4 tells the hand, in noise."""

    def __init__(self, subjects=2, events=48):
        super().__init__(
            event_list=EVENTS,
            n_sessions=1,
            n_runs=1,
            n_subjects=subjects,
            sfreq=RATE,
            duration=3.5 * events,
            n_events=events,
            seed=0,
        )

    def _generate_raw(self, n_events, duration):
        raw = super()._generate_raw(n_events, duration)
        events = self._generate_events(n_events, duration)
        time = np.arange(round(3 * RATE)) / RATE
        rng = np.random.default_rng(len(raw.ch_names))
        for onset, _, kind in events:
            phase = rng.uniform(0, 2 * np.pi)
            rhythm = 4e-5 * np.sin(2 * np.pi * 12 * time + phase)
            channel = 0 if kind == 1 else 2
            raw._data[channel, onset : onset + len(time)] += rhythm
        return raw


def arrays(n=48, seed=0, classes=2):
    """Trials of which one channel has a rhythm, and which."""
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(n, 3, 128)), np.arange(n) % classes
    time = np.arange(128) / RATE
    for trial, kind in zip(X, y, strict=True):
        trial[kind] += 2 * np.sin(2 * np.pi * 12 * time + rng.uniform(0, 6))
    return X, np.array(["left", "right", "feet"])[y]


@pytest.fixture(scope="module")
def fitted():
    return NeuroFMXClassifier(**QUICK).fit(*arrays())


def test_planted_classes_are_told_and_labels_that_mean_nothing_are_not(fitted):
    X, y = arrays(seed=1)
    assert fitted.score(X, y) > 0.9
    p = fitted.predict_proba(X)
    assert p.shape == (48, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
    assert fitted.classes_.tolist() == ["left", "right"]
    assert (fitted.predict(X) == fitted.classes_[p.argmax(axis=1)]).all()
    shuffled = np.random.default_rng(0).permutation(y)
    assert NeuroFMXClassifier(**QUICK).fit(X, shuffled).score(*arrays(seed=2)) < 0.8


def test_a_trial_is_told_by_itself(fitted):
    X, _ = arrays(seed=1)
    np.testing.assert_allclose(
        fitted.predict_proba(X[3:5]), fitted.predict_proba(X)[3:5], atol=1e-5
    )


def test_it_is_an_estimator_of_scikit_learn(fitted):
    made = clone(fitted)
    assert made.get_params() == fitted.get_params()
    assert made.set_params(epochs=3).epochs == 3
    with pytest.raises(NotFittedError):
        made.predict(arrays()[0])
    file = BytesIO()
    joblib.dump(fitted, file)
    file.seek(0)
    X, _ = arrays(seed=1)
    for again in (joblib.load(file), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))


def test_equal_seeds_give_equal_models(fitted):
    X, _ = arrays(seed=1)
    again = NeuroFMXClassifier(**QUICK).fit(*arrays())
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))


@pytest.mark.parametrize("adapter", ["unit_id", "head"])
def test_a_pretrained_model_is_adapted_to_other_channels_and_classes(adapter, fitted, tmp_path):
    fitted.model_.save_pretrained(tmp_path)
    X, y = arrays(seed=3, n=60, classes=3)
    made = NeuroFMXClassifier(
        RATE, str(tmp_path), adapter=adapter, epochs=20, batch_size=16, lr=1e-2
    )
    made.fit(X, y)
    assert made.predict_proba(X).shape == (60, 3)
    core, own = fitted.model_.state_dict(), made.model_.state_dict()
    frozen = [n for n in core if n.startswith(("backbone", "perceiver"))]
    assert frozen
    assert all(np.array_equal(core[n], own[n]) for n in frozen)
    assert made.score(*arrays(seed=4, n=60, classes=3)) > 0.5  # chance is a third


@pytest.mark.parametrize("evaluation", ["within", "subjects"])
def test_moabb_scores_it_beside_csp_and_lda(evaluation, tmp_path):
    ours = make_pipeline(NeuroFMXClassifier(**(QUICK | {"epochs": 10})))
    paradigm = LeftRightImagery(fmin=6, fmax=30, tmax=2.0)
    pipelines = {"neurofmx": ours, "csp+lda": csp_lda()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        subjects = 1 if evaluation == "within" else 2
        table = evaluate(paradigm, [Planted(subjects)], pipelines, evaluation, tmp_path)
    scores = table.groupby("pipeline")["score"]
    assert scores.size().tolist() == [subjects, subjects]
    assert scores.mean()["csp+lda"] > 0.9
    assert scores.mean()["neurofmx"] > 0.8


def test_what_cannot_be_is_refused(fitted, tmp_path):
    X, y = arrays()
    with pytest.raises(UserError, match="trials of two classes are needed; all are 'left'"):
        NeuroFMXClassifier(**QUICK).fit(X, np.full(len(y), "left"))
    with pytest.raises(UserError, match=r"\(3, 127\) \(channel, time\) came; it was fitted on"):
        fitted.predict(X[:, :, 1:])
    fitted.model_.save_pretrained(tmp_path)
    for changes, said in (
        ({"rate": 100.0}, "have 100 Hz, and the model reads eeg at 64 Hz"),
        ({"signal": "emg"}, "signal is 'emg'; the model in .* reads the traces eeg"),
    ):
        with pytest.raises(UserError, match=said):
            NeuroFMXClassifier(**({"rate": RATE, "model": str(tmp_path)} | changes)).fit(X, y)
    with pytest.raises(UserError, match="windows 2 s; cut the trials"):
        NeuroFMXClassifier(RATE, str(tmp_path)).fit(np.tile(X, (1, 1, 2)), y)
    with pytest.raises(UserError, match=r"moabb\.datasets has no 'BNCI2014_01'; near are"):
        named("datasets", "BNCI2014_01")
    assert named("paradigms", "LeftRightImagery") is LeftRightImagery


def test_the_command_compares_by_names_and_writes_the_table(tmp_path, monkeypatch, capsys):
    hands = partial(LeftRightImagery, fmin=6, fmax=30, tmax=2.0)
    names = {"Planted": Planted, "LeftRightImagery": hands}
    monkeypatch.setattr(moabb, "named", lambda module, name: names[name])
    monkeypatch.setattr(moabb, "NeuroFMXClassifier", lambda rate, model: csp_lda())
    words = ["moabb", "Planted", "--rate", "64", "--subjects", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["neurofmx", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    assert "csp+lda: 1.0000 ± nan over 1" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "results.csv")
    assert table["subject"].tolist() == [1, 1]
    with pytest.raises(UserError, match="choose from within, sessions, subjects"):
        moabb.compare(["Planted"], "LeftRightImagery", 64.0, "days", None, 1, tmp_path)


def test_without_moabb_it_says_what_to_install(monkeypatch):
    for name in [n for n in sys.modules if n.partition(".")[0] == "moabb"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(UserError, match=r"needs the package moabb: pip install 'neurofmx\[bench"):
        moabb.extra("moabb.datasets")
