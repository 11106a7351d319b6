"""What a recording must satisfy: thresholds on columns of the summary tables.

Each row of `CHECKS` is one expectation. A row of a table that breaks a critical check puts its
recording in quarantine; one that breaks a warning is listed. A card's `checks` changes thresholds
and severities for its data set. Defaults are the gates that labs publish: refractory violations
and amplitude cutoff as in Allen's and SpikeInterface's, drift as in ibllib's.
"""

from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np

from neurofmx.data.cards import CheckCard
from neurofmx.data.tables import Tables
from neurofmx.errors import UserError
from neurofmx.modalities import MODALITIES


@dataclass(frozen=True)
class Check:
    """One expectation.

    Attributes:
        table: Summary table that it looks at.
        column: Of the table.
        severity: `critical` quarantines the recording, `warning` is only listed.
        needed: What the value has to be, with `{min}` and `{max}`, and what to do where it is not.
        min, max: Bounds, inclusive; NaN passes.
        where: Only rows that hold these values are looked at.
        shown: Columns that tell more about a row that was found.
        expectation: Class in `great_expectations.expectations`, where it is not about bounds.
        settings: Its arguments.
    """

    table: str
    column: str
    severity: Literal["critical", "warning"]
    needed: str
    min: float | None = None
    max: float | None = None
    where: dict[str, str] = field(default_factory=dict)
    shown: tuple[str, ...] = ()
    expectation: str = "ExpectColumnValuesToBeBetween"
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def need(self) -> str:
        """`needed` with the bounds in it."""
        bounds = {"min": self.min, "max": self.max}
        return self.needed.format(**{k: f"{v:g}" for k, v in bounds.items() if v is not None})


CHECKS: dict[str, Check] = {
    "unique_recording": Check(
        "recordings", "id", "critical", "an id of its own; rename one of the source files",
        expectation="ExpectColumnValuesToBeUnique", settings={"column": "id"},
    ),
    "good_units": Check(
        "recordings", "n_good_units", "critical",
        "at least {min} units that pass refractory, presence and amplitude_cutoff; look at the "
        "sorting, or set checks.good_units.min in the card",
        min=1.0,
    ),
    "unique_unit": Check(
        "units", "unit", "critical",
        "an id of its own for every unit; renumber `units.id` in the source",
        expectation="ExpectCompoundColumnsToBeUnique",
        settings={"column_list": ["recording", "signal", "unit"]},
    ),
    "spikes_inside": Check(
        "units", "n_outside", "critical",
        "{max} spikes outside the recording; check that spike times are in seconds on its clock",
        max=0.0,
    ),
    "refractory": Check(
        "units", "isi_violations", "warning",
        "at most {max} times the unit's rate within 1.5 ms; it may be several neurons",
        max=0.5,
    ),
    "presence": Check(
        "units", "presence", "warning",
        "spikes in at least {min} of the minutes; the unit may have drifted away", min=0.9,
    ),
    "amplitude_cutoff": Check(
        "units", "amplitude_cutoff", "warning",
        "at most {max} spikes below the detection threshold per spike above it; leave the unit out "
        "with `keep`",
        max=0.1,
    ),
    "file_isi_violations": Check(
        "units", "file_isi_violations", "warning",
        "at most {max} by the file's own figure; leave the unit out with `keep`", max=0.5,
    ),
    "file_presence": Check(
        "units", "file_presence", "warning",
        "at least {min} by the file's own figure; leave the unit out with `keep`", min=0.95,
    ),
    "ibl_score": Check(
        "units", "ibl_score", "warning",
        "{min}, which passes all of IBL's criteria; leave the unit out with `keep`", min=1.0,
    ),
    "not_empty": Check(
        "streams", "n", "critical",
        "at least {min}; take the signal out of the card or fetch the file again",
        min=1.0, where={"kind": "samples"},
    ),
    "active_unit": Check(
        "streams", "n_active", "critical",
        "at least {min} unit with a spike; check the sorting's output", min=1.0,
    ),
    "times_are_numbers": Check(
        "streams", "n_nan_times", "critical", "{max}; every sample and event needs a time", max=0.0,
    ),
    "times_ascend": Check(
        "streams", "n_backwards", "critical",
        "{max}; a clock was reset or blocks are out of order: mend the times in the source",
        max=0.0,
    ),
    "times_differ": Check(
        "streams", "n_repeated", "warning",
        "{max}; of samples with one time align keeps the first", max=0.0,
    ),
    "nominal_rate": Check(
        "streams", "rate_error", "critical",
        "a rate within {max} of the nominal one; mend the times, or `nominal` in the card",
        max=1e-3,
    ),
    "dropped_frames": Check(
        "streams", "dropped", "warning",
        "at most {max} of frames dropped; align masks them where they leave a gap", max=0.01,
    ),
    "input_nan": Check(
        "streams", "nan_fraction", "critical",
        "at most {max}; repair the channels that are NaN or leave them out with `keep`",
        max=0.01, where={"role": "input"},
    ),
    "tracked_nan": Check(
        "streams", "nan_fraction", "warning",
        "at most {max} of coordinates lost, by blinks or hidden limbs; align masks them",
        max=0.1, where={"role": "tracked"},
    ),
    "other_nan": Check(
        "streams", "nan_fraction", "warning",
        "at most {max}; align masks these samples", max=0.01, where={"role": "other"},
    ),
    "saturation": Check(
        "streams", "saturation", "critical",
        "at most {max} of samples stuck at their channel's extreme; check the gain, or leave "
        "clipped channels out with `keep`",
        max=1e-3,
    ),
    "flat_channels": Check(
        "streams", "n_flat", "warning",
        "{max} channels that never change; leave them out with `keep`",
        max=0.0, shown=("flat_channels",),
    ),
    "dead_channels": Check(
        "streams", "n_dead", "warning",
        "{max} channels with a thousandth of the others' power; leave them out with `keep`",
        max=0.0, shown=("dead_channels",),
    ),
    "line_noise": Check(
        "streams", "line_noise", "warning",
        "at most {max} dB over neighbouring frequencies; check grounding, or filter the source",
        max=10.0, shown=("line",),
    ),
    "intervals_are_numbers": Check(
        "trials", "n_nan", "critical", "{max}; every interval needs a start and a stop", max=0.0,
    ),
    "start_before_stop": Check(
        "trials", "n_reversed", "critical",
        "{max} intervals that stop before or where they start; mend them in the source", max=0.0,
    ),
    "clock_fits": Check(
        "alignment", "n_events", "critical",
        "at least {min} shared events; check that both signals saw the same pulses",
        min=3.0, shown=("problem",),
    ),
    "drift": Check(
        "alignment", "drift", "critical",
        "between {min} and {max} ppm; more is a wrong rate or clock, not quartz",
        min=-150.0, max=150.0,
    ),
    "clock_residual": Check(
        "alignment", "residual", "warning",
        "at most {max} s between shared events after the fit; look for missed or extra pulses",
        max=1e-3,
    ),
    "clock_matched": Check(
        "alignment", "matched", "warning",
        "at least {min} of the pulses seen by both; one of the signals lost some", min=0.9,
    ),
    "inspector": Check(
        "inspector", "level", "critical",
        "no critical message of nwbinspector about structure; mend the file",
        expectation="ExpectColumnValuesToNotBeInSet",
        settings={"column": "level", "value_set": ["blocking"]},
    ),
    "inspector_metadata": Check(
        "inspector", "level", "warning", "nothing here, though archives ask for it",
        expectation="ExpectColumnValuesToNotBeInSet",
        settings={"column": "level", "value_set": ["serious"]},
    ),
} | {
    f"usual_rate_{name}": Check(
        "streams", "rate", "warning", "a rate of {min} to {max} Hz; check the source's times",
        min=modality.rates[0], max=modality.rates[1],
        where={"kind": "samples", "modality": name},
    )
    for name, modality in MODALITIES.items()
    if modality.rates[1] > 0
}  # fmt: skip

