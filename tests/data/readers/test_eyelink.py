from pathlib import Path

import numpy as np
import pytest

from neurofmx.data import store
from neurofmx.data.align import align
from neurofmx.data.cards import Card
from neurofmx.data.readers import open_contents
from neurofmx.data.reading import read_recording
from neurofmx.data.signal_cards import SignalCard
from neurofmx.errors import DataError, UserError
from neurofmx.types import Events, Intervals

# Two blocks at 250 Hz, both eyes and then the right one, as edf2asc writes them.
TWO_BLOCKS = """\
** CONVERTED FROM a.edf using edfapi 4.2
** DATE: Tue Nov 14 11:11:17 2023
** a pilot

MSG\t990 TRIGGER 7
START\t1000 \tLEFT\tRIGHT\tSAMPLES\tEVENTS
PUPIL\tAREA
SAMPLES\tGAZE\tLEFT\tRIGHT\tRATE\t 250.00\tTRACKING\tCR\tFILTER\t2
1000\t  10.0\t  20.0\t 900.0\t  30.0\t  40.0\t 800.0\t.....
1004\t  11.0\t  21.0\t 901.0\t   .\t   .\t   0.0\t...C.
1008\t   .\t   .\t   0.0\t   .\t   .\t   0.0\t.C.C.
EBLINK R 1004\t1008\t8
MSG\t1009 TRIGGER 7
END\t1012 \tSAMPLES\tEVENTS\tRES\t  30.00\t  30.00
START\t2000 \tRIGHT\tSAMPLES\tEVENTS
SAMPLES\tGAZE\tRIGHT\tRATE\t 250.00\tTRACKING\tCR\tFILTER\t2
2000\t  50.0\t  60.0\t 700.0\t...
2004\t  51.0\t  61.0\t 701.0\t...
END\t2008 \tSAMPLES\tEVENTS
"""


def read(path: Path, where: str, modality: str = "eye"):
    contents = open_contents(path)
    signal = contents.read(where, SignalCard(path=where, modality=modality))
    contents.close()
    return signal


