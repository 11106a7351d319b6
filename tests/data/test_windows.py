"""Windows never leak: splits are blocks of time, with guards, and each instant is scored once."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from windows import card, recording

from neurofmx.data import windows
from neurofmx.errors import DataError
from neurofmx.types import Intervals, Samples

SIGNALS = card().model_dump()["signals"]


def spans(made, spec, split):
    return [(w.start, w.stop) for w in windows.cut(made, spec) if w.split == split]


@pytest.mark.parametrize("by", ["time", "trial"])
@pytest.mark.parametrize("within", ["trials", None])
def test_splits_are_apart_by_the_guard(by, within):
    if by == "trial" and within is None:
        pytest.skip("trials are what is split")
    layout = {"duration": 1.0, "step": 0.5, "bin_width": 0.05, "within": within}
    spec = card(split={"by": by, "train": 0.5, "valid": 0.2, "guard": 0.2}, windows=layout)
    made = recording()
    parts = {split: spans(made, spec, split) for split in windows.SPLITS}

    for split, others in (("train", ("valid", "test")), ("valid", ("test",))):
        for a, b in parts[split]:
            for other in others:
                assert all(b + 0.2 <= c + 1e-9 or d + 0.2 <= a + 1e-9 for c, d in parts[other])


def test_time_is_cut_at_the_declared_share_of_answerable_instants():
    spec = card(split={"train": 0.5, "valid": 0.25, "guard": 0.0})
    made = recording(trials=40)

    # 40 trials of 1 s, answerable only within trials: half of them are the first 20.
    assert spans(made, spec, "train")[-1][1] == pytest.approx(made.signals["trials"].stop[19])
    assert spans(made, spec, "test")[0][0] == pytest.approx(made.signals["trials"].start[30])


@pytest.mark.parametrize(("context", "ahead"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.2), (0.3, 0.2)])
def test_each_test_instant_is_scored_once(context, ahead):
    layout = {"duration": 1.0, "step": 0.2, "context": context, "ahead": ahead, "bin_width": 0.05}
    spec, made = card(windows=layout), recording()
    scored, before, after = [], [], []
    for window in windows.cut(made, spec):
        if window.split == "test":
            target = windows.target(made, spec, "velocity", window)
            times = target.times[target.mask]
            scored.append(window.start + times)
            before.append(times)
            after.append(window.stop - window.start - times)
    times, before, after = (np.concatenate(of) for of in (scored, before, after))
    scored = np.round(times, 6)

    assert len(scored) == len(np.unique(scored))
    gaps = np.diff(np.sort(scored))
    assert gaps.max() == pytest.approx(0.02)  # none is left out
    assert before[times > times.min() + context].min() > context - 1e-6
    assert after[times < times.max() - ahead].min() > ahead - 1e-6


def test_windows_that_score_nothing_or_a_causal_card_that_looks_ahead_are_refused():
    with pytest.raises(ValueError, match=r"context 0\.6 s and ahead 0\.4 s leave nothing"):
        card(windows={"duration": 1.0, "context": 0.6, "ahead": 0.4})
    with pytest.raises(ValueError, match=r"windows\.ahead is 0\.2 s.* the card is causal"):
        card(windows={"duration": 1.0, "ahead": 0.2}, causal=True)


def test_values_of_a_window_are_those_of_the_recording():
    spec, made = card(), recording()
    window = next(w for w in windows.cut(made, spec) if w.split == "valid")
    found = windows.inputs(made, spec, window)
    spikes = made.signals["spikes"]
    inside = (spikes.times >= window.start) & (spikes.times < window.stop)
    first = round(window.start * 50)

    dt, counts, mask = found["spikes"]
    assert (dt, counts.dtype, mask) == (0.05, np.uint8, None)
    np.testing.assert_array_equal(counts.sum(0), np.bincount(spikes.index[inside], minlength=6))
    dt, values, mask = found["lfp"]
    assert (dt, values.dtype, mask) == (0.02, np.float32, None)
    np.testing.assert_allclose(values, made.signals["lfp"].values[first : first + 50], rtol=1e-6)


def test_a_gap_is_masked_and_never_filled():
    made, spec = recording(), card()
    lfp = made.signals["lfp"]
    mask = np.ones(len(lfp), bool)
    window = next(w for w in windows.cut(made, spec) if w.split == "train")
    gap = slice(round(window.start * 50) + 3, round(window.start * 50) + 9)
    mask[gap] = False
    made = dataclasses.replace(
        made, signals=made.signals | {"lfp": dataclasses.replace(lfp, mask=mask)}
    )
    _, values, seen = windows.inputs(made, spec, window)["lfp"]

    np.testing.assert_array_equal(np.flatnonzero(~seen), np.arange(3, 9))
    assert (values[3:9] == 0).all()


def test_a_target_is_not_asked_in_a_gap():
    made = recording()
    hand = made.signals["hand"]
    mask = ~np.isin(np.arange(len(hand)), (12, 13))  # 0.24 and 0.26 s
    made.signals["hand"] = dataclasses.replace(hand, mask=mask)
    target = windows.target(made, card(), "velocity", windows.Window("test", 0.0, 1.0, 0.1))

    np.testing.assert_allclose(target.times, np.arange(50) / 50)
    not_asked = target.times[~target.mask]
    np.testing.assert_allclose(not_asked, [0, 0.02, 0.04, 0.06, 0.08, 0.24, 0.26])
    np.testing.assert_allclose(target.values, hand.values[:50], rtol=1e-6)


def test_a_class_is_asked_at_the_end_of_its_trial():
    spec, made = card(), recording()
    for window in windows.cut(made, spec):
        target = windows.target(made, spec, "cue", window)
        trial = np.searchsorted(made.signals["trials"].start, window.start + 1e-6) - 1
        assert target.values[target.mask].tolist() == [[trial % 2]]
        assert target.times[target.mask] == pytest.approx(window.stop - window.start)


def test_classes_are_split_evenly_by_trial():
    spec = card(split={"by": "trial", "train": 0.5, "valid": 0.25, "guard": 0.0})
    made = recording(trials=40)
    for split, share in (("train", 10), ("valid", 5), ("test", 5)):
        starts = {a for a, _ in spans(made, spec, split)}
        index = np.searchsorted(made.signals["trials"].start, np.array(sorted(starts)) + 1e-6) - 1
        assert np.bincount(index % 2).tolist() == [share, share]


def test_only_running_is_asked_for():
    times = np.arange(500) / 50
    place = np.where(times < 5, 0.0, times - 5)[:, None]  # still, then 1 m/s
    hand = Samples(place, "m", 50.0)
    made = dataclasses.replace(recording(), signals=recording().signals | {"hand": hand})
    task = {"kind": "regression", "signal": "hand", "while_moving": 0.5}
    spec = card(tasks={"velocity": task})
    target = windows.target(made, spec, "velocity", windows.Window("test", 0.0, 10.0, 0.0))

    # Speed spans 0.5 s, so half of it is reached at the corner itself.
    assert target.times[target.mask][0] == pytest.approx(5.0, abs=0.03)
    assert target.times[target.mask][-1] == pytest.approx(10 - 0.25, abs=0.03)


def heading(values, of_file, **keys):
    """What a circular task asks of a signal in the first 10 samples."""
    made = recording()
    made.signals["hand"] = Samples(np.asarray(values, float)[:, None], of_file, 50.0)
    signals = card().model_dump(mode="json")["signals"]
    signals["hand"] |= {"method": "nearest"}
    task = {"kind": "circular", "signal": "hand"} | keys
    spec = card(signals=signals, tasks={"heading": task})
    return windows.target(made, spec, "heading", windows.Window("test", 0.0, 0.2, 0.0))


@pytest.mark.parametrize(
    ("unit", "keys", "degrees"),
    [
        ("rad", {}, 180 / np.pi),
        ("rad", {"unit": "degrees"}, 180 / np.pi),  # ingest has made them radians already
        ("unknown", {"unit": "degrees"}, 1.0),
        ("unknown", {"unit": "radians"}, 180 / np.pi),
    ],
)
def test_angles_are_asked_in_radians_and_wrapped(unit, keys, degrees):
    turned = np.array([0, 90, 179, 181, 270, 359, 361, 720, -190, np.nan])
    found = heading(turned / degrees, unit, **keys)
    expected = np.deg2rad([0, 90, 179, -179, -90, -1, 1, 0, 170, 0])
    np.testing.assert_allclose(found.values[:, 0], expected, atol=1e-5)
    assert found.mask.tolist() == [True] * 9 + [False]


def test_angles_in_an_unknown_unit_are_refused():
    with pytest.raises(DataError, match=r"its unit is 'a\.u\.'; write `unit: degrees` or"):
        heading(np.zeros(10), "a.u.")


def test_ordered_labels_are_asked_by_their_place_in_the_order():
    task = {"kind": "ordinal", "signal": "trials", "column": "cue", "classes": ["right", "left"]}
    made, spec = recording(), card(tasks={"cue": task})
    found = [windows.target(made, spec, "cue", w) for w in windows.cut(made, spec)]
    plain = [windows.target(made, card(), "cue", w) for w in windows.cut(made, spec)]
    assert all((a.values == 1 - b.values).all() for a, b in zip(found, plain, strict=True))


def test_a_recording_too_short_for_its_windows_is_an_error_that_says_so():
    with pytest.raises(DataError, match=r"made-1: no window for 'train'.*guard of 30"):
        windows.cut(recording(), card(split={"train": 0.6, "valid": 0.2, "guard": 30.0}))


def test_a_missing_column_is_named_with_those_there_are():
    spec = card(tasks={"cue": {"kind": "classification", "signal": "trials", "column": "side"}})
    with pytest.raises(DataError, match=r"'trials': 'side' is no column and .* the table has cue"):
        windows.cut(recording(), spec)


def test_recordings_are_tested_as_a_whole():
    split = {"train": 0.45, "valid": 0.15, "guard": 0.0, "test_on": ["*-2"], "train_on": ["a-*"]}
    spec = card(split=split)

    trained, tested, neither = (spans(recording(n), spec, "train") for n in ("a-1", "a-2", "b-1"))
    assert (len(trained), len(tested), len(neither)) == (30, 0, 30)  # three quarters of 40 trials
    assert len(spans(recording("a-1"), spec, "valid")) == 10
    assert not spans(recording("a-1"), spec, "test")
    assert len(spans(recording("a-2"), spec, "test")) == 40
    assert spec.split.parts("a-2") == ("test",)
    assert spec.split.parts("b-1") == ()


def test_what_is_used_of_a_trial_may_begin_and_end_later():
    layout = {"duration": 1.0, "step": 0.5, "bin_width": 0.05, "within": "trials"}
    spec, made = card(windows=layout | {"begin": 0.5, "end": 0.2}), recording()
    start, stop = (getattr(made.signals["trials"], side) for side in ("start", "stop"))
    found = windows.cut(made, spec)

    np.testing.assert_allclose([w.start for w in found], start + 0.5, atol=0.0101)  # on the grid
    np.testing.assert_allclose([w.stop for w in found], stop + 0.2)
    for window in found:
        target = windows.target(made, spec, "cue", window)
        trial = np.searchsorted(start, window.start) - 1
        assert target.values[target.mask].tolist() == [[trial % 2]]


def test_a_label_may_be_computed_and_asked_of_some_rows_only():
    task = {"kind": "classification", "signal": "trials", "column": "a > b", "where": "a != b"}
    table = pd.DataFrame({"a": [0.5, 0.0, 1.0, 0.2], "b": [0.0, 0.0, 2.0, 0.2]})
    starts = np.arange(4.0)
    made = dataclasses.replace(
        recording(),
        signals=recording().signals | {"trials": Intervals(starts, starts + 0.9, table)},
    )
    spec = card(tasks={"side": task})

    assert windows.classes(made, spec.tasks["side"]) == ["False", "True"]
    asked = [
        windows.target(made, spec, "side", windows.Window("test", a, a + 0.9, a)) for a in starts
    ]
    assert [t.mask.tolist() for t in asked] == [[True], [False], [True], [False]]
    assert [float(t.values[0, 0]) for t in (asked[0], asked[2])] == [1.0, 0.0]


def test_a_task_on_the_wrong_kind_of_signal_is_named():
    spec = card(tasks={"velocity": {"kind": "regression", "signal": "trials"}})
    with pytest.raises(DataError, match=r"'trials'.*is Intervals.*uses it as Samples"):
        windows.cut(recording(), spec)


def test_labels_outside_the_classes_are_not_asked():
    table = pd.DataFrame({"cue": ["left", "odd"]})
    trials = Intervals(np.array([0.0, 1.25]), np.array([1.0, 2.25]), table)
    made = dataclasses.replace(recording(), signals=recording().signals | {"trials": trials})
    task = {"kind": "classification", "signal": "trials", "column": "cue"}
    spec = card(tasks={"cue": task | {"classes": ["left", "right"]}})
    asked = [
        windows.target(made, spec, "cue", windows.Window("test", a, a + 1.0, a)).mask.tolist()
        for a in (0.0, 1.25)
    ]

    assert asked == [[True], [False]]


# Cards without a task


@pytest.mark.parametrize("within", ["trials", None])
def test_without_a_task_all_windows_are_kept_and_time_is_shared_as_it_passes(within):
    made = recording(trials=40)  # 1 s each, every 1.25 s
    layout = {"duration": 1.0, "step": 0.5, "bin_width": 0.05, "within": within}
    split = {"train": 0.5, "valid": 0.25, "guard": 0.0}
    spec = card(tasks={}, windows=layout, split=split)
    starts = made.signals["trials"].start
    trains, valids, tests = (spans(made, spec, name) for name in windows.SPLITS)

    if within:
        assert [a for a, _ in trains] == pytest.approx(starts[:20], abs=0.02)
        assert [a for a, _ in valids] == pytest.approx(starts[20:30], abs=0.02)
        assert [a for a, _ in tests] == pytest.approx(starts[30:], abs=0.02)
    else:  # from the first spike to the last, nearly 50 s
        first, last = made.signals["spikes"].span
        assert valids[0][0] == pytest.approx((first + last) / 2, abs=0.02)
        assert tests[0][0] == pytest.approx(first + 0.75 * (last - first), abs=0.02)


def test_a_recording_without_an_input_says_what_it_has():
    spec = card(signals=SIGNALS | {"lfp": {"path": "x", "modality": "lfp", "input": False}})
    made = recording()
    made = dataclasses.replace(made, signals={k: made.signals[k] for k in ("hand", "trials")})
    with pytest.raises(DataError, match="made-1: nothing for the model to read among hand, trials"):
        windows.cut(made, spec)


def test_signals_that_share_no_time_are_named():
    made = recording()
    late = Samples(np.zeros((50, 1)), "V", 50.0, t0=100.0, modality="lfp")
    made = dataclasses.replace(made, signals=made.signals | {"lfp": late})
    spec = card(windows={"duration": 1.0, "step": 0.5})
    with pytest.raises(DataError, match=r"share no time: .*lfp 100 to 101 s, spikes"):
        windows.cut(made, spec)
