import shutil

import pytest

from neurofmx.data.cards import load_card, save_card
from neurofmx.data.suggest import suggest
from neurofmx.errors import DataError, UserError


def test_a_folder_of_synthetic_recordings(small_synthetic):
    card = suggest(small_synthetic, "x")

    assert {name: signal.modality for name, signal in card.signals.items()} == {
        "camera_sync": "pulses",
        "hand": "pose",
        "hand_vel": "behavior",
        "lfp": "lfp",
        "spikes": "spikes",
        "sync": "pulses",
        "trials": "trials",
    }
    assert set(card.inputs) == {"spikes", "lfp"}
    assert card.tasks["hand_vel"].kind == "regression"
    assert card.tasks["cue"].signal == "trials"
    assert card.signals["hand"].rate == pytest.approx(30.0, abs=0.1)  # frames jitter
    assert (card.windows.within, card.adapt, card.licence) == ("trials", [], "CC0 1.0")


def test_the_card_can_be_saved(small_synthetic, tmp_path):
    card = suggest(small_synthetic, "x")
    save_card(card, tmp_path)

    assert load_card("x", tmp_path) == card


def test_a_file_that_cannot_be_read_is_left_for_ingest_to_quarantine(small_synthetic, tmp_path):
    whole = small_synthetic / "synthetic-1-1.nwb"
    shutil.copy(whole, tmp_path / "whole.nwb")
    (tmp_path / "cut.nwb").write_bytes(whole.read_bytes()[:10_000])
    card = suggest(tmp_path, "x")

    assert [path.name for path in card.source.found] == ["cut.nwb", "whole.nwb"]
    assert "spikes" in card.signals


def test_nothing_usable_and_nothing_there(tmp_path):
    (tmp_path / "a.nwb").write_text("text")
    with pytest.raises(
        DataError, match=r"a\.nwb: not an HDF5 file[^$]*no file has a usable signal"
    ):
        suggest(tmp_path, "x")
    with pytest.raises(UserError, match="does not exist"):
        suggest(tmp_path / "b.nwb", "x")


def test_m1_is_counts_and_cursor_velocity_within_segments(shared_data):
    card = suggest(shared_data / "m1_contdata95" / "contdata95-dev.nwb", "m1")

    assert card.signals["spikes"].modality == "binned_counts"
    assert card.tasks["cursor_vel"].kind == "regression"
    assert (card.windows.within, card.split.by) == ("segments", "time")
    assert card.licence.startswith("none stated")
    assert [path.name for path in card.source.found] == ["contdata95-dev.nwb"]


def test_ssvep_is_four_classes_by_trial(shared_data):
    card = suggest(shared_data / "ssvep_exo_eeg", "ssvep")

    # event_code says the same as stimulus_class, so it is not offered.
    assert {n: t.column for n, t in card.tasks.items()} == {"stimulus_class": "stimulus_class"}
    assert (card.windows.duration, card.windows.within, card.split.by) == (5.0, "trials", "trial")
    assert card.adapt == ["subject09-2013_04_09-17_39_37"]


def test_each_label_keeps_a_trial_for_valid(shared_data):
    card = suggest(shared_data / "myo_emg" / "person12345-1.nwb", "myo")  # six trials a gesture

    assert (card.split.by, card.split.train, card.split.valid) == ("trial", 0.5, 0.2)


def test_irregular_signals_get_the_rate_they_have_between_gaps(shared_data):
    card = suggest(shared_data / "ziv_ca1_multiday" / "C6_M4-envA-day1.nwb", "ca1")

    assert card.signals["events"].modality == "calcium"
    assert card.signals["events"].rate == pytest.approx(20.0)
    assert "id" not in card.tasks


@pytest.mark.parametrize(
    ("file", "modalities"),
    [
        ("hd_adn_peyrache/hd-wake-dev.nwb", {"binned_counts", "behavior", "trials"}),
        ("myo_emg/person12345-1.nwb", {"emg", "trials"}),
        ("steinmetz_decision/session01.nwb", {"binned_counts", "trials"}),
        ("fly_heading_calcium/PEN1-EB-20160423-Fly1-1x-1.nwb", {"calcium", "behavior", "pulses"}),
        ("other/nwb_native/A8604-211122.nwb", {"spikes", "trials"}),
        ("other/nwb_native/sub-4_ses-4_ecephys+image.nwb", {"spikes", "trials"}),
    ],
)
def test_modalities_of_foreign_files(shared_data, file, modalities):
    card = suggest(shared_data / file, "x")
    assert {signal.modality for signal in card.signals.values()} == modalities


def test_sweeps_of_a_patch_clamp_are_inputs_and_cut_so_that_they_fit(shared_data):
    card = suggest(shared_data / "other/nwb_native/FergusonEtAl2015_PYR2.nwb", "x")
    assert {signal.modality for signal in card.signals.values()} == {"intracellular"}
    assert len(card.inputs) == len(card.signals) == 26  # 13 sweeps, each with its stimulus
    # Sweeps last 2 s, a tenth of which is for valid: a quarter of that is the guard.
    assert (card.windows.duration, card.windows.step, card.split.guard) == (0.15, 0.075, 0.05)


def test_gaze_is_an_input_only_where_there_is_nothing_else(shared_data):
    alone = suggest(shared_data / "other/eye_tracking/002_rlmw_samples_short.asc", "x")
    beside = suggest(shared_data / "mc_maze_trials/mc-maze-trial-748.nwb", "x")

    assert set(alone.inputs) == {"gaze", "pupil"}
    assert set(beside.inputs) == {"spikes"}
    assert beside.signals["eye_pos"].input is False


def test_sound_beside_spikes_is_an_input(shared_data):
    card = suggest(shared_data / "grasshopper_audio/receptor1.nwb", "x")

    assert {name: s.tokenized_by for name, s in card.inputs.items()} == {
        "sound_envelope": "audio",
        "spikes": "binned",
    }
    # 10 s: windows of 2 s would leave none for valid.
    assert (card.windows.duration, card.split.guard) == (0.75, 0.25)


def test_windows_hold_ten_samples_of_a_slow_signal(shared_data):
    card = suggest(shared_data / "mouse_openfield_calcium/mouse1004-day1-session1.nwb", "x")

    assert card.windows.duration == 10.0  # at 1 Hz


def test_one_trial_is_cut_into_windows_that_fit_in_the_part_for_valid(shared_data):
    card = suggest(shared_data / "mc_maze_trials/mc-maze-trial-748.nwb", "x")

    assert card.windows.within == "trials"
    assert card.windows.duration == 0.32  # of 3.236 s