def asc(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "a.asc"
    path.write_text(text)
    return path


def card(**signals: SignalCard) -> Card:
    where = {"kind": "local", "path": "x"}
    return Card(name="eyes", title="", licence="MIT", source=where, signals=signals, tasks={})


@pytest.fixture
def samples(shared_data: Path) -> Path:
    return shared_data / "other/eye_tracking/002_rlmw_samples_short.asc"


@pytest.fixture
def events(shared_data: Path) -> Path:
    return shared_data / "other/eye_tracking/002_rlmw_events_short.asc"


# The real files


def test_samples_of_a_real_file_are_those_of_its_lines(samples):
    gaze, pupil = read(samples, "gaze"), read(samples, "pupil")

    assert (gaze.rate, gaze.t0, gaze.unit, len(gaze)) == (500.0, 7264.579, "pixel", 20465)
    assert list(gaze.channels["label"]) == ["left_x", "left_y", "right_x", "right_y"]
    assert list(pupil.channels["eye"]) == ["left", "right"]
    # 7264579  655.6  599.9 1121.0  773.1  594.2  949.0, and line 2714, at 7270005, left eye lost
    np.testing.assert_allclose(gaze.values[0], [655.6, 599.9, 773.1, 594.2], rtol=1e-6)
    np.testing.assert_allclose(gaze.values[2713], [np.nan, np.nan, 107.1, 1440.7], rtol=1e-6)
    np.testing.assert_array_equal(pupil.values[[0, 2713]], [[1121, 949], [np.nan, 232]])
    assert gaze.clock[2713] == pytest.approx(7270.005, abs=1e-9)


def test_an_eye_is_missing_exactly_in_the_blinks_that_the_tracker_found(samples, events):
    pupil, blinks = read(samples, "pupil"), read(events, "blinks", "trials")
    assert isinstance(blinks, Intervals)
    for column, eye in enumerate(("left", "right")):
        of_eye = np.array(blinks.columns["eye"] == eye)
        spans = zip(blinks.start[of_eye], blinks.stop[of_eye], strict=True)
        lost = np.zeros(len(pupil), bool)
        for start, stop in spans:  # half-open; half a sample off the grid, against rounding
            lost |= (pupil.clock > start - 1e-3) & (pupil.clock < stop - 1e-3)

        np.testing.assert_array_equal(np.isnan(pupil.values[:, column]), lost)


def test_events_of_a_real_file_are_half_open_stretches_in_seconds(events):
    fixations, saccades = read(events, "fixations", "trials"), read(events, "saccades", "trials")
    # EFIX R 7264583 7264813 232 778.4 593.5 978: 115 periods of 2 ms and the last sample
    row = fixations.columns.iloc[0]
    np.testing.assert_allclose([fixations.start[0], fixations.stop[0]], [7264.583, 7264.815])
    assert (row["eye"], row["x"], row["y"], row["pupil"]) == ("right", 778.4, 593.5, 978)
    # ESACC R 7264815 7264837 24 778.6 583.5 736.3 523.3 1.68 120
    assert saccades.columns.iloc[0]["amplitude_deg"] == 1.68
    assert saccades.columns.iloc[0]["stop_y"] == 523.3


def test_a_saccade_with_no_known_start_is_left_out(events):
    # ESACC L 4294967295 7297011 …: of 258, the start of one is 2³² − 1
    saccades = read(events, "saccades", "trials")

    assert len(saccades) == 257
    assert (saccades.stop - saccades.start).max() < 0.3


def test_events_alone_and_samples_alone_hold_no_more_than_they_have(samples, events):
    alone, other = open_contents(samples), open_contents(events)

    assert list(alone.kinds) == ["gaze", "pupil"]
    assert sorted(other.kinds) == ["blinks", "fixations", "inputs", "messages", "saccades"]
    guesses = {path: other.guess(path) for path in other.kinds}
    assert guesses["blinks"] == "trials"
    assert guesses["messages"] == guesses["inputs"] == "pulses"
    assert alone.guess("gaze") == "eye"
    assert other.about.provenance["date"] == "Tue Nov 14 11:11:17 2023"


def test_a_pair_of_real_files_goes_through_ingest_and_align(samples, events, tmp_path):
    eyes = card(
        gaze=SignalCard(path="gaze", modality="eye"),
        pupil=SignalCard(path="pupil", modality="eye", keep={"eye": ["left"]}),
        blinks=SignalCard(path="blinks", modality="trials"),
        shown=SignalCard(path="messages", modality="pulses", keep={"message": ["F_6"]}),
    )
    with read_recording("002", [samples, events], eyes) as recording:
        store.write(align(recording, eyes), tmp_path / "002.zarr", "key")
    back = store.read_aligned(tmp_path / "002.zarr")

    gaze, pupil = back.signals["gaze"], back.signals["pupil"]
    raw = read(samples, "gaze").values
    known = np.isfinite(raw).all(axis=1)
    np.testing.assert_array_equal(gaze.mask, known)
    np.testing.assert_array_equal(gaze.values[:][known], raw[known])
    assert (gaze.rate, pupil.values.shape) == (500.0, (20465, 1))
    assert len(back.signals["blinks"]) == 21
    (shown,) = back.signals["shown"].times
    assert 7264 < shown < 7306


# Text that says it all


def test_blocks_leave_a_gap_and_one_eyed_samples_leave_the_other_missing(tmp_path):
    gaze = read(asc(tmp_path, TWO_BLOCKS), "gaze")

    assert gaze.rate is None
    np.testing.assert_allclose(gaze.times, [1.0, 1.004, 1.008, 2.0, 2.004])
    nan = np.nan
    expected = [[10, 20, 30, 40], [11, 21, nan, nan], [nan] * 4, [nan, nan, 50, 60]]
    np.testing.assert_array_equal(gaze.values[:4], expected)
    np.testing.assert_array_equal(gaze.mask, [True, True, False, True, True])


def test_align_masks_the_pause_between_blocks(tmp_path):
    right = card(gaze=SignalCard(path="gaze", modality="eye", keep={"eye": ["right"]}))
    with read_recording("a", [asc(tmp_path, TWO_BLOCKS)], right) as recording:
        even = align(recording, right).signals["gaze"]

    assert (even.rate, even.t0) == (250.0, 1.0)
    np.testing.assert_array_equal(np.flatnonzero(even.mask), [0, 250, 251])


def test_messages_are_pulses_by_their_text(tmp_path):
    messages = read(asc(tmp_path, TWO_BLOCKS), "messages", "pulses")

    assert isinstance(messages, Events)
    np.testing.assert_allclose(messages.times, [0.990, 1.009])
    assert list(messages.units["message"]) == ["TRIGGER 7"]
    with pytest.raises(DataError, match="instants only"):
        read(tmp_path / "a.asc", "messages", "trials")


def test_fractions_of_a_millisecond_are_read(tmp_path):
    lines = "".join(f"{1000 + k / 2:.1f}\t1.0\t2.0\t3.0\t...\n" for k in range(4))
    path = asc(tmp_path, "SAMPLES\tGAZE\tLEFT\tRATE\t2000.00\n" + lines)

    assert read(path, "gaze").rate == 2000.0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("SAMPLES GAZE LEFT RATE 500\n1000 1.0 2.0 3.0 ...\n1002 1.0 2\n", "line 3, .*cut off"),
        ("1000 1.0 2.0 3.0 ...\n", "line 1, .*which eye"),
        ("SAMPLES GAZE LEFT\n1000 1 2 3\nSAMPLES HREF LEFT\n", "line 3, .*pixel"),
        ("EBLINK L 1004 1000 8\n", "line 1, .*stops before"),
        ("ESACC L 1004 1008 8 1.0\n", "line 1, .*9 numbers"),
        ("MSG noon hello\n", "line 1"),
        ("ncols 4\n", "no EyeLink"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(tmp_path, text, why):
    with pytest.raises(DataError, match=f"a.asc: .*{why}"):
        open_contents(asc(tmp_path, text))


@pytest.mark.parametrize("stamps", [(1000, 1000, 1001), (1000, 1002, 1001)])
def test_times_that_do_not_run_forward_are_refused(tmp_path, stamps):
    lines = "".join(f"{t} 1.0 2.0 3.0\n" for t in stamps)
    with pytest.raises(DataError, match="-ftime"):
        read(asc(tmp_path, "SAMPLES GAZE LEFT RATE 500\n" + lines), "gaze")


def test_samples_are_no_trials_and_an_absent_file_is_the_users_to_mend(tmp_path):
    with pytest.raises(DataError, match="no trials"):
        read(asc(tmp_path, TWO_BLOCKS), "gaze", "trials")
    with pytest.raises(UserError, match="no file"):
        open_contents(tmp_path / "absent.asc")
