"""IBL's two layouts, and what a plain reader makes of them."""

import numpy as np
import pandas as pd
import pytest
from dialects.base import pose
from dialects.ibl import ibl, ibl_legacy, ibl_trials
from dialects.types import layouts
from reads import TRIALS, UNITS, read

from neurofmx.data.dialects.ibl import alf
from neurofmx.errors import DataError


@pytest.fixture(scope="module", autouse=True)
def types(tmp_path_factory):
    """Neurodata types of extensions that are not installed."""
    layouts(tmp_path_factory.mktemp("types"))


def test_both_ibl_layouts_give_the_trials_of_the_alf_files(tmp_path, shared_data):
    new, _, old = ibl(tmp_path, shared_data)
    expected = ibl_trials(shared_data)
    for path in (new, old):
        trials = read([path], "ibl", trials=TRIALS)["trials"].columns
        for name in ("contrastLeft", "contrastRight", "probabilityLeft", "stimOn_times"):
            np.testing.assert_allclose(trials[name], expected[name], err_msg=name)
        for name in ("choice", "feedbackType"):
            assert trials[name].tolist() == expected[name].tolist()
            assert trials[name].dtype.kind == "i"
    plain = read([new], "plain", trials=TRIALS)["trials"].columns
    assert plain["gabor_stimulus_contrast"].max() == 100.0  # percent
    assert plain["mouse_wheel_choice"].dtype == object


@pytest.mark.parametrize(
    ("word", "choice"),
    [("left", -1), ("right", 1), ("counter_clockwise", -1), ("clockwise", 1), ("no_go", 0)],
)
def test_words_for_a_turn_of_the_wheel(word, choice):
    assert alf(pd.DataFrame({"mouse_wheel_choice": [word]}))["choice"].tolist() == [choice]


def test_an_unknown_word_for_a_choice_is_refused():
    with pytest.raises(DataError, match=r"mouse_wheel_choice is \['up'\]"):
        alf(pd.DataFrame({"mouse_wheel_choice": ["up"]}))


def test_an_ibl_unit_has_the_region_of_its_strongest_electrode(tmp_path, shared_data):
    units = read(ibl(tmp_path, shared_data)[:1], "ibl", spikes=UNITS)["spikes"].units

    # electrodes 1, 2, 3, 0 in turn; the table of atlas places lists electrodes 3, 2, 1, 0
    assert units["region"].tolist()[:4] == ["Dentate gyrus", "Thalamus", "Thalamus", "Field CA1"]
    assert units["beryl_location"].tolist()[:4] == ["DG", "TH", "TH", "CA1"]
    assert set(units["probe"]) == {"Probe00"}


def test_ibl_files_of_a_session_give_one_recording(tmp_path, shared_data):
    paths = ibl(tmp_path, shared_data)[:2]
    found = read(
        paths,
        "ibl",
        spikes=UNITS | {"keep": {"ibl_quality_score": [1.0, None]}},
        lfp={"path": "acquisition/ElectricalSeriesProbe*LF", "modality": "lfp"},
        pose={"path": "processing/pose_estimation/LeftCamera", "modality": "pose"},
        licks={"path": "processing/lick_times/EventsLickTimes", "modality": "pulses"},
    )
    assert len(found["spikes"].units) == 4  # every second is good
    assert (found["lfp"].rate, found["lfp"].t0) == (pytest.approx(2500.0), 0.5)
    places = pose(shared_data, ("head", "thorax"), 300)
    paw, tongue, nose = (found["pose"].values[:, k : k + 2] for k in (0, 2, 4))
    np.testing.assert_allclose(np.c_[paw, nose], np.c_[places["head"], places["thorax"]])
    assert np.isnan(tongue).all()
    np.testing.assert_array_equal(found["licks"].times, 1.0 + np.arange(300)[::50] / 60.0)


def test_legacy_and_new_layout_are_never_mixed(tmp_path, shared_data):
    paths = [*ibl(tmp_path, shared_data)[:1], ibl_legacy(tmp_path, shared_data)]
    with pytest.raises(DataError, match=r"'intervals/trials' .* is in several places"):
        read(paths, "ibl", trials=TRIALS)
