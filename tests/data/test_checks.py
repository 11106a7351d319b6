from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from faults import (
    CARD,
    SYNC,
    at,
    changed,
    clip,
    drifted,
    dropping,
    fast_pairs,
    faster,
    good,
    hum,
    jittered,
    said_of_unit,
    scaled,
    summary,
    value,
    with_nan,
)

from neurofmx.data.cards import CheckCard
from neurofmx.data.checks import CHECKS, checks_of, graded
from neurofmx.data.expectations import DOCS, KEYS, validate
from neurofmx.data.tables import COLUMNS, joined
from neurofmx.errors import UserError

NONE = np.zeros(0)
# Fault → the check that finds it, and it alone.
FAULTS = {
    "times_ascend": at("place", "times", 100, 0.0),
    "times_are_numbers": at("place", "times", 100, np.nan),
    "times_differ": at("place", "times", 100, 99 / 30.0),
    "nominal_rate": faster("lfp", 1.002),
    "dropped_frames": dropping("place"),
    "input_nan": with_nan("lfp", 0.05),
    "tracked_nan": with_nan("pose", 0.2),
    "other_nan": with_nan("place", 0.05),
    "not_empty": changed("place", values=np.zeros((0, 2)), times=NONE),
    "saturation": value("lfp", clip),
    "flat_channels": scaled("lfp", 3, 0.0),
    "dead_channels": scaled("lfp", 3, 0.01),
    "line_noise": value("lfp", hum(250.0, 60.0)),
    "active_unit": changed("counts", values=np.zeros((1200, 4), np.uint8)),
    "spikes_inside": at("spikes", "times", -1, 122.0),
    "unique_unit": changed("spikes", units=pd.DataFrame({"id": [7, 8, 8]})),
    "refractory": fast_pairs,
    "presence": drifted,
    "amplitude_cutoff": said_of_unit("amplitude_cutoff", 0.3),
    "file_isi_violations": said_of_unit("isi_violations", 0.8),
    "file_presence": said_of_unit("presence_ratio", 0.5),
    "ibl_score": said_of_unit("ibl_quality_score", 0.67),
    "start_before_stop": at("trials", "stop", 3, 29.0),
    "intervals_are_numbers": at("trials", "stop", 3, np.nan),
    "clock_fits": changed("camera_sync", times=np.arange(100.0) ** 1.1, index=np.zeros(100, int)),
    "drift": changed("camera_sync", times=SYNC * (1 - 200e-6)),
    "clock_residual": jittered,
    "clock_matched": changed("camera_sync", times=np.sort(np.r_[SYNC[::2], SYNC[::2] + 0.2])),
    "unique_recording": lambda recording: replace(recording, id="good"),
}


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    """What is found in one good recording and one recording for each fault, together."""
    folder = tmp_path_factory.mktemp("validate")
    parts = [summary(good())]
    parts += [summary(change(good(check)), check) for check, change in FAULTS.items()]
    checks = checks_of(CARD.checks)
    return folder, validate(graded(joined(parts), checks), checks, folder)


@pytest.mark.parametrize("check", FAULTS)
def test_each_fault_is_found_by_its_check_and_by_no_other(findings, check):
    found = [finding for finding in findings[1] if finding.recording == check]

    assert {finding.check for finding in found} == {check}
    assert {finding.severity for finding in found} == {CHECKS[check].severity}
    assert all(f"needed: {CHECKS[check].need}" in finding.reason for finding in found)


def test_a_good_recording_has_only_to_share_its_id(findings):
    assert {f.check for f in findings[1] if f.recording == "good"} == {"unique_recording"}


def test_every_check_was_seen_to_fail_here_or_in_a_test_of_its_own(findings):
    usual = {name for name in CHECKS if name.startswith("usual_rate_")}

    assert set(CHECKS) - usual - set(FAULTS) == {"good_units", "inspector", "inspector_metadata"}


