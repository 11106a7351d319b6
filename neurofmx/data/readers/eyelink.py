"""Gaze and pupil from EyeLink recordings, as `edf2asc` writes them out in text.

A line is a sample (time, then x, y and pupil of each eye; `.` where the eye was lost) or begins
with what it is: `SAMPLES` (which eyes, in which unit), `MSG`, `INPUT`, `EBLINK`, `ESACC`, `EFIX`, …
Times are milliseconds of the tracker's clock, which the sample file and the event file of one
recording share; here they are seconds of that clock. Between the blocks of a recording samples
pause. (MNE needs samples, `START` and `END` in one file, and fills the pauses.)

Source: SR Research, EyeLink 1000 Plus User Manual, "ASC file format".
"""

import io
from array import array
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from neurofmx.data.readers.base import About
from neurofmx.data.readers.marks import guess_marks, read_marks
from neurofmx.data.readers.nwb_times import even_rate
from neurofmx.data.signal_cards import SignalCard
from neurofmx.data.sources.base import Location
from neurofmx.errors import DataError, UserError
from neurofmx.types import Samples, Signal

EYES = ("left", "right")
PARTS = {"gaze": ("x", "y"), "pupil": ("pupil",)}
UNITS = {"GAZE": "pixel", "HREF": "href", "PUPIL": "camera"}  # href: 15000 of them to the eye
FLAGS = set(".CIR")  # of the tracker at the end of a sample: five for two eyes, three for one
# First word of a line → path, and for what lasts the columns after eye, start, stop and duration.
LASTING: dict[str, tuple[str, tuple[str, ...]]] = {
    "EBLINK": ("blinks", ()),
    "EFIX": ("fixations", ("x", "y", "pupil")),
    "ESACC": (
        "saccades",
        ("start_x", "start_y", "stop_x", "stop_y", "amplitude_deg", "peak_velocity_deg_s"),
    ),
}
UNKNOWN = 2**32 - 1  # ms, the start of what began while its eye was lost
INSTANTS = {"MSG": "messages", "INPUT": "inputs", "BUTTON": "buttons"}


class Lines:
    """What the lines of a file say, by kind.

    Attributes:
        samples: Time (ms), then x, y and pupil of the left and of the right eye, sample by sample.
        eyes: Those whose samples are there.
        unit: Of positions.
        rows: Words of the other lines, by the first word.
        facts: What the header says as `KEY: value`; `notes` is the rest of it.
    """

    def __init__(self, lines: Iterable[str]):
        self.samples, self.eyes, self.unit = array("d"), set[str](), ""
        self.rows: dict[str, list[list[str]]] = defaultdict(list)
        self.facts: dict[str, str] = {}
        self.notes: list[str] = []
        self._tracked: tuple[str, ...] = ()
        for number, line in enumerate(lines, 1):
            try:
                self._add(line)
            except (ValueError, IndexError) as error:
                raise DataError(f"line {number}, {line.strip()!r}: {error}") from error

    def _add(self, line: str) -> None:
        words = line.split()
        if not words:
            return
        if line[0].isdigit():
            self._sample(words)
        elif words[0] in INSTANTS:
            float(words[1])  # a time, or the line is damaged
            self.rows[words[0]].append([words[1], " ".join(words[2:])])
        elif words[0] in LASTING:
            self._lasted(words)
        elif words[0] == "SAMPLES":
            self._declared(words)
        elif words[0] == "PUPIL":
            self.facts["pupil"] = words[1]  # AREA or DIAMETER
        elif words[0] == "**":
            self._noted(line[2:].strip())

    def _sample(self, words: list[str]) -> None:
        eyes = self._tracked or _told_by_flags(words)
        numbers = [_number(word) for word in words[: 1 + 3 * len(eyes)]]
        if len(numbers) < 1 + 3 * len(eyes):
            raise ValueError(f"is cut off: x, y and pupil are needed ({' and '.join(eyes)} eye)")
        lost = [np.nan] * 3
        left, right = (numbers[1:4] if "left" in eyes else lost), numbers[-3:]
        self.samples.extend((numbers[0], *left, *(right if "right" in eyes else lost)))
        self.eyes.update(eyes)

    def _lasted(self, words: list[str]) -> None:
        n = 5 + len(LASTING[words[0]][1])
        if len(words) < n or words[1] not in ("L", "R"):
            raise ValueError(f"an eye (L or R) and {n - 2} numbers are needed")
        start, stop, *_ = (_number(word) for word in words[2:n])
        if start == UNKNOWN:
            return
        if not start <= stop:
            raise ValueError("it stops before it starts")
        self.rows[words[0]].append(words[1:n])

    def _declared(self, words: list[str]) -> None:
        """Eyes and unit of the samples that follow."""
        unit = UNITS.get(words[1], words[1])
        if self.unit not in ("", unit):
            raise ValueError(f"positions so far are in {self.unit}; split the file here")
        self.unit, self._tracked = unit, tuple(eye for eye in EYES if eye.upper() in words)

    def _noted(self, text: str) -> None:
        key, colon, value = text.partition(": ")
        if colon and key.replace(" ", "").isupper():
            self.facts[key.lower().replace(" ", "_")] = value
        elif text:
            self.notes.append(text)