GOOD = ("refractory", "presence", "amplitude_cutoff")


def checks_of(changes: dict[str, CheckCard]) -> dict[str, Check]:
    """`CHECKS` as a card changes them.

    Raises:
        UserError: There is no such check, or it has no bound to change.
    """
    for name in changes:
        if name not in CHECKS:
            close = get_close_matches(name, CHECKS, n=1)
            meant = f"; did you mean {close[0]!r}?" if close else "."
            raise UserError(
                f"checks.{name} of the card: there is no such check{meant} "
                f"Choose from {', '.join(CHECKS)}"
            )
    changed = {
        name: _changed(name, check, changes[name]) if name in changes else check
        for name, check in CHECKS.items()
    }
    off = {name for name, change in changes.items() if change.severity == "off"}
    return {name: check for name, check in changed.items() if name not in off}


def _changed(name: str, check: Check, change: CheckCard) -> Check:
    bounds = {k: v for k, v in (("min", change.min), ("max", change.max)) if v is not None}
    for bound in bounds:
        if getattr(check, bound) is None:
            raise UserError(
                f"checks.{name}.{bound} of the card: this check has no {bound}. It needs "
                f"{check.need}"
            )
    severity = check.severity
    if change.severity is not None and change.severity != "off":
        severity = change.severity
    return replace(
        check,
        min=bounds.get("min", check.min),
        max=bounds.get("max", check.max),
        severity=severity,
    )


def graded(tables: Tables, checks: dict[str, Check]) -> Tables:
    """The tables with the number of good units, of recordings that have units with spike times."""
    units, recordings = tables["units"], tables["recordings"]
    good = units["n_spikes"] > 0
    for check in (checks[name] for name in GOOD if name in checks):
        low, high = (np.nan if bound is None else bound for bound in (check.min, check.max))
        good &= ~(units[check.column] < low) & ~(units[check.column] > high)
    number = good.groupby(units["recording"]).sum()
    counts = recordings["recording"].map(number).astype(float)
    return tables | {"recordings": recordings.assign(n_good_units=counts)}
