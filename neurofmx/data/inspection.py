"""What nwbinspector says about source files, and which of it stops a recording."""

import warnings
from pathlib import Path
from typing import Any

# Messages about metadata that an archive wants and no model reads: never a reason to stop.
METADATA = {
    "check_name_slashes",
    "check_session_start_time_future_date",
    "check_subject_age",
    "check_subject_exists",
    "check_subject_id_exists",
    "check_subject_sex",
    "check_subject_weight",
    "check_units_table_has_spikes",  # binned counts; spikes that are asked for have their own check
}


def inspector_rows(source: Path) -> list[dict[str, str]]:
    """The messages about a file, sorted; nothing in them depends on where the file lies."""
    from nwbinspector import inspect_nwbfile  # takes seconds to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of reading the file; what matters becomes a message
        found = list(inspect_nwbfile(nwbfile_path=source))
    rows = [_row(message, source) for message in found]
    return sorted(rows, key=lambda row: tuple(row.values()))


def _row(message: Any, source: Path) -> dict[str, str]:
    check, text = message.check_function_name, message.message.replace(str(source), source.name)
    if message.importance.name == "ERROR":  # the text is a traceback
        check, text = "read", text.strip().splitlines()[-1]
    return {
        "file": source.name,
        "check": check,
        "level": _level(message.importance.name, check),
        "location": message.location or message.object_name or "",
        "message": text,
    }


def _level(importance: str, check: str) -> str:
    """Whether a message stops a recording: structure that CRITICAL checks or reading finds wrong.

    Deviations from the schema alone are common in published files that read well.
    """
    if importance == "ERROR" or (importance == "CRITICAL" and check not in METADATA):
        return "blocking"
    return "serious" if importance in ("CRITICAL", "PYNWB_VALIDATION") else "advice"