class EyeLink:
    """A file of samples, of events or of both, as `Contents`."""

    def __init__(self, lines: Lines):
        self._lines = lines
        self._samples = np.array(lines.samples).reshape(-1, 7)
        named = {key: path for key, (path, _) in LASTING.items()} | INSTANTS
        self._keys = {path: key for key, path in named.items() if key in lines.rows}
        self.kinds = (dict.fromkeys(PARTS, "SAMPLES") if len(self._samples) else {}) | self._keys
        self.about = About(notes="\n".join(lines.notes), provenance=dict(lines.facts))

    def guess(self, path: str) -> str | None:
        """Samples are of the eye; blinks, saccades and fixations last, messages do not."""
        if path not in self._keys:
            return "eye"
        start, stop, _, _ = self._marks(path)
        return guess_marks(start, stop)

    def read(self, path: str, card: SignalCard) -> Signal:
        """One signal; where an eye was lost, as in a blink, its values are NaN.

        Where no eye was seen the mask is false.

        Raises:
            DataError: It is not of the card's modality, or its times do not run forward.
        """
        if path in self._keys:
            return read_marks(*self._marks(path), card.modality, path)
        if card.modality in ("spikes", "trials", "pulses"):
            raise DataError(f"holds samples, which are no {card.modality}; mend the card")
        stamps = self._samples[:, 0]
        _check_forward(stamps)
        rate = even_rate(stamps)
        values, channels = self._values(path)
        seen = np.isfinite(values).any(axis=1)
        return Samples(
            values,
            (self._lines.unit or "pixel") if path == "gaze" else "1",
            rate=None if rate is None else 1000 * rate,
            t0=0.0 if rate is None else float(stamps[0] / 1000),
            times=stamps / 1000 if rate is None else None,
            mask=None if seen.all() else seen,
            channels=channels,
            modality=card.modality,
            source=path,
        )

    def close(self) -> None:
        """Nothing is open: the text was read at once."""

    def _values(self, path: str) -> tuple[Float[ndarray, "time channel"], pd.DataFrame]:
        """Positions or pupils of the eyes that were tracked, and a row for each column."""
        stored = [(eye, part) for eye in EYES for part in ("x", "y", "pupil")]
        places = [
            k
            for k, (eye, part) in enumerate(stored)
            if eye in self._lines.eyes and part in PARTS[path]
        ]
        values = self._samples[:, 1:][:, places].astype(np.float32)
        if path == "pupil":
            values[values == 0] = np.nan  # how a lost pupil is written
        rows = [(f"{eye}_{part}", eye) for eye, part in (stored[k] for k in places)]
        table = pd.DataFrame(rows, columns=["label", "eye"], dtype=object)
        table.insert(0, "id", np.arange(len(rows)))
        return values, table

    def _marks(self, path: str) -> tuple[ndarray, ndarray, pd.DataFrame, str]:
        """Start and stop (s), columns and label, as `read_marks` takes them."""
        key = self._keys[path]
        rows = self._lines.rows[key]
        if key in INSTANTS:
            times = np.array([float(time) / 1000 for time, _ in rows])
            said = pd.DataFrame({path.removesuffix("s"): [text for _, text in rows]}, dtype=object)
            return times, times, said, said.columns[0]
        start, lasts = (np.array([float(row[k]) / 1000 for row in rows]) for k in (1, 3))
        columns: dict[str, ndarray] = {
            "eye": np.array([EYES["LR".index(row[0])] for row in rows], object)
        }
        for k, name in enumerate(LASTING[key][1], 4):
            columns[name] = np.array([_number(row[k]) for row in rows])
        # The duration counts the last sample, which the stop leaves out.
        return start, start + lasts, pd.DataFrame(columns), "eye"


def open_eyelink(place: Location) -> EyeLink:
    """An EyeLink recording in text, here or on a server.

    Raises:
        UserError: There is no such file.
        DataError: A line cannot be read, or none is an EyeLink's.
    """
    if isinstance(place, Path) and not place.is_file():
        raise UserError(f"{place} is no file; give a recording that edf2asc wrote")
    raw = place.open("rb", buffering=0) if isinstance(place, Path) else place.open()
    with io.TextIOWrapper(io.BufferedReader(raw), "utf-8", errors="replace") as text:
        try:
            lines = Lines(text)
        except DataError as error:
            raise DataError(f"{place.name}: {error}") from error
    if not (lines.samples or lines.rows):
        raise DataError(f"{place.name}: holds no EyeLink sample or event; is it from edf2asc?")
    return EyeLink(lines)


def _number(word: str) -> float:
    return np.nan if word == "." else float(word)


def _told_by_flags(words: list[str]) -> tuple[str, ...]:
    """Eyes of a sample in a file without `SAMPLES` lines."""
    if len(words) == 8 and len(words[-1]) == 5 and set(words[-1]) <= FLAGS:
        return EYES
    raise ValueError(
        "no SAMPLES line says which eye this is of; keep the events when converting with edf2asc"
    )


def _check_forward(stamps: Float[ndarray, " time"]) -> None:
    wrong = np.flatnonzero(np.diff(stamps) <= 0)
    if len(wrong):
        k = wrong[0] + 1
        raise DataError(
            f"sample {k} is at {stamps[k]:g} ms, not after the {stamps[k - 1]:g} ms of the one "
            "before; above 1000 Hz convert with `edf2asc -ftime`, which writes fractions"
        )
