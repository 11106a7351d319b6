"""Files of the Neural Latents Benchmark, and what a plain reader makes of them."""

import numpy as np
import pytest
from dialects.base import stored
from dialects.nlb import nlb
from reads import TRIALS, UNITS, card_of, opened, read

from neurofmx.data.align import align


def test_held_out_units_can_be_kept_from_the_model(tmp_path, shared_data):
    train, test = nlb(tmp_path, shared_data)
    seen, unseen = UNITS | {"keep": {"heldout": [False]}}, UNITS | {"keep": {"heldout": [True]}}
    found = read([train], "nlb", seen=seen, unseen=unseen)

    assert found["unseen"].units["id"].tolist() == [3, 7, 11, 15, 19]
    assert len(found["seen"].units) == 15
    assert len(read([test], "nlb", seen=seen)["seen"].units) == 15


def test_spikes_outside_what_was_observed_are_left_out(tmp_path, shared_data):
    train, _ = nlb(tmp_path, shared_data)
    observed = {"path": "units/obs_intervals", "modality": "trials"}
    found = read([train], "nlb", spikes=UNITS, observed=observed)
    (first, second), times = found["observed"].start, found["spikes"].times

    assert second == pytest.approx(first + 1.5)
    between = (times >= first + 1.0) & (times < second)
    assert not between.any()
    plain = read([train], "plain", spikes=UNITS)["spikes"].times
    assert ((plain >= first + 1.0) & (plain < second)).sum() > 10


def test_gaps_of_nlb_behaviour_are_masked_on_the_common_clock(tmp_path, shared_data):
    train, _ = nlb(tmp_path, shared_data)
    hand = {"path": "processing/behavior/hand_vel", "modality": "behavior"}
    with opened(train, dialect="nlb", hand=hand, trials=TRIALS) as recording:
        aligned = align(recording, card_of("nlb", hand=hand, trials=TRIALS))
        velocity = aligned.signals["hand"]
        values, mask, clock = velocity.values[:], velocity.mask, velocity.clock

    assert (velocity.rate, velocity.unit) == (pytest.approx(1000.0), "m")
    assert (~mask).sum() == 500  # the half second between the trials
    assert mask.sum() == 2000
    source = shared_data / "mc_maze_trials" / "mc-maze-trial-748.nwb"
    raw = stored(source, "processing/behavior/hand_vel/data")
    np.testing.assert_allclose(values[mask][:1000], 1e-3 * raw[:1000], rtol=1e-6)
    assert clock[mask][1000] - clock[0] == pytest.approx(1.5)
    assert velocity.channels["name"].tolist() == ["x", "y"]
    assert recording.signals["trials"].columns["split"].tolist() == ["train", "val"]


def test_a_test_file_has_no_behaviour(tmp_path, shared_data):
    _, test = nlb(tmp_path, shared_data)
    hand = {"path": "processing/behavior/hand_vel", "modality": "behavior", "optional": True}
    assert list(read([test], "nlb", spikes=UNITS, hand=hand)) == ["spikes"]