def test_a_reason_says_what_it_was_and_what_was_needed(findings):
    reasons = {finding.check: finding.reason for finding in findings[1]}

    assert reasons["input_nan"].startswith("signal lfp: nan_fraction is 0.05; needed: at most 0.01")
    assert reasons["spikes_inside"].startswith("signal spikes, unit 9: n_outside is 1; needed: 0")
    assert reasons["unique_unit"].startswith("signal spikes, unit 8; needed: an id of its own")
    assert "n_flat is 1, flat_channels is 3" in reasons["flat_channels"]
    assert ", line is 60; needed" in reasons["line_noise"]
    assert reasons["drift"].startswith("clock camera: drift is 200; needed: between -150 and 150")
    assert "less than half fit one clock" in reasons["clock_fits"]


def test_data_docs_are_pages_that_name_each_check_and_its_need(findings):
    site = (findings[0] / DOCS).parent
    pages = [page.read_text() for page in site.glob("validations/**/*.html")]

    assert "<html" in (findings[0] / DOCS).read_text()
    assert len(pages) == len(KEYS)
    text = "".join(pages)
    for name in CHECKS:
        assert f"{name}: " in text, name
    assert "drift: drift; needed: between -150 and 150 ppm" in text
    assert str(findings[0]) not in text


def test_the_checks_name_columns_that_the_tables_have():
    for name, check in CHECKS.items():
        columns = check.settings.get("column_list") or [check.column]
        assert {*columns, *check.shown, *check.where} <= set(COLUMNS[check.table]), name


def test_good_units_are_those_that_no_check_of_theirs_objects_to():
    tables = joined([summary(fast_pairs(good("a"))), summary(drifted(good("b")))])
    silent = changed("spikes", index=np.zeros(900, int))(good("c"))
    none = replace(good("d"), signals={"lfp": good().signals["lfp"]})
    tables = joined([tables, summary(silent), summary(none)])

    def good_units(**cards):
        checks = checks_of({name: CheckCard(**card) for name, card in cards.items()})
        table = graded(tables, checks)["recordings"].set_index("recording")
        return table["n_good_units"].to_dict()

    counts = {"a": 2, "b": 2, "c": 1}
    assert good_units() == pytest.approx(counts | {"d": np.nan}, nan_ok=True)
    assert good_units(presence={"min": 0.4})["b"] == 3
    assert good_units(refractory={"severity": "off"})["a"] == 3


def test_a_card_moves_thresholds_and_severities_and_the_text_follows(tmp_path):
    checks = checks_of(
        {
            "input_nan": CheckCard(max=0.1),
            "saturation": CheckCard(severity="warning"),
            "good_units": CheckCard(min=4),
            "flat_channels": CheckCard(severity="off"),
        }
    )
    flat = scaled("lfp", 1, 0.0)(good("b"))
    parts = [summary(with_nan("lfp", 0.05)(good("a"))), summary(value("lfp", clip)(flat))]

    found = validate(graded(joined(parts), checks), checks, tmp_path)

    assert [(f.recording, f.check, f.severity) for f in found] == [
        ("a", "good_units", "critical"),
        ("b", "good_units", "critical"),
        ("b", "saturation", "warning"),
    ]
    reason = "n_good_units is 3; needed: at least 4 units that pass refractory"
    assert found[0].reason.startswith(reason)


def test_an_unknown_check_is_refused_with_the_choices():
    with pytest.raises(UserError, match=r"checks.saturaton .* did you mean 'saturation'\?"):
        checks_of({"saturaton": CheckCard(max=0.1)})
    with pytest.raises(UserError, match=r"checks.weather .* Choose from unique_recording, "):
        checks_of({"weather": CheckCard(max=0.1)})


def test_a_bound_that_a_check_has_not_is_refused():
    with pytest.raises(UserError, match=r"checks.presence.max of the card: this check has no max"):
        checks_of({"presence": CheckCard(max=0.5)})
    with pytest.raises(UserError, match=r"checks.unique_unit.min"):
        checks_of({"unique_unit": CheckCard(min=1)})
