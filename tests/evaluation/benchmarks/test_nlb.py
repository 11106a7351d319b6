"""A submission to NLB from planted latents, cut and scored as the benchmark's own package does."""

import json
import logging
import sys
from dataclasses import replace

import numpy as np
import pytest
from latents import HELD_IN, HELD_OUT, card_of, made, stored
from sources import ROOT
from windows import shards, tiny_model

from neurofmx import cli
from neurofmx.data import store
from neurofmx.data.cards import save_card
from neurofmx.data.shards import Shards
from neurofmx.errors import DataError, UserError
from neurofmx.evaluation.benchmarks import nlb
from neurofmx.evaluation.benchmarks.nlb_trials import LAYOUTS, counts_of, layout_of, trials_of
from neurofmx.models import untrained
from neurofmx.training.fit import Fit
from neurofmx.training.recipe import FitParams

REASON = "the oracle is had by `pip install --no-deps nlb_tools`"
evaluation = pytest.importorskip("nlb_tools.evaluation", reason=REASON)
make_tensors = pytest.importorskip("nlb_tools.make_tensors", reason=REASON)
NWBDataset = pytest.importorskip("nlb_tools.nwb_interface", reason=REASON).NWBDataset
NAME, GROUP = "mc_maze_small", "mc_maze_small_20"
LAYOUT = LAYOUTS[NAME]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Files, true rates, card, and `storage/` up to tokenize."""
    folder = tmp_path_factory.mktemp("nlb")
    train, test, rates = made(folder, n=80)
    card, storage = card_of(ROOT), folder / "storage"
    stored(storage, train, card)
    aligned = store.read_aligned(storage / "align" / "made.zarr")
    shards(storage / "tokenize", [aligned], card, tokens=30)
    return train, test, rates, card, storage


@pytest.fixture(scope="module")
def run(data):
    """Without a model."""
    return nlb.Run.of(data[3], data[4], "smoothed")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """With one that was trained for a moment."""
    windows = Shards(data[4] / "tokenize")
    model = tiny_model(windows, ["made"])
    given = {"masked": 1.0, "decode": 0.5}
    params = FitParams(epochs=120, objectives=given, optimizer={"lr": 1e-2})
    fit = Fit(model, windows, ["made"], params, 0, tmp_path_factory.mktemp("fit"))
    fit.run("test")
    fit.model.save_pretrained(data[4] / "pretrain")
    return nlb.Run.of(data[3], data[4])


@pytest.fixture(scope="module")
def smoothed(run):
    return nlb.submission(run, method="smoothed")


def cut(rates, trials):
    """Spikes per bin that the true rates make one expect."""
    k = round(trials.width * 1e3)
    first = np.round(trials.start * 1e3).astype(int)
    rows = first[:, None] + np.arange(trials.n_bins * k)
    return rates[rows].reshape(len(trials), trials.n_bins, k, -1).sum(axis=2) / 1e3


def scored(submitted, **arrays):
    """Scores of a submission with some arrays replaced."""
    rates, truth = submitted
    return nlb.score({GROUP: rates[GROUP] | arrays}, truth)[GROUP]


def test_held_out_units_are_told_nearly_as_well_as_from_their_true_rates(data, trained, smoothed):
    val = trials_of(trained.recording, LAYOUT, ("val",), 0.02)
    known = cut(data[2], val)
    ahead = cut(data[2], val.ahead)
    truth = {"eval_rates_heldin": known[..., :HELD_IN], "eval_rates_heldout": known[..., HELD_IN:]}
    truth |= {"eval_rates_heldin_forward": ahead[..., :HELD_IN]}
    truth |= {"eval_rates_heldout_forward": ahead[..., HELD_IN:]}
    ceiling = scored(smoothed, **truth)
    ours, simple = scored(nlb.submission(trained)), scored(smoothed)
    blank = untrained(trained.model.config, trained.model.vocabulary, 0)
    random = scored(nlb.submission(replace(trained, model=blank)))
    assert ceiling["co-bps"] > 0.5
    assert ceiling["co-bps"] > ours["co-bps"] > 0.6 * ceiling["co-bps"]
    assert ceiling["co-bps"] > simple["co-bps"] > 0.75 * ceiling["co-bps"]
    assert ours["co-bps"] > random["co-bps"]
    assert ceiling["vel R2"] > ours["vel R2"] > random["vel R2"]
    assert ceiling["CC norm"] > 0.9
    assert 0 < ceiling["split half"] < 1
    assert ceiling["fp-bps"] > ours["fp-bps"] > -0.15  # 40 trials to fit 200 ms from


def test_scores_are_those_of_the_benchmarks_own_package(smoothed):
    """nlb_tools rounds nothing, but changes rates of 0 in place: it gets a copy."""
    rates, truth = smoothed
    copied = {GROUP: {name: np.array(x) for name, x in rates[GROUP].items()}}
    copied[GROUP]["eval_rates_heldout"][0, :3] = 0.0
    target = {
        GROUP: truth[GROUP] | {"eval_cond_idx": np.array(truth[GROUP]["eval_cond_idx"], object)}
    }
    ours = nlb.score(copied, truth)[GROUP]
    wrapped = [{g: Readable(arrays) for g, arrays in each.items()} for each in (target, copied)]
    (found,) = evaluation.evaluate(*wrapped)
    (theirs,) = found.values()
    own = {"co-bps by unit", "CC norm", "split half"}
    assert {f"[100] {name}" for name in ours.keys() - own} == set(theirs)
    for name, value in theirs.items():
        assert ours[name.removeprefix("[100] ")] == pytest.approx(value, abs=1e-10)
    each = [
        evaluation.bits_per_spike(
            np.array(copied[GROUP]["eval_rates_heldout"][..., [k]]),
            truth[GROUP]["eval_spikes_heldout"][..., [k]],
        )
        for k in range(HELD_OUT)
    ]
    np.testing.assert_allclose(ours["co-bps by unit"], each, atol=1e-10)


class Readable(dict):
    """Arrays that are read as those of an open HDF5 file."""

    def __getitem__(self, name):
        return Whole(super().__getitem__(name))


class Whole:
    def __init__(self, array):
        self.array = array

    def __getitem__(self, key):
        assert key == ()
        return np.array(self.array)


def theirs_of(path, smooth=False):
    """What the package reads of a file, at 1 kHz."""
    logging.getLogger("nlb_tools").setLevel(logging.ERROR)
    dataset = NWBDataset(str(path))
    dataset.data = dataset.data.sort_index()  # pandas 2 leaves times of two signals unsorted
    if smooth:  # in this process; it would start one per core
        units = ["spikes", "heldout_spikes"]
        dataset.smooth_spk(50, units, overwrite=True, ignore_nans=True, parallelized=False)
    return dataset


@pytest.mark.parametrize("width", [0.005, 0.02])
def test_trials_and_truth_are_cut_as_the_benchmark_cuts_them(width, data, run):
    dataset = theirs_of(data[0])
    dataset.resample(round(width * 1e3))
    theirs = make_tensors.make_eval_target_tensors(
        dataset, NAME, save_file=False, include_psth=False
    )
    ((group, target),) = theirs.items()
    train, val = (trials_of(run.recording, LAYOUT, (s,), width) for s in ("train", "val"))
    ours = nlb.truth(run, LAYOUT, train, val)
    assert nlb.group_of(NAME, width) == group
    for name in ("eval_spikes_heldout", "eval_spikes_heldin_forward"):
        np.testing.assert_array_equal(ours[name], target[name])
    for name in ("train_behavior", "eval_behavior"):
        # Theirs interpolates what lies before the first and between observed stretches alike.
        np.testing.assert_allclose(ours[name], target[name], atol=1e-4)
    shown = make_tensors.make_train_input_tensors(dataset, NAME, save_file=False)
    np.testing.assert_array_equal(
        counts_of(run.recording, "spikes", train), shown["train_spikes_heldin"]
    )


def test_psths_are_the_benchmarks(data, run):
    dataset = theirs_of(data[0], smooth=True)
    dataset.resample(20)
    both = trials_of(run.recording, LAYOUT, ("train", "val"), 0.02)
    ours = nlb.psths(run.recording, ("spikes", "heldout"), both, LAYOUT)
    assert list(ours) == [(0, 0), (1, 0), (2, 0)]
    for (kind, _), psth in ours.items():
        trials = dataset.make_trial_data(
            ignored_trials=dataset.trial_info.trial_type != kind,
            allow_nans=True,
            align_field="move_onset_time",
            align_range=(-250, 450),
        )
        columns = trials[["spikes", "heldout_spikes"]].columns
        theirs = trials.groupby("align_time")[columns].mean().to_numpy()[:35]
        np.testing.assert_allclose(psth, theirs, atol=1e-6)


def test_the_mean_rate_scores_zero_and_shuffled_trials_less(smoothed):
    counts = smoothed[1][GROUP]["eval_spikes_heldout"]
    rates = smoothed[0][GROUP]["eval_rates_heldout"]
    mean = np.broadcast_to(counts.mean(axis=(0, 1)), counts.shape)
    assert scored(smoothed, eval_rates_heldout=mean)["co-bps"] == 0.0
    moved = np.roll(rates, 1, axis=0)
    shuffled = scored(smoothed, eval_rates_heldout=moved)
    assert shuffled["co-bps"] < 0.05
    assert shuffled["CC norm"] < 0.7 * scored(smoothed)["CC norm"]
    assert scored(smoothed)["co-bps"] > 0.3


def test_the_test_part_is_predicted_from_a_file_without_held_out_units(data, run, tmp_path):
    rates, truth = nlb.submission(run, method="smoothed", test=data[1])
    nlb.save(tmp_path / "nlb.h5", rates)
    (arrays,) = nlb.load(tmp_path / "nlb.h5").values()
    assert truth == {}
    assert list(rates) == [GROUP]
    assert arrays["train_rates_heldin"].shape == (60, 35, HELD_IN)
    assert arrays["eval_rates_heldout"].shape == (20, 35, HELD_OUT)
    assert arrays["eval_rates_heldout_forward"].shape == (20, 10, HELD_OUT)
    test = trials_of(nlb._test_recording(data[1], run), LAYOUT, ("test",), 0.02)
    known = cut(data[2], test)[..., HELD_IN:]
    assert np.corrcoef(known.ravel(), arrays["eval_rates_heldout"].ravel())[0, 1] > 0.7


def test_a_model_that_has_seen_the_val_part_is_refused(data, run, tmp_path):
    split = data[3].windows.model_copy(update={"within": "observed"})
    card = data[3].model_copy(update={"windows": split})
    shards(tmp_path / "seen", [run.recording], card)
    with pytest.raises(UserError, match=r"the model has seen \d+ of 20 trials of the val part"):
        nlb.submission(replace(run, known=tmp_path / "seen"))


def test_rates_of_a_trial_do_not_depend_on_what_lies_outside_of_it(trained):
    run = trained
    val = trials_of(run.recording, LAYOUT, ("val",), 0.02)
    spikes = run.recording.signals["spikes"]
    inside = (spikes.times >= val.start[0]) & (spikes.times < val.start[0] + val.duration)
    alone = replace(spikes, times=spikes.times[inside], index=spikes.index[inside])
    other = replace(run.recording, signals=run.recording.signals | {"spikes": alone})
    both = [nlb._read(run.model, run, recording, val)[0] for recording in (run.recording, other)]
    np.testing.assert_allclose(*both, atol=1e-5)


def test_what_is_not_of_the_benchmark_is_refused(data, run, smoothed, tmp_path):
    with pytest.raises(UserError, match="'demo' is no data set of NLB; those are nlb_mc_maze"):
        layout_of("demo")
    with pytest.raises(UserError, match="holds 0 recordings"):
        nlb.Run.of(data[3], tmp_path)
    with pytest.raises(DataError, match="no trial of test, but train, val"):
        trials_of(run.recording, LAYOUT, ("test",), 0.02)
    with pytest.raises(DataError, match="lack set_time"):
        trials_of(run.recording, replace(LAYOUT, begins="set_time"), ("val",), 0.02)
    with pytest.raises(UserError, match="no truth for 'mc_rtt'"):
        nlb.score({"mc_rtt": {}}, smoothed[1])
    with pytest.raises(UserError, match=r"is \(20, 35, 5\) and the truth \(20, 35, 6\)"):
        scored(smoothed, eval_rates_heldout=smoothed[0][GROUP]["eval_rates_heldout"][..., 1:])


def test_layouts_agree_with_the_package():
    assert set(LAYOUTS) == set(make_tensors.PARAMS)
    for name, layout in LAYOUTS.items():
        theirs = make_tensors.PARAMS[name]
        cut = theirs["make_params"]
        assert layout.align == cut["align_field"]
        assert (layout.start, layout.stop) == tuple(x / 1e3 for x in cut["align_range"])
        if layout.velocity:
            assert (layout.velocity, layout.lag) == (theirs["behavior_field"], theirs["lag"] / 1e3)
        psth = theirs.get("psth_params", {})
        assert layout.conditions == tuple(psth.get("cond_fields", ()))
        if psth:
            assert layout.kernel == psth["kern_sd"] / 1e3


def test_a_score_survives_its_files(smoothed, tmp_path):
    paths = [tmp_path / "a.h5", tmp_path / "truth.h5"]
    for path, groups in zip(paths, smoothed, strict=True):
        nlb.save(path, groups)
    assert nlb.score(*map(nlb.load, paths))[GROUP] == scored(smoothed)


def test_the_commands_write_and_score(data, run, smoothed, tmp_path, monkeypatch, capsys):
    (tmp_path / "params.yaml").write_text("dataset: demo\nseed: 0\n")
    (tmp_path / "datasets").mkdir()
    save_card(data[3], tmp_path / "datasets")
    (tmp_path / "storage").symlink_to(data[4])
    monkeypatch.chdir(tmp_path)
    write = ["nlb", "--dataset", data[3].name, "--smoothed", "--out", "here"]
    score = ["nlb", "score", "here/submission.h5", "--out", "scores.json"]
    for words in (write, score):
        monkeypatch.setattr(sys, "argv", ["neurofmx", *words])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert stopped.value.code == 0
    assert f"here/truth.h5: {GROUP}" in capsys.readouterr().out
    scores = json.loads((tmp_path / "scores.json").read_text())[GROUP]
    assert scores["co-bps"] == pytest.approx(scored(smoothed)["co-bps"], rel=1e-9)
    assert len(scores["co-bps by unit"]) == HELD_OUT
    monkeypatch.setattr(sys, "argv", ["neurofmx", "nlb", "--bin-ms", "10"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
